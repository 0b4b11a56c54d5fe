import time

import keras
import pytest

from selfsup.utils.clock import Clock


def test_inner_parts_are_counted_once():
    clock = Clock()
    with clock.part("outer"):
        time.sleep(0.02)
        with clock.part("inner"):
            time.sleep(0.05)
    with clock.part("inner"):
        time.sleep(0.01)
    assert clock.seconds["inner"] == pytest.approx(0.06, abs=0.02)
    assert clock.seconds["outer"] == pytest.approx(0.02, abs=0.01)
    total = clock.total()
    assert sum(v for k, v in total.items() if k != "total") == pytest.approx(total["total"], abs=0.005)


def test_a_callback_is_watched():
    class Slow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            time.sleep(0.03)
            self.seen = epoch

    clock, callback = Clock(), Slow()
    assert clock.watch(callback, "slow") is callback
    callback.on_epoch_end(3)
    callback.on_train_begin()
    assert callback.seen == 3
    assert clock.seconds["slow"] == pytest.approx(0.03, abs=0.02)


def test_seconds_can_be_moved():
    clock = Clock()
    with clock.part("steps"):
        time.sleep(0.02)
    clock.move(0.015, "steps", "compile")
    assert clock.seconds["compile"] == 0.015
    assert clock.seconds["steps"] == pytest.approx(0.005, abs=0.01)


def test_a_clock_goes_on_from_its_state():
    before = Clock()
    with before.part("load"):
        time.sleep(0.02)
    with before.part("steps"):
        time.sleep(0.03)
        with before.part("checkpoints"):
            time.sleep(0.01)
            state = before.state()  # the open parts count as far as they are
    clock = Clock()
    clock.restore(state)
    with clock.part("load"):
        time.sleep(0.02)
    total = clock.total()
    assert total["load"] == pytest.approx(0.04, abs=0.01)
    assert total["steps"] == pytest.approx(0.03, abs=0.01)
    assert total["checkpoints"] == pytest.approx(0.01, abs=0.008)
    assert total["total"] == pytest.approx(0.08, abs=0.03)
    assert sum(v for k, v in total.items() if k != "total") == pytest.approx(total["total"], abs=0.005)
