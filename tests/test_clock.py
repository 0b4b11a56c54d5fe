import pytest

from selfsup.utils.clock import Clock, duration


def test_nested_phases_are_counted_once(sleep):
    clock = Clock()
    with clock.phase("outer"):
        sleep(0.02)
        with clock.phase("inner"):
            sleep(0.05)
    with clock.phase("inner"):
        sleep(0.01)
    assert clock.seconds["inner"] == pytest.approx(0.06)
    assert clock.seconds["outer"] == pytest.approx(0.02)
    total = clock.total()
    assert sum(v for k, v in total.items() if k != "total") == pytest.approx(total["total"])


def test_seconds_can_be_moved(sleep):
    clock = Clock()
    with clock.phase("steps"):
        sleep(0.02)
    clock.move(0.015, "steps", "compile")
    assert clock.seconds["compile"] == 0.015
    assert clock.seconds["steps"] == pytest.approx(0.005)


def test_a_clock_continues_from_its_state(sleep):
    before = Clock()
    with before.phase("load"):
        sleep(0.02)
    with before.phase("steps"):
        sleep(0.03)
        with before.phase("checkpoints"):
            sleep(0.01)
            state = before.state()  # open phases count up to now
    assert all(value.dtype == "float64" and value.shape == () for value in state.values())
    clock = Clock()
    clock.restore(state)
    with clock.phase("load"):
        sleep(0.02)
    total = clock.total()
    assert total["load"] == pytest.approx(0.04)
    assert total["steps"] == pytest.approx(0.03)
    assert total["checkpoints"] == pytest.approx(0.01)
    assert total["total"] == pytest.approx(0.08)
    assert sum(v for k, v in total.items() if k != "total") == pytest.approx(total["total"])


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
