"""Figures of runs. Each function takes records and returns a matplotlib figure; `save` writes it.

The colours suit colour-blind readers: Okabe and Ito's palette for runs, viridis for epochs.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from selfsup import collapse
from selfsup.records.recordings import EVALUATED, Eigenspaces
from selfsup.utils.files import replacing

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.")
EPOCHS = LinearSegmentedColormap.from_list(
    "epochs", matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256))
)
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.hashsalt": "selfsup",
}
SPREAD = 8.0
"""If the largest eigenvalue of W_p exceeds the usual size by this factor, its axis is partly logarithmic."""

ROUND_NUMBERS = np.array([digit * 10.0**power for power in range(-12, 13) for digit in (1, 2, 5)])
PANELS = {
    "loss": ("loss", None),
    "embedding_std": ("embedding std", collapse.STD),
    "effective_rank": ("effective rank of $F$", collapse.RANK),
    "asymmetry": ("asymmetry of $W_p$", None),
    "online_linear": ("online probe", None),
    "knn": ("k-NN (%)", None),
    "rankme": ("RankMe", None),
    "lidar": ("LiDAR", None),
    "view_alignment": ("distance of views", None),
    "uniformity": ("uniformity", None),
}
"""Titles and thresholds of the columns of `log.csv`."""


def eigenspaces(runs: Mapping[str, Eigenspaces]) -> Figure:
    """Draws the eigenspaces of F and W_p during training, with one row per run (paper, Figures 2 to 4).

    The four panels of a row show the eigenvalues of F, the eigenvalues of W_p and the alignment, each over
    the index in descending order with one line per recording, and the asymmetry of W_p over the epochs.

    Args:
        runs: recordings by title, in the order of the rows. Each row has its own axes of eigenvalues; all
            rows share those of alignment and asymmetry. Eigenvalues of F that are rounding errors in their
            recording are drawn as 0.

    Example:
        >>> untrained = Eigenspaces.measure(0, np.eye(4))
        >>> epoch1 = Eigenspaces.measure(1, np.eye(4), np.diag([1.0, 2.0, 3.0, 4.0]))
        >>> eigenspaces({"directpred": untrained + epoch1}).axes[0].get_title()
        'eigenvalues of $F$'
    """
    last = max(int(run.epoch[-1]) for run in runs.values())
    norm = Normalize(1, max(last, 2))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 0.5 + 2.3 * len(runs)), layout="constrained")
        axes = figure.subplots(len(runs), 4, squeeze=False, sharex="col")
        for ax in axes[1:, 3]:
            ax.sharey(axes[0, 3])
        for row, (title, run) in zip(axes, runs.items(), strict=True):
            row[0].annotate(
                title, (0, 0.5), (-40, 0), "axes fraction", "offset points",
                rotation=90, va="center", ha="right", weight="bold",
            )  # fmt: skip
            _draw_eigenspaces(row, run, norm)
        axes[0, 3].set_ylim(bottom=-0.05)
        titles = ("eigenvalues of $F$", "eigenvalues of $W_p$", "alignment", "asymmetry of $W_p$")
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title)
        for ax, label in zip(axes[-1], ("sorted eigenvalue index",) * 3 + ("epoch",), strict=True):
            ax.set_xlabel(label)
        bar = figure.colorbar(ScalarMappable(norm, EPOCHS), ax=axes, fraction=0.02, pad=0.01)
        bar.set_label("epoch")
        bar.locator = _whole_numbers()
        bar.update_ticks()
    return figure


def _draw_eigenspaces(row: Sequence[Axes], run: Eigenspaces, norm: Normalize) -> None:
    of_f, of_w = _without_rounding(run.correlation_eigenvalues), run.predictor_eigenvalues
    trained = run.epoch > 0
    for ax, values in zip(row, (of_f, of_w, run.alignment), strict=False):
        for epoch, line in zip(run.epoch[trained], values[trained], strict=True):
            if np.isfinite(line).all():
                ax.plot(np.arange(len(line)), line[::-1], color=EPOCHS(norm(epoch)), label=f"epoch {epoch}")
    for ax, values, scale in ((row[0], of_f, _scale_f), (row[1], of_w, _scale_w)):
        drawn = values[trained & np.isfinite(values).all(axis=1)]
        if drawn.any():
            scale(ax, drawn)
    row[2].set_ylim(-1.05, 1.05)
    row[3].plot(run.epoch, run.asymmetry, color="0.6", zorder=1)
    row[3].scatter(run.epoch, run.asymmetry, c=EPOCHS(norm(run.epoch)), s=16, zorder=2)
    row[3].xaxis.set_major_locator(_whole_numbers())


def _without_rounding(eigenvalues: np.ndarray) -> np.ndarray:
    """Sets rounding errors among the eigenvalues of F, [R, D], to 0.

    F has no negative eigenvalues: the most negative one of a recording shows the error of all of them.
    """
    error = np.maximum(-eigenvalues.min(axis=1, keepdims=True), 0)
    return np.where(eigenvalues <= error, 0, eigenvalues)


def _scale_f(ax: Axes, eigenvalues: np.ndarray) -> None:
    """Sets a logarithmic axis; if there are zeros, with a linear part below all other values."""
    positive = eigenvalues[eigenvalues > 0]
    if len(positive) == eigenvalues.size:
        ax.set_yscale("log")
        return
    low, high = int(np.floor(np.log10(positive.min()))), int(np.ceil(np.log10(positive.max())))
    ax.set_yscale("symlog", linthresh=10.0**low, linscale=0.5)
    powers = range(low, high + 1, max(1, (high - low + 3) // 4))
    ax.set_yticks([0.0, *(10.0**k for k in powers)], ["0", *(f"$10^{{{k}}}$" for k in powers)])
    ax.yaxis.minorticks_off()


def _scale_w(ax: Axes, eigenvalues: np.ndarray) -> None:
    """Keeps a linear axis unless some recording would be flat beside the largest eigenvalue.

    Then the linear part ends where nine tenths of the eigenvalues of the recording with the smallest ones
    lie below, and the axis is logarithmic outside, over at most three powers of ten.
    """
    sizes = np.abs(eigenvalues)
    usual = np.quantile(sizes, 0.9, axis=1).min()
    if sizes.max() <= SPREAD * usual:
        return
    linear = max(usual, sizes.max() / 1e3)
    inner = ROUND_NUMBERS[np.searchsorted(ROUND_NUMBERS, linear, side="right") - 1]
    outer = ROUND_NUMBERS if sizes.max() < 50 * linear else ROUND_NUMBERS[::3]
    ticks = [inner / 2, inner, *outer[(outer > inner) & (outer <= sizes.max())]]
    ticks = [-tick for tick in ticks if tick <= -eigenvalues.min()] + [0.0, *ticks]
    ax.set_yscale("symlog", linthresh=linear, linscale=1.5)
    ax.set_yticks(ticks, [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    ax.yaxis.minorticks_off()


def training_curves(runs: Mapping[str, Mapping[str, np.ndarray]], evaluated: bool = False) -> Figure:
    """Draws loss, embedding std, effective rank and asymmetry over the epochs, one line per run.

    Dotted lines mark the thresholds of `selfsup.collapse`. The effective rank is its mean over each epoch.

    Args:
        runs: columns of `log.csv` by title, see `recordings.read_log`.
        evaluated: whether a second row shows the evaluations while training, if there are any.
    """
    rows: list[list[tuple[str, ...]]] = [[("loss",), ("embedding_std",), ("effective_rank",), ("asymmetry",)]]
    if evaluated and any(np.isfinite(log["rankme"]).any() for log in runs.values()):
        rows.append([("online_linear", "knn"), ("rankme", "lidar"), ("view_alignment",), ("uniformity",)])
    columns = max(1, min(4, int(10 / (0.6 + 0.08 * max(map(len, runs))))))  # inches, so that names fit
    height = 2.6 * len(rows) + 0.25 * (len(runs) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, height), layout="constrained")
        axes = figure.subplots(len(rows), 4, squeeze=False)
        for panels, row in zip(rows, axes, strict=True):
            for names, ax in zip(panels, row, strict=True):
                _curves(ax, names, runs)
        for ax in axes.flat[1:]:
            if ax is not axes[-1, 3] or len(rows) == 1:  # uniformity is negative
                ax.update_datalim([(1, 0)])  # keeps a margin above almost flat lines
                ax.autoscale_view()
                ax.set_ylim(bottom=0)
        axes[0, 3].set_ylim(top=max(0.1, *axes[0, 3].get_ylim()))
        lines, labels = axes[0, 1].get_legend_handles_labels()
        shown = slice(None) if len(runs) > 1 else slice(-1, None)
        figure.legend(lines[shown], labels[shown], loc="outside lower center", ncols=columns)
    return figure


def _curves(ax: Axes, names: Sequence[str], runs: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Draws columns of logs into one panel: the first with solid lines, another with dashed ones."""
    threshold = PANELS[names[0]][1]
    for index, (run, log) in enumerate(runs.items()):
        color, line = PALETTE[index % len(PALETTE)], LINES[index // len(PALETTE) % len(LINES)]
        for name in names:
            known = np.isfinite(log[name]) if name in EVALUATED else slice(None)
            epochs = log["epoch"][known]
            ax.plot(
                epochs, log[name][known], line if name == names[0] else "--",
                color=color, label=run, marker="o" if len(epochs) < 30 else "", markersize=3,
            )  # fmt: skip
    if threshold is not None:
        ax.axhline(threshold, color="0.4", linestyle=":", label="collapsed below")
    ax.set_title(", dashed: ".join(PANELS[name][0] for name in names))
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(_whole_numbers())


def _whole_numbers() -> MaxNLocator:
    """Returns a locator that puts ticks at whole epochs."""
    return MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True)


