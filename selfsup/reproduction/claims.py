"""The claims of the paper, and what our runs say of each: holds, does not hold, or undecided."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from scipy.stats import t

from selfsup.reproduction.tables import REUSED, Cell

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
CONFIDENCE = 0.95
CLOSE = 1.0
"""Points within which an accuracy counts as the same."""


class Sample(Protocol):
    """Accuracies in percent by their mean, standard deviation (of the sample) and number."""

    mean: float | None
    std: float | None
    n: int


@dataclass(frozen=True)
class Published:
    """A published mean and standard deviation over n seeds."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """HOLDS, FAILS or UNDECIDED, and the figures that it stands on."""

    verdict: str
    evidence: str


def welch_interval(a: Sample, b: Sample) -> tuple[float, float]:
    """The 95 % interval of mean(a) - mean(b), both normal with variances of their own (Welch 1947).

    Raises:
        ValueError: one of them has less than two values.
    """
    if min(a.n, b.n) < 2:
        raise ValueError(f"an interval needs two values of each, not {a.n} and {b.n}")
    difference = a.mean - b.mean
    variances = a.std**2 / a.n, b.std**2 / b.n
    total = sum(variances)
    if total == 0.0:
        return difference, difference
    freedom = total**2 / (variances[0] ** 2 / (a.n - 1) + variances[1] ** 2 / (b.n - 1))
    half = t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(total)
    return float(difference - half), float(difference + half)


@dataclass(frozen=True)
class Difference:
    """One cell's mean minus another's (or a published one's) lies in an interval, in points."""

    cell: str
    other: str | Published
    low: float = -math.inf
    high: float = math.inf
    other_name: str = ""

    def judge(self, cells: Mapping[str, Cell], paper_scale: bool) -> Verdict:
        """Holds if all of the Welch interval lies inside, does not hold if all of it lies outside."""
        a = cells[self.cell]
        b = cells[self.other] if isinstance(self.other, str) else self.other
        text = f"{self.cell} - {self.other_name or self.other}"
        for cell in (a, b):
            if not cell.n:
                return Verdict(UNDECIDED, f"{text}: {_reason(cell)}")
        text += f" = {a.mean - b.mean:+.2f}"
        if isinstance(b, Published) and not paper_scale:
            return Verdict(UNDECIDED, f"{text}, comparable at the paper's scale only")
        if min(a.n, b.n) < 2:
            return Verdict(UNDECIDED, f"{text}, n = {min(a.n, b.n)}")
        low, high = welch_interval(a, b)
        text += f" [{low:+.2f}, {high:+.2f}], asked {self._asked()}"
        if self.low <= low and high <= self.high:
            return Verdict(HOLDS, text)
        return Verdict(FAILS if high < self.low or low > self.high else UNDECIDED, text)

    def _asked(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g}"
        return f"below {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Fate:
    """All runs of a cell collapse by the fixed rule, or none does."""

    cell: str
    collapses: bool

    def judge(self, cells: Mapping[str, Cell], paper_scale: bool) -> Verdict:
        """Undecided where runs disagree, failed, are too short to be judged, or less than two."""
        cell = cells[self.cell]
        fates = cell.collapsed
        if not fates:
            return Verdict(UNDECIDED, f"{self.cell}: {_reason(cell)}")
        if None in fates:
            return Verdict(UNDECIDED, f"{self.cell}: too short to tell a collapse")
        evidence = f"{self.cell}: {sum(fates)} of {len(fates)} collapsed"
        if cell.failures:
            return Verdict(UNDECIDED, f"{evidence}, {len(cell.failures)} failed")
        if len(fates) < 2 or len(set(fates)) > 1:
            return Verdict(UNDECIDED, evidence)
        return Verdict(HOLDS if fates[0] == self.collapses else FAILS, evidence)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and the checks that it comes down to."""

    text: str
    checks: tuple[Difference | Fate, ...]

    def judge(self, cells: Mapping[str, Cell], paper_scale: bool) -> tuple[str, list[Verdict]]:
        """Holds if all checks do, does not hold if one does not; with the verdict of each check."""
        verdicts = [check.judge(cells, paper_scale) for check in self.checks]
        found = {verdict.verdict for verdict in verdicts}
        return next((word for word in (FAILS, UNDECIDED) if word in found), HOLDS), verdicts


def _reason(cell: Cell) -> str:
    """Why a cell has no accuracy."""
    return "failed" if cell.failures else "not run"


def _above(cell: str, other: str) -> Difference:
    return Difference(cell, other, low=0.0)


def _reaches(cell: str, other: str) -> Difference:
    return Difference(cell, other, low=-CLOSE)


def _not_above(cell: str, other: str) -> Difference:
    return Difference(cell, other, high=0.0)


@cache
def claims() -> tuple[Claim, ...]:
    """The claims of the report, and agreement with Tian et al. 2021 (Table 8)."""
    tian = json.loads(Path(__file__).with_name("published.json").read_text())["tian2021"]
    with_ema = ("byol", "byol_symmetric", "directpred", "directcopy", "sgd")
    without = ("simsiam", "simsiam_symmetric", "directpred_noema", "directcopy_noema", "sgd_noema")
    return (
        Claim("Symmetric W_p helps BYOL", (_above("byol_symmetric", "byol"),)),
        Claim("Symmetric SimSiam collapses", (Fate("simsiam_symmetric", collapses=True),)),
        Claim(
            "Learning rates and weight decay of its own rescue symmetric SimSiam",
            (
                Fate("simsiam_symmetric_tuned", collapses=False),
                _above("simsiam_symmetric_tuned", "simsiam_symmetric"),
            ),
        ),
        Claim(
            "EMA helps every method",
            tuple(_above(ema, plain) for ema, plain in zip(with_ema, without, strict=True)),
        ),
        Claim(
            "DirectPred and DirectCopy reach the two-layer predictor",
            (
                _reaches("directpred", "byol"),
                _reaches("directcopy", "byol"),
                _reaches("directpred_noema", "simsiam"),
                _reaches("directcopy_noema", "simsiam"),
            ),
        ),
        Claim(
            "DirectPred beats its SGD baseline",
            (_above("directpred", "sgd"), _above("directpred_noema", "sgd_noema")),
        ),
        Claim(
            "Weight decay on the predictor alone keeps symmetric SimSiam alive",
            (Fate("simsiam_symmetric_decay_predictor", collapses=False),),
        ),
        Claim(
            "Without any weight decay symmetric SimSiam collapses",
            (Fate("simsiam_symmetric_decay_none", collapses=True),),
        ),
        Claim(
            "The deeper projector does not help",
            (
                _not_above("directpred_deep", "directpred"),
                _not_above("directpred_deep" + REUSED, "directpred"),
                _not_above("sgd_deep", "sgd"),
                _not_above("sgd_deep" + REUSED, "sgd"),
            ),
        ),
        Claim(
            f"DirectPred, freq=5 and SGD lie within {CLOSE:g} point of Tian et al. 2021 (CIFAR-10)",
            tuple(
                Difference(
                    name, Published(**tian[name]), -CLOSE, CLOSE, f"Tian et al.'s {tian[name]['mean']}"
                )
                for name in ("directpred", "directpred_freq5", "sgd")
            ),
        ),
    )
