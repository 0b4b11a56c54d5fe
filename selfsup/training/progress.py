"""What a run says while it trains."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from selfsup.utils.clock import duration


class Progress(keras.callbacks.Callback):
    """A bar on a terminal, else a line per epoch: loss, embedding std, effective rank, time left.

    Args:
        epochs, steps, batch_size: of the run.

    Attributes:
        images_per_second: in training, without its first steps.
        compile_seconds: what the first steps took longer than others, once training has ended.
    """

    WIDTH = 24
    EVERY = 0.5

    def __init__(self, epochs: int, steps: int, batch_size: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.images_per_second = 0.0
        self.compile_seconds = 0.0
        self._done = 0
        self._began: float | None = None
        self._first: tuple[float, int, int] | None = None
        self._shown = 0.0
        self._bar = sys.stdout.isatty()

    def on_train_begin(self, logs: Any = None) -> None:
        self._began = self._began or time.perf_counter()

    def on_train_end(self, logs: Any = None) -> None:
        if self._first and (rate := self.images_per_second):
            until, _, steps = self._first
            self.compile_seconds = max(0.0, until - self._began - steps * self.batch_size / rate)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batch = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now, steps = time.perf_counter(), batch + 1 - self._batch
        self._done += steps
        if self._first is None:
            self._first = (now, self._done, steps)
        else:
            until, done, _ = self._first
            self.images_per_second = (self._done - done) * self.batch_size / (now - until)
        if self._bar and now - self._shown >= self.EVERY:
            self._shown = now
            self._show(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._show(logs)
        print(flush=True)

    def state(self) -> dict[str, np.ndarray]:
        """Steps and pace, for a checkpoint."""
        return {"done": np.int64(self._done), "pace": np.float64(self.images_per_second)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a checkpoint."""
        self._done, self.images_per_second = int(state["done"]), float(state["pace"])

    def _show(self, logs: Any) -> None:
        epoch, position = divmod(self._done - 1, self.steps)
        filled = (position + 1) * self.WIDTH // self.steps
        bar = "=" * filled + "." * (self.WIDTH - filled)
        pace = ""
        if rate := self.images_per_second:
            left = (self.epochs * self.steps - self._done) * self.batch_size
            pace = f"  {rate:.0f} images/s, {duration(left / rate)} left"
        text = (
            f"epoch {epoch + 1}/{self.epochs} [{bar}]  loss {float(logs['loss']):.3f}  "
            f"std {float(logs['embedding_std']):.2f}  rank {float(logs['effective_rank']):.1f}{pace}"
        )
        print(f"\r{text}\033[K" if self._bar else text, end="", flush=True)