def save(figure: Figure, path: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Writes a figure to `path` plus the suffix of each format ("png", "svg"), and returns the paths.

    The same figure gives the same bytes.
    """
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    smaller = {"svg": _rounded, "png": bytes if any(axes.images for axes in figure.axes) else _few_colours}
    written = []
    with matplotlib.rc_context(STYLE):
        for suffix in formats:
            target = path.with_name(f"{path.name}.{suffix}")
            content = io.BytesIO()
            figure.savefig(content, format=suffix, metadata=metadata[suffix])
            with replacing(target, "wb") as file:
                file.write(smaller[suffix](content.getvalue()))
            written.append(target)
    return written


def _rounded(svg: bytes) -> bytes:
    """Cuts coordinates to tenths of a point, which halves the size of a file with many lines."""
    return re.sub(rb' (?:d|x|y)="[^"]*"', lambda found: re.sub(rb"(\.\d)\d+", rb"\1", found[0]), svg)


def _few_colours(png: bytes) -> bytes:
    """Reduces a PNG to 256 colours, enough for lines, which makes the file a third as large."""
    image, reduced = Image.open(io.BytesIO(png)), io.BytesIO()
    palette = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    palette.save(reduced, "PNG", optimize=True, dpi=image.info["dpi"])
    return reduced.getvalue()
