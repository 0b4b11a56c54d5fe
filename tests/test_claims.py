import math

import numpy as np
import pytest
from conftest import fake_result
from scipy import stats

from selfsup.reproduction.claims import (
    FAILS,
    HOLDS,
    UNDECIDED,
    CollapseCheck,
    Difference,
    Published,
    claims,
    welch_interval,
)
from selfsup.reproduction.registry import EXPERIMENTS
from selfsup.reproduction.tables import Cell, make_cells


def cell(*values, name="a", collapsed=()):
    return Cell(name, None, "", values, collapsed=collapsed)


def judge(check, paper_scale=True, **cells):
    return check.judge(cells, paper_scale).verdict


def test_welch_interval_is_scipys(rng):
    for n, m in ((2, 2), (3, 5), (10, 4)):
        a, b = rng.normal(80, 2, n), rng.normal(78, 0.5, m)
        expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        np.testing.assert_allclose(welch_interval(cell(*a), cell(*b)), expected)


def test_welch_interval_from_published_figures(rng):
    a, b = rng.normal(80, 2, 3), rng.normal(78, 0.5, 5)
    published = Published(b.mean(), b.std(ddof=1), 5)
    np.testing.assert_allclose(
        welch_interval(cell(*a), published), stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    )


def test_welch_interval_without_spread_is_a_point():
    assert welch_interval(cell(80.0, 80.0), cell(79.0, 79.0)) == (1.0, 1.0)


def test_welch_interval_needs_two_of_each():
    with pytest.raises(ValueError, match="two"):
        welch_interval(cell(80.0), cell(79.0, 78.0))


ABOVE = Difference("a", "b", low=0.0)
REACHES = Difference("a", "b", low=-1.0)
WITHIN = Difference("a", "b", -1.0, 1.0)
NOT_ABOVE = Difference("a", "b", high=0.0)


@pytest.mark.parametrize(
    ("check", "a", "verdict"),
    [
        (ABOVE, 85.0, HOLDS),
        (ABOVE, 75.0, FAILS),
        (ABOVE, 80.05, UNDECIDED),
        (REACHES, 79.6, HOLDS),
        (REACHES, 85.0, HOLDS),
        (REACHES, 75.0, FAILS),
        (REACHES, 79.0, UNDECIDED),
        (WITHIN, 80.3, HOLDS),
        (WITHIN, 85.0, FAILS),
        (WITHIN, 75.0, FAILS),
        (WITHIN, 81.0, UNDECIDED),
        (NOT_ABOVE, 75.0, HOLDS),
        (NOT_ABOVE, 85.0, FAILS),
    ],
)
def test_verdicts_of_differences(check, a, verdict):
    spread = (-0.1, 0.0, 0.1)
    cells = {"a": cell(*(a + s for s in spread)), "b": cell(*(80.0 + s for s in spread))}
    assert judge(check, **cells) == verdict


def test_fewer_than_two_seeds_are_undecided():
    assert judge(ABOVE, a=cell(90.0), b=cell(10.0, 11.0)) == UNDECIDED
    assert judge(ABOVE, a=cell(90.0, 91.0), b=cell(10.0)) == UNDECIDED
    assert judge(ABOVE, a=cell(), b=cell(10.0)) == UNDECIDED
    assert judge(CollapseCheck("a", collapses=True), a=cell(20.0, collapsed=(True,))) == UNDECIDED


def test_published_figures_compare_at_their_own_scale_only():
    check = Difference("a", Published(85.0, 0.2, 5), -1.0, 1.0, "theirs")
    cells = {"a": cell(85.0, 85.1, 84.9)}
    assert judge(check, paper_scale=True, **cells) == HOLDS
    assert judge(check, paper_scale=False, **cells) == UNDECIDED


@pytest.mark.parametrize(
    ("outcomes", "collapses", "verdict"),
    [
        ((True, True), True, HOLDS),
        ((True, True), False, FAILS),
        ((False, False), True, FAILS),
        ((False, False, False), False, HOLDS),
        ((True, False), True, UNDECIDED),
        ((None, None), True, UNDECIDED),
        ((), True, UNDECIDED),
    ],
)
def test_verdicts_of_fates(outcomes, collapses, verdict):
    assert judge(CollapseCheck("a", collapses), a=cell(collapsed=outcomes)) == verdict


def test_runs_that_failed_are_not_passed_over():
    diverged = Cell("a", None, "", failures=("diverged",))
    assert ABOVE.judge({"a": diverged, "b": cell(80.0)}, True).evidence == "a - b: failed"
    outcome = CollapseCheck("a", collapses=False)
    assert outcome.judge({"a": diverged}, True).evidence == "a: failed"
    mixed = Cell("a", None, "", (80.0, 81.0), collapsed=(False, False), failures=("diverged",))
    assert outcome.judge({"a": mixed}, True).verdict == UNDECIDED
    difference = ABOVE.judge({"a": mixed, "b": cell(70.0, 70.1)}, True)
    assert difference.verdict == UNDECIDED
    assert difference.evidence.endswith(", 1 failed")


def test_equal_constant_networks_show_no_difference():
    assert judge(ABOVE, a=cell(10.0, 10.0), b=cell(10.0, 10.0)) == UNDECIDED


def test_runs_of_different_settings_are_not_compared():
    def cells(epochs):
        long = [fake_result("byol_symmetric", accuracy, "lite") for accuracy in (80.0, 80.1)]
        for result in long:
            result.config["epochs"] = epochs
        short = [fake_result("byol", accuracy, "lite") for accuracy in (70.0, 70.1)]
        (a,), (b,) = make_cells("byol_symmetric", long), make_cells("byol", short)
        return {"a": a, "b": b}

    assert ABOVE.judge(cells(10), False).verdict == HOLDS
    found = ABOVE.judge(cells(100), False)
    assert found.verdict == UNDECIDED
    assert found.evidence.endswith(", different settings")


def test_evidence_shows_its_figures():
    cells = {"a": cell(81.0, 83.0), "b": cell(80.0, 80.5)}
    evidence = ABOVE.judge(cells, True).evidence
    low, high = welch_interval(cells["a"], cells["b"])
    assert evidence == f"a - b = +1.75 [{low:+.2f}, {high:+.2f}], n = 2 and 2, asked above 0"


def test_a_claim_holds_only_if_all_its_checks_do():
    claim = next(c for c in claims() if "EMA helps" in c.text)
    cells = {}
    for check in claim.checks:
        cells |= {check.cell: cell(85.0, 85.1), check.other: cell(80.0, 80.1)}
    assert claim.judge(cells, True)[0] == HOLDS
    assert claim.judge({**cells, "sgd": cell(70.0, 70.1)}, True)[0] == FAILS
    assert claim.judge({**cells, "sgd": cell(80.0)}, True)[0] == UNDECIDED


def test_every_claim_stands_on_cells_of_the_registry():
    known = {c.name for name in EXPERIMENTS for c in make_cells(name)}
    assert len(claims()) == 10
    for claim in claims():
        for check in claim.checks:
            assert check.cell in known
            if isinstance(check, Difference):
                assert not isinstance(check.other, str) or check.other in known
                assert not (math.isinf(check.low) and math.isinf(check.high))
