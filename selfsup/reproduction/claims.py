"""The claims of the paper, each judged by our runs: holds, does not hold, or undecided."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scipy.special import stdtrit

from selfsup.reproduction.registry import Published
from selfsup.reproduction.tables import REUSED, Cell

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
CONFIDENCE = 0.95
CLOSE = 1.0
"""Difference in points within which two accuracies count as equal."""


@dataclass(frozen=True)
class Verdict:
    """HOLDS, FAILS or UNDECIDED, with the numbers that support it."""

    verdict: str
    evidence: str


def welch_interval(a: Cell | Published, b: Cell | Published) -> tuple[float, float]:
    """Returns the 95 % interval of mean(a) - mean(b) for normal samples with unequal variances (Welch 1947).

    Raises:
        ValueError: one of them has fewer than two values.

    Example:
        >>> low, high = welch_interval(Published(85.0, 0.5, 5), Published(84.0, 0.5, 5))
        >>> print(f"{low:.2f} to {high:.2f}")
        0.27 to 1.73
    """
    if min(a.n, b.n) < 2:
        raise ValueError(f"an interval needs two values of each, not {a.n} and {b.n}")
    difference = a.mean - b.mean
    variances = a.std**2 / a.n, b.std**2 / b.n
    total = sum(variances)
    if total == 0.0:
        return difference, difference
    freedom = total**2 / (variances[0] ** 2 / (a.n - 1) + variances[1] ** 2 / (b.n - 1))
    half = stdtrit(freedom, (1 + CONFIDENCE) / 2) * math.sqrt(total)
    return float(difference - half), float(difference + half)


@dataclass(frozen=True)
class Difference:
    """Checks that one cell's mean minus another's (or a published one) is above `low` and at most `high`.

    Both are in points.
    """

    cell: str
    other: str | Published
    low: float = -math.inf
    high: float = math.inf
    other_name: str = ""

    def judge(self, cells: Mapping[str, Cell], paper_scale: bool) -> Verdict:
        """Holds if the whole Welch interval lies inside, does not hold if all of it lies outside.

        Undecided if runs have failed, have different settings, or are fewer than two of each.
        """
        a = cells[self.cell]
        b = cells[self.other] if isinstance(self.other, str) else self.other
        text = f"{self.cell} - {self.other_name or self.other}"
        for cell in (a, b):
            if isinstance(cell, Cell) and not cell.n:
                return Verdict(UNDECIDED, f"{text}: {_reason(cell)}")
        text += f" = {a.mean - b.mean:+.2f}"
        if isinstance(b, Published) and not paper_scale:
            return Verdict(UNDECIDED, f"{text}, comparable at the paper's scale only")
        if min(a.n, b.n) < 2:
            return Verdict(UNDECIDED, f"{text}, n = {min(a.n, b.n)}")
        low, high = welch_interval(a, b)
        text += f" [{low:+.2f}, {high:+.2f}], n = {a.n} and {b.n}, asked {self._asked()}"
        own = [cell for cell in (a, b) if isinstance(cell, Cell)]
        if failures := sum(len(cell.failures) for cell in own):
            return Verdict(UNDECIDED, f"{text}, {failures} failed")
        if len({scale for cell in own for scale in cell.scales}) > 1:
            return Verdict(UNDECIDED, f"{text}, different settings")
        if self.low < low and high <= self.high:
            return Verdict(HOLDS, text)
        return Verdict(FAILS if high < self.low or low > self.high else UNDECIDED, text)

    def _asked(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g}"
        return f"below {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class CollapseCheck:
    """Checks that all runs of a cell collapse by the fixed rule, or that none does."""

    cell: str
    collapses: bool

    def judge(self, cells: Mapping[str, Cell], paper_scale: bool) -> Verdict:
        """Undecided if runs disagree, have failed, are too short to tell, or are fewer than two."""
        cell = cells[self.cell]
        outcomes = cell.collapsed
        if not outcomes:
            return Verdict(UNDECIDED, f"{self.cell}: {_reason(cell)}")
        if None in outcomes:
            return Verdict(UNDECIDED, f"{self.cell}: too short to tell a collapse")
        evidence = f"{self.cell}: {outcomes.count(True)} of {len(outcomes)} collapsed"
        if cell.failures:
            return Verdict(UNDECIDED, f"{evidence}, {len(cell.failures)} failed")
        if len(outcomes) < 2 or len(set(outcomes)) > 1:
            return Verdict(UNDECIDED, evidence)
        return Verdict(HOLDS if outcomes[0] == self.collapses else FAILS, evidence)


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and the checks that it amounts to."""

    text: str
    checks: tuple[Difference | CollapseCheck, ...]

    def judge(self, cells: Mapping[str, Cell], paper_scale: bool) -> tuple[str, list[Verdict]]:
        """Holds if all checks hold, does not hold if one does not. Returns the verdict of each check, too."""
        verdicts = [check.judge(cells, paper_scale) for check in self.checks]
        found = {verdict.verdict for verdict in verdicts}
        return next((word for word in (FAILS, UNDECIDED) if word in found), HOLDS), verdicts


def _reason(cell: Cell) -> str:
    """Why a cell has no accuracy."""
    return "failed" if cell.failures else "no labels" if cell.ranks else "no result"


def _above(cell: str, other: str) -> Difference:
    return Difference(cell, other, low=0.0)


def _reaches(cell: str, other: str) -> Difference:
    return Difference(cell, other, low=-CLOSE)


def _not_above(cell: str, other: str) -> Difference:
    return Difference(cell, other, high=0.0)


@cache
def claims() -> tuple[Claim, ...]:
    """The claims of the paper, and agreement with Tian et al. 2021 (Table 8)."""
    tian = json.loads(Path(__file__).with_name("published.json").read_text())["tian2021"]
    with_ema = ("byol", "byol_symmetric", "directpred", "directcopy", "sgd")
    without = ("simsiam", "simsiam_symmetric", "directpred_noema", "directcopy_noema", "sgd_noema")
    return (
        Claim("Symmetric W_p helps BYOL", (_above("byol_symmetric", "byol"),)),
        Claim("Symmetric SimSiam collapses", (CollapseCheck("simsiam_symmetric", collapses=True),)),
        Claim(
            "A separate learning rate and weight decay for the predictor rescue symmetric SimSiam",
            (
                CollapseCheck("simsiam_symmetric_tuned", collapses=False),
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
            "Weight decay on the predictor only keeps symmetric SimSiam from collapsing",
            (CollapseCheck("simsiam_symmetric_decay_predictor", collapses=False),),
        ),
        Claim(
            "Without any weight decay symmetric SimSiam collapses",
            (CollapseCheck("simsiam_symmetric_decay_none", collapses=True),),
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
