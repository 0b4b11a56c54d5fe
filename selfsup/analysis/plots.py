"""Figures of runs. Every function takes records and returns a matplotlib figure; `save` writes it.

Colours are told apart by colour-blind readers: Okabe and Ito's for runs, viridis for epochs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from selfsup import collapse
from selfsup.records.recordings import Eigenspaces
from selfsup.reproduction.tables import Cell
from selfsup.utils.files import replacing

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.")
EPOCHS = LinearSegmentedColormap.from_list(
    "epochs", matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256))
)
STYLE = {
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
"""Of float32: eigenvalues this far below the largest are noise around 0."""
EXPLODED = 5.0
"""Eigenvalues of W_p above this would flatten all others on a linear axis."""


def eigenspaces(runs: Mapping[str, Eigenspaces]) -> Figure:
    """The report's Figures 2 to 4: the eigenspaces of F and W_p over a training, a row per run.

    The four panels of a row: eigenvalues of F, of W_p, the alignment of W_p with F's eigenvectors, each
    over the index in descending order of eigenvalues, and the asymmetry of W_p over the epochs.

    Args:
        runs: recordings by title, in the order of the rows; rows share their axes.
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
        _scale_eigenvalues(axes[0], runs.values())
        titles = ("eigenvalues of $F$", "eigenvalues of $W_p$", "alignment", "asymmetry of $W_p$")
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title)
        for ax, label in zip(axes[-1], ("sorted eigenvalue index",) * 3 + ("epoch",), strict=True):
            ax.set_xlabel(label)
        bar = figure.colorbar(ScalarMappable(norm, EPOCHS), ax=axes, fraction=0.02, pad=0.01)
        bar.set_label("epoch")
        bar.locator.set_params(integer=True)
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
    row[3].xaxis.get_major_locator().set_params(integer=True)


def _scale_eigenvalues(axes: Sequence[Axes], runs: Sequence[Eigenspaces]) -> None:
    """Logarithmic for F, linear for W_p; symlog where F's reach 0 or W_p's explode."""
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
    """Loss, embedding std, effective rank and asymmetry over the epochs; thresholds of the collapse rule.

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
            ax.xaxis.get_major_locator().set_params(integer=True)
        for ax in axes[1:]:
            ax.update_datalim([(1, 0)])  # for a margin above lines that are almost flat
            ax.autoscale_view()
            ax.set_ylim(bottom=0)
        axes[3].set_ylim(top=max(0.1, *axes[3].get_ylim()))
        lines, labels = axes[1].get_legend_handles_labels()
        shown = slice(None) if len(runs) > 1 else slice(-1, None)
        figure.legend(lines[shown], labels[shown], loc="outside lower center", ncols=columns)
    return figure


def accuracy_bars(groups: Mapping[str, Sequence[Cell]], bars: Sequence[str]) -> Figure:
    """The report's Figure 5: a group of bars per method, with its published values as open circles.

    Args:
        groups: the cells of each group, one per bar; those without a run show the published value alone.
        bars: what the bars of a group are, for the legend.
    """
    width = 0.8 / len(bars)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        ax = figure.subplots()
        for index, bar in enumerate(bars):
            cells = [group[index] for group in groups.values()]
            x = np.arange(len(cells)) + (index - (len(bars) - 1) / 2) * width
            means = [np.nan if cell.mean is None else cell.mean for cell in cells]
            errors = [np.nan if cell.std is None else cell.std for cell in cells]
            ax.bar(x, means, 0.92 * width, yerr=errors, capsize=4, color=PALETTE[index], label=bar, zorder=2)
            published = [np.nan if cell.published is None else cell.published for cell in cells]
            label = "published" if index == 0 else None
            ax.plot(x, published, "o", color="black", markerfacecolor="white", label=label, zorder=3)
        ax.set_xticks(range(len(groups)), list(groups))
        ax.set_ylabel("test accuracy, %")
        ax.grid(axis="x", visible=False)
        ax.set_ylim(0, 100)
        figure.legend(loc="outside right upper")
    return figure


def accuracy_dots(cells: Sequence[Cell]) -> Figure:
    """Published accuracy (open) and ours (filled, with its standard deviation) on a line per experiment."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.0 + 0.24 * len(cells)), layout="constrained")
        ax = figure.subplots()
        y = np.arange(len(cells))[::-1]
        published = np.array([np.nan if cell.published is None else cell.published for cell in cells])
        ours = np.array([np.nan if cell.mean is None else cell.mean for cell in cells])
        errors = np.array([np.nan if cell.std is None else cell.std for cell in cells])
        ax.hlines(y, published, ours, color="0.75", zorder=1)
        ax.plot(published, y, "o", color="black", markerfacecolor="white", label="published", zorder=2)
        ax.errorbar(ours, y, xerr=errors, fmt="o", color=PALETTE[0], capsize=3, label="ours", zorder=3)
        ax.set_yticks(y, [cell.name for cell in cells])
        ax.set_ylim(-0.7, len(cells) - 0.3)
        ax.set_xlabel("test accuracy, %")
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def save(figure: Figure, path: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Writes a figure as `path` with each suffix; the same figure gives the same bytes."""
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    written = []
    with matplotlib.rc_context(STYLE):
        for suffix in formats:
            target = path.with_name(f"{path.name}.{suffix}")
            with replacing(target, "wb") as file:
                figure.savefig(file, format=suffix, metadata=metadata[suffix])
            written.append(target)
    return written
