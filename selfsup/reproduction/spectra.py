"""How F and W_p change over the epochs, beside the recordings that the paper's authors published."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from selfsup.analysis.plots import PALETTE, STYLE
from selfsup.records.recordings import Eigenspaces, read_eigenspaces
from selfsup.reproduction.grid import Run

ALIGNED = 0.9
"""An eigenvector u of F is aligned with W_p if cos(u, W_p u) is above this."""
PANELS = {
    "effective_rank": "effective rank of $F$",
    "largest": "largest eigenvalue of $F$",
    "asymmetry": "asymmetry of $W_p$",
    "aligned": "aligned eigenvectors",
}
TITLE = (
    "Our recordings, with a line for each seed, beside the published ones; "
    f"an eigenvector u of F is aligned if cos(u, W_p u) is above {ALIGNED:g}"
)


@dataclass(frozen=True)
class Course:
    """Summaries of the eigenspaces of one run at R epochs.

    Attributes:
        epoch: completed epochs, from 1 on, [R].
        effective_rank: effective rank of F, [R].
        largest: largest eigenvalue of F, [R].
        asymmetry: asymmetry of W_p, [R].
        aligned: number of eigenvectors u of F with cos(u, W_p u) > `ALIGNED`, [R].
    """

    epoch: np.ndarray
    effective_rank: np.ndarray
    largest: np.ndarray
    asymmetry: np.ndarray
    aligned: np.ndarray


def course(recorded: Eigenspaces) -> Course:
    """Returns the summaries of a run's recordings after training has begun.

    Example:
        >>> recorded = Eigenspaces.measure(1, np.diag([0.2, 0.4]), np.diag([1.0, 3.0]))
        >>> found = course(recorded)
        >>> found.largest.tolist(), found.aligned.tolist()
        ([3.0], [2])
    """
    trained = recorded[recorded.epoch > 0]
    return Course(
        trained.epoch,
        trained.effective_rank,
        trained.correlation_eigenvalues.max(axis=1),
        trained.asymmetry,
        (trained.alignment > ALIGNED).sum(axis=1),
    )


def courses(runs: Iterable[Run]) -> dict[str, list[Course]]:
    """Returns the summaries of the finished runs of a grid, by experiment, in the order of their seeds.

    Experiments without a published recording are left out.
    """
    found: dict[str, list[Course]] = {}
    for run in runs:
        finished = run.result is not None and not run.result.diverged
        if finished and run.experiment in published():
            found.setdefault(run.experiment, []).append(course(read_eigenspaces(run.workdir)))
    return found


@cache
def published() -> Mapping[str, Course]:
    """Returns the published recordings by experiment: one run each at width 64.

    Example:
        >>> round(float(published()["byol"].effective_rank[-1]), 1)
        36.2
    """
    read = json.loads(Path(__file__).with_name("published_spectra.json").read_text())
    epoch = np.array(read["epochs"])
    return {
        name: Course(epoch, **{panel: np.array(values) for panel, values in panels.items()})
        for name, panels in read["experiments"].items()
    }


def figure(grids: Mapping[str, Mapping[str, Sequence[Course]]]) -> Figure:
    """Draws one row per experiment that has a published recording, and one column per summary.

    Args:
        grids: the runs of each experiment, by the title of their grid and then by experiment.
    """
    names = [name for name in published() if any(name in runs for runs in grids.values())]
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(10, 0.7 + 1.7 * len(names)), layout="constrained")
        axes = drawn.subplots(len(names), len(PANELS), squeeze=False, sharex=True)
        for name, row in zip(names, axes, strict=True):
            row[0].set_ylabel(name, weight="bold")
            for panel, ax in zip(PANELS, row, strict=True):
                _draw(
                    ax, panel, published()[name], {title: runs.get(name, ()) for title, runs in grids.items()}
                )
        for title, ax in zip(PANELS.values(), axes[0], strict=True):
            ax.set_title(title)
        for ax in axes[-1]:
            ax.set_xlabel("epoch")
        drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return drawn


def _draw(ax: Axes, panel: str, theirs: Course, grids: Mapping[str, Sequence[Course]]) -> None:
    ax.set_xscale("log")
    ax.plot(
        theirs.epoch, getattr(theirs, panel), "o-",
        color="black", markerfacecolor="white", markersize=3, label="published",
    )  # fmt: skip
    for color, (title, runs) in zip(cycle(PALETTE), grids.items(), strict=False):
        # For the legend, also of grids without this experiment. Matplotlib hides labels that begin with "_".
        ax.plot([], color=color, label=title.lstrip("_"))
        for run in runs:
            ax.plot(run.epoch, getattr(run, panel), color=color, alpha=0.8)
    if panel in ("effective_rank", "largest"):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.minorticks_off()
    else:
        ax.set_ylim(0, max(0.1, 1.05 * ax.get_ylim()[1]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.minorticks_off()
