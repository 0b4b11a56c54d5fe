"""The cells of the tables: published accuracies beside ours."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from selfsup.records.results import DIVERGED, Result
from selfsup.reproduction.provenance import scale_of
from selfsup.reproduction.registry import EXPERIMENTS, Published
from selfsup.utils.text import literal

REUSED = "_reused"


@dataclass(frozen=True)
class Cell:
    """A test accuracy: the published one, and ours over several seeds.

    Attributes:
        name: the experiment, with the suffix "_reused" if the probe uses the reused projector block.
        published: the published accuracy, or None.
        source: where it was published.
        values: ours in percent, one per run that finished without diverging.
        knn: accuracy of the weighted k-NN on the backbone's features in percent, for the same runs; empty
            for the reused block.
        ranks: effective rank of F, mean over the last epoch, for the same runs.
        collapsed: per finished run, whether it has collapsed (see `collapse`); None if it is too short to
            tell.
        failures: why runs have no accuracy, one line each.
        scales: the scales of the runs, see `provenance.scale_of`.
        raw: the accuracy in the authors' own result files, where it differs from the published one.
    """

    name: str
    published: Published | None
    source: str
    values: tuple[float, ...] = ()
    knn: tuple[float, ...] = ()
    ranks: tuple[float, ...] = ()
    collapsed: tuple[bool | None, ...] = ()
    failures: tuple[str, ...] = ()
    scales: frozenset[tuple[Any, ...]] = frozenset()
    raw: Published | None = None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """In percent; NaN without a run."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def std(self) -> float:
        """Sample standard deviation (n - 1); NaN with fewer than two runs."""
        return statistics.stdev(self.values) if self.n > 1 else math.nan

    @property
    def difference(self) -> float | None:
        """Ours minus published, in points."""
        return None if self.published is None or not self.values else self.mean - self.published.mean


def make_cells(
    experiment: str, results: Iterable[Result] = (), failures: Sequence[str] = (), dataset: str = "cifar10"
) -> list[Cell]:
    """Returns the cell of an experiment and, with a deeper projector, that of the reused projector block.

    Args:
        experiment: a name in the registry.
        results: its finished runs.
        failures: why other runs have no accuracy.
        dataset: whose published accuracies to show, "cifar10" or "stl10".
    """
    entry = EXPERIMENTS[experiment]
    results = list(results)
    failures = (*failures, *(DIVERGED for r in results if r.diverged))
    finished = [result for result in results if not result.diverged]
    collapsed = tuple({"collapsed": True, "healthy": False}.get(result.outcome) for result in finished)
    known = {"": entry.published, REUSED: entry.published_reused}
    published = {
        key: None if value is None else Published(value, source=entry.source) for key, value in known.items()
    }
    if dataset == "stl10":
        published = {"": entry.stl10, REUSED: None}
    probes = {"": "linear", REUSED: "linear_reused"}
    if not entry.settings.get("projector_layers"):
        del probes[REUSED]
    return [
        Cell(
            experiment + suffix,
            published[suffix],
            "-" if (found := published[suffix]) is None else found.source,
            values=_known(result.accuracy.get(probe) for result in finished),
            knn=() if suffix else _known(result.accuracy.get("knn") for result in finished),
            ranks=_known(result.monitor["effective_rank"] for result in finished),
            collapsed=collapsed,
            failures=failures,
            scales=frozenset(map(scale_of, finished)),
            raw=None if suffix or dataset == "stl10" else entry.differing_raw,
        )
        for suffix, probe in probes.items()
    ]


def table_rows(cells: Iterable[Cell]) -> list[tuple[str, ...]]:
    """Returns the texts under `HEADER`, one row per cell; "-" stands for a missing value."""
    return [
        (
            cell.name,
            _published(cell),
            _ours(cell),
            "-" if cell.difference is None else f"{cell.difference:+.2f}",
            _spread(cell.knn),
            _spread(cell.ranks),
            _collapsed(cell),
        )
        for cell in cells
    ]


HEADER = ("experiment", "published, %", "ours, %", "difference", "k-NN, %", "rank of F", "collapsed")


def _published(cell: Cell) -> str:
    if cell.published is None:
        return "-"
    spread = "" if math.isnan(cell.published.std) else f" ± {cell.published.std:.2f}"
    raw = "" if cell.raw is None else f" (raw: {cell.raw.mean:g})"
    return f"{cell.published.mean:g}{spread}{raw}"


def _known(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None)


def _spread(values: Sequence[float]) -> str:
    """Formats the mean and, from two values on, the sample standard deviation."""
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


def _ours(cell: Cell) -> str:
    texts = [f"{_spread(cell.values)} (n = {cell.n})"] if cell.values else []
    texts += [f"failed: {literal(reason)}" for reason in dict.fromkeys(cell.failures)]
    return "; ".join(texts) or ("no labels" if cell.ranks else "no result")


def _collapsed(cell: Cell) -> str:
    judged = [outcome for outcome in cell.collapsed if outcome is not None]
    if judged:
        return f"{sum(judged)} of {len(judged)}"
    return "too short to tell" if cell.collapsed else "-"
