"""The callbacks of a run as one list that times each of them and spans several calls of `fit`."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from selfsup.utils.clock import Clock


def _timed(hook: str) -> Callable[..., None]:
    def call(self: "Timed", *args: Any, **kwargs: Any) -> None:
        with self.clock.phase(self.phase):
            getattr(self.callback, hook)(*args, **kwargs)

    return call


class Timed(keras.callbacks.Callback):
    """Wraps a callback and adds the time of its hooks to a phase of a clock."""

    def __init__(self, callback: keras.callbacks.Callback, clock: Clock, phase: str) -> None:
        super().__init__()
        self.callback, self.clock, self.phase = callback, clock, phase

    def set_params(self, params: dict[str, Any]) -> None:
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        self.callback.set_model(model)

    on_train_begin = _timed("on_train_begin")
    on_train_end = _timed("on_train_end")
    on_epoch_begin = _timed("on_epoch_begin")
    on_epoch_end = _timed("on_epoch_end")
    on_train_batch_begin = _timed("on_train_batch_begin")
    on_train_batch_end = _timed("on_train_batch_end")


class RunCallbacks(keras.callbacks.CallbackList):
    """Callbacks that see several calls of `fit` as a single training run.

    `on_train_begin` and `on_train_end` are called once; `end()` calls the latter. The batches of an
    interrupted epoch keep their numbers.

    Args:
        callbacks: the callbacks in the order of their calls.
        epochs, steps: epochs of the run, and steps per epoch.

    Attributes:
        offset: number of the first batch of the next `fit`, from 0.
    """

    def __init__(self, callbacks: Sequence[Timed], epochs: int, steps: int) -> None:
        super().__init__(list(callbacks), add_history=True, epochs=epochs, steps=steps, verbose=0)
        self.offset = 0
        self._begun = False

    def on_train_begin(self, logs: Any = None) -> None:
        if not self._begun:
            self._begun = True
            super().on_train_begin(logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Does nothing, because another `fit` may follow."""

    def end(self) -> None:
        """Ends the training: calls `on_train_end` of all callbacks."""
        if self._begun:
            super().on_train_end()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_begin(batch + self.offset, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch + self.offset, logs)
