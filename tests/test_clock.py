import time

import pytest

from selfsup.utils.clock import Clock, duration


def test_nested_phases_are_counted_once():
    clock = Clock()
    with clock.phase("outer"):
        time.sleep(0.02)
        with clock.phase("inner"):
            time.sleep(0.05)
    with clock.phase("inner"):
        time.sleep(0.01)
    assert clock.seconds["inner"] == pytest.approx(0.06, abs=0.02)
    assert clock.seconds["outer"] == pytest.approx(0.02, abs=0.01)
    total = clock.total()
    assert sum(v for k, v in total.items() if k != "total") == pytest.approx(total["total"], abs=0.005)


def test_seconds_can_be_moved():
    clock = Clock()
    with clock.phase("steps"):
        time.sleep(0.02)
    clock.move(0.015, "steps", "compile")
    assert clock.seconds["compile"] == 0.015
    assert clock.seconds["steps"] == pytest.approx(0.005, abs=0.01)


def test_a_clock_continues_from_its_state():
    before = Clock()
    with before.phase("load"):
        time.sleep(0.02)
    with before.phase("steps"):
        time.sleep(0.03)
        with before.phase("checkpoints"):
            time.sleep(0.01)
            state = before.state()  # open phases count up to now
    assert all(value.dtype == "float64" and value.shape == () for value in state.values())
    clock = Clock()
    clock.restore(state)
    with clock.phase("load"):
        time.sleep(0.02)
    total = clock.total()
    assert total["load"] == pytest.approx(0.04, abs=0.01)
    assert total["steps"] == pytest.approx(0.03, abs=0.01)
    assert total["checkpoints"] == pytest.approx(0.01, abs=0.008)
    assert total["total"] == pytest.approx(0.08, abs=0.03)
    assert sum(v for k, v in total.items() if k != "total") == pytest.approx(total["total"], abs=0.005)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (5, "5 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (5399, "1 h 30 min"),
        (12_000, "3 h 20 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
