"""The callbacks of a run as one list: each is timed, and a resumed run looks like one `fit`."""

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
    """A callback whose hooks count to a phase of a clock."""

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
    """Callbacks that see one training, whatever number of `fit` calls makes it.

    `on_train_begin` and `on_train_end` reach them once each, the latter by `end()`; batches of an epoch that
    was interrupted keep their numbers.

    Args:
        callbacks: in their order.
        epochs, steps: of the whole run, and of an epoch.

    Attributes:
        offset: number of the first batch that the next `fit` sees of its first epoch.
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
        """Nothing: another `fit` may follow."""

    def end(self) -> None:
        """The whole training has ended."""
        if self._begun:
            super().on_train_end()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_begin(batch + self.offset, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch + self.offset, logs)
