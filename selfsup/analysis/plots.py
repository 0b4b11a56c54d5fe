"""Figures of runs. Each function takes records and returns a matplotlib figure; `save` writes it.

The colours suit colour-blind readers: Okabe and Ito's palette for runs, viridis for epochs.
"""

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

from selfsup import collapse
from selfsup.records.recordings import Eigenspaces
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
ROUNDING = 1e-7
"""Eigenvalues below this share of the largest are rounding errors of float32."""
EXPLODED = 5.0
"""Eigenvalues of W_p above this get a logarithmic axis, so that the others stay visible."""


def eigenspaces(runs: Mapping[str, Eigenspaces]) -> Figure:
    """Draws the eigenspaces of F and W_p during training, with one row per run (report Figures 2 to 4).

    The four panels of a row show the eigenvalues of F, the eigenvalues of W_p and the alignment, each over
    the index in descending order with one line per recording, and the asymmetry of W_p over the epochs.

    Args:
        runs: recordings by title, in the order of the rows. Rows share their axes.

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
        axes = figure.subplots(len(runs), 4, squeeze=False, sharex="col", sharey="col")
        for row, (title, run) in zip(axes, runs.items(), strict=True):
            row[0].annotate(
                title, (0, 0.5), (-40, 0), "axes fraction", "offset points",
                rotation=90, va="center", ha="right", weight="bold",
            )  # fmt: skip
            _draw_eigenspaces(row, run, norm)
        _scale_eigenvalues(axes[0], list(runs.values()))
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
    spectra = (run.correlation_eigenvalues, run.predictor_eigenvalues, run.alignment)
    for ax, values in zip(row, spectra, strict=False):
        for epoch, line in zip(run.epoch, values, strict=True):
            if epoch > 0 and np.isfinite(line).all():
                ax.plot(np.arange(len(line)), line[::-1], color=EPOCHS(norm(epoch)), label=f"epoch {epoch}")
    row[2].set_ylim(-1.05, 1.05)
    row[3].plot(run.epoch, run.asymmetry, color="0.6", zorder=1)
    row[3].scatter(run.epoch, run.asymmetry, c=EPOCHS(norm(run.epoch)), s=16, zorder=2)
    row[3].set_ylim(bottom=-0.05)
    row[3].xaxis.set_major_locator(_whole_numbers())


def _scale_eigenvalues(axes: Sequence[Axes], runs: Sequence[Eigenspaces]) -> None:
    """Sets a logarithmic axis for F and a linear one for W_p; symlog for F near 0 or a very large W_p."""
    of_f, of_w = (
        np.concatenate([getattr(run, f"{which}_eigenvalues").ravel() for run in runs])
        for which in ("correlation", "predictor")
    )
    of_f, of_w = of_f[np.isfinite(of_f)], of_w[np.isfinite(of_w)]
    if len(of_f) and of_f.min() > ROUNDING * of_f.max():
        axes[0].set_yscale("log")
    elif len(of_f) and of_f.max() > 0:
        lowest = int(np.ceil(np.log10(ROUNDING * of_f.max())))
        axes[0].set_yscale("symlog", linthresh=10.0**lowest, linscale=0.5)
        powers = range(lowest, lowest + int(-np.log10(ROUNDING)) + 1, 2)
        axes[0].set_yticks([0.0, *(10.0**k for k in powers)], ["0", *(f"$10^{{{k}}}$" for k in powers)])
        axes[0].yaxis.minorticks_off()
    if len(of_w) and np.abs(of_w).max() > EXPLODED:
        axes[1].set_yscale("symlog", linthresh=1.0, linscale=2.0)
        ticks = [-1.0, -0.5, 0.0, 0.5, *10.0 ** np.arange(np.ceil(np.log10(np.abs(of_w).max())) + 1)]
        axes[1].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes[1].yaxis.minorticks_off()


def training_curves(runs: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draws loss, embedding std, effective rank and asymmetry over the epochs, one line per run.

    Dotted lines mark the thresholds of `selfsup.collapse`. The effective rank is its mean over each epoch.

    Args:
        runs: columns of `log.csv` by title, see `recordings.read_log`.
    """
    panels = {
        "loss": ("loss", None),
        "embedding_std": ("embedding std", collapse.STD),
        "effective_rank": ("effective rank of $F$", collapse.RANK),
        "asymmetry": ("asymmetry of $W_p$", None),
    }
    columns = max(1, min(4, int(10 / (0.6 + 0.08 * max(map(len, runs))))))  # inches, so that names fit
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 2.6 + 0.25 * (len(runs) // columns)), layout="constrained")
        axes = figure.subplots(1, 4)
        for ax, (name, (title, threshold)) in zip(axes, panels.items(), strict=True):
            for index, (run, log) in enumerate(runs.items()):
                color, line = PALETTE[index % len(PALETTE)], LINES[index // len(PALETTE) % len(LINES)]
                ax.plot(
                    log["epoch"], log[name], line,
                    color=color, label=run, marker="o" if len(log["epoch"]) < 30 else "", markersize=3,
                )  # fmt: skip
            if threshold is not None:
                ax.axhline(threshold, color="0.4", linestyle=":", label="collapsed below")
            ax.set_title(title)
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(_whole_numbers())
        for ax in axes[1:]:
            ax.update_datalim([(1, 0)])  # keeps a margin above almost flat lines
            ax.autoscale_view()
            ax.set_ylim(bottom=0)
        axes[3].set_ylim(top=max(0.1, *axes[3].get_ylim()))
        lines, labels = axes[1].get_legend_handles_labels()
        shown = slice(None) if len(runs) > 1 else slice(-1, None)
        figure.legend(lines[shown], labels[shown], loc="outside lower center", ncols=columns)
    return figure


def _whole_numbers() -> MaxNLocator:
    """Returns a locator that puts ticks at whole epochs."""
    return MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True)


def save(figure: Figure, path: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Writes a figure to `path` plus the suffix of each format ("png", "svg"), and returns the paths.

    The same figure gives the same bytes.
    """
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    written = []
    with matplotlib.rc_context(STYLE):
        for suffix in formats:
            target = path.with_name(f"{path.name}.{suffix}")
            with replacing(target, "wb") as file:
                figure.savefig(file, format=suffix, metadata=metadata[suffix])
            written.append(target)
    return written
