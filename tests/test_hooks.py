import keras
import pytest

from selfsup.training.hooks import Timed
from selfsup.utils.clock import Clock


class Slow(keras.callbacks.Callback):
    def __init__(self, sleep=None):
        super().__init__()
        self.sleep, self.calls = sleep, []

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch", batch, logs))

    def on_epoch_end(self, epoch, logs=None):
        self.sleep(0.03)
        self.calls.append(("epoch", epoch, logs))


def test_hooks_are_passed_on_and_timed(sleep):
    clock, callback = Clock(), Slow(sleep)
    timed = Timed(callback, clock, "slow")
    timed.on_train_begin()
    timed.on_train_batch_end(7, {"loss": -1.0})
    timed.on_epoch_end(3, logs={"loss": -2.0})
    assert callback.calls == [("batch", 7, {"loss": -1.0}), ("epoch", 3, {"loss": -2.0})]
    assert list(clock.seconds) == ["slow"]
    assert clock.seconds["slow"] == pytest.approx(0.03)


def test_model_and_params_reach_the_callback():
    callback = Slow()
    timed = Timed(callback, Clock(), "slow")
    model = keras.Sequential()
    timed.set_model(model)
    timed.set_params({"epochs": 2})
    assert callback.model is model
    assert callback.params == {"epochs": 2}


def test_an_error_in_a_hook_is_raised_and_its_time_counts():
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise OSError("disk full")

    clock = Clock()
    with pytest.raises(OSError, match="disk full"):
        Timed(Broken(), clock, "broken").on_epoch_end(0)
    assert list(clock.seconds) == ["broken"]
