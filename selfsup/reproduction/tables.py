"""The cells of the tables: what was published beside what our runs gave."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfsup import collapse
from selfsup.records.results import DIVERGED, Result
from selfsup.reproduction.registry import EXPERIMENTS

REUSED = "_reused"


@dataclass(frozen=True)
class Cell:
    """A test accuracy: published, and ours over the seeds.

    Attributes:
        name: the experiment; with "_reused" behind it where the probe stands on the re-used projector block.
        published: in percent, or None.
        source: where it stands.
        values: ours in percent, one per finished run that did not diverge.
        knn: accuracy of the weighted k-NN on the backbone's features in percent, of the same runs; none
            for the re-used block.
        ranks: effective rank of F, mean over the last epoch, of the same runs.
        collapsed: per finished run, whether the fixed rule calls it collapsed; None where it is too short
            to be judged.
        failures: why a run gave no accuracy, one line each.
    """

    name: str
    published: float | None
    source: str
    values: tuple[float, ...] = ()
    knn: tuple[float, ...] = ()
    ranks: tuple[float, ...] = ()
    collapsed: tuple[bool | None, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Of the sample, with n - 1; None below two runs."""
        return _deviation(self.values)

    @property
    def difference(self) -> float | None:
        """Ours minus published, in points."""
        return None if self.published is None or not self.values else self.mean - self.published


def make_cells(experiment: str, results: Iterable[Result] = (), failures: Sequence[str] = ()) -> list[Cell]:
    """The cell of an experiment and, with a deeper projector, that of the re-used projector block."""
    entry = EXPERIMENTS[experiment]
    results = list(results)
    failures = (*failures, *(DIVERGED for r in results if r.diverged))
    finished = [result for result in results if not result.diverged]
    collapsed = tuple(
        result.collapsed if result.config["epochs"] >= collapse.MIN_EPOCHS else None for result in finished
    )
    probes = {"": ("linear", entry.published), REUSED: ("linear_reused", entry.published_reused)}
    if not entry.settings.get("projector_layers"):
        del probes[REUSED]
    return [
        Cell(
            experiment + suffix,
            published,
            entry.source,
            values=tuple(result.accuracy[probe] for result in finished),
            knn=() if suffix else tuple(result.accuracy["knn"] for result in finished),
            ranks=tuple(result.monitor["effective_rank"] for result in finished),
            collapsed=collapsed,
            failures=failures,
        )
        for suffix, (probe, published) in probes.items()
    ]


def table_rows(cells: Iterable[Cell]) -> list[tuple[str, ...]]:
    """Texts under `HEADER`, a row per cell; "-" where there is nothing."""
    return [
        (
            cell.name,
            "-" if cell.published is None else f"{cell.published:g}",
            _ours(cell),
            "-" if cell.difference is None else f"{cell.difference:+.2f}",
            _spread(cell.knn),
            _spread(cell.ranks),
            _fate(cell),
        )
        for cell in cells
    ]


HEADER = ("experiment", "published, %", "ours, %", "difference", "k-NN, %", "rank of F", "collapsed")


def _spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation of the sample where there is one."""
    if not values:
        return "-"
    deviation = _deviation(values)
    return f"{statistics.fmean(values):.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _ours(cell: Cell) -> str:
    texts = [f"{_spread(cell.values)} (n = {cell.n})"] if cell.values else []
    texts += [f"failed: {reason}" for reason in dict.fromkeys(cell.failures)]
    return "; ".join(texts) or "not run"


def _fate(cell: Cell) -> str:
    judged = [fate for fate in cell.collapsed if fate is not None]
    if judged:
        return f"{sum(judged)} of {len(judged)}"
    return "too short to tell" if cell.collapsed else "-"
