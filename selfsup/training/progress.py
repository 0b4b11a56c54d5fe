"""The progress of a training: its speed, and a status line with the time left."""

import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from selfsup.utils.clock import duration
from selfsup.utils.status import StatusLine, fit_pieces

LONG = 2 * 3600
"""Seconds of training above which a faster preset is suggested."""


class Pace:
    """Counts steps and measures their rate, without the first execution, which compiles, and pauses.

    Attributes:
        done: completed steps of the run, including those before an interruption.
        before: those before an interruption.
        steps_per_second: the rate; until two executions have ended, 0 or, in a resumed run, the rate before
            the interruption.
        measured: whether two executions have ended in this process.
    """

    def __init__(self) -> None:
        self.done = self.before = 0
        self.steps_per_second = 0.0
        self.measured = False
        self._began: float | None = None
        self._first: tuple[float, int, int] | None = None
        self._last = self._paused = 0.0

    def begin(self) -> None:
        """Starts the time of the first execution, or ends a pause, in which a run evaluates and records."""
        now = time.perf_counter()
        self._began = self._began or now
        if self._first is not None:
            self._paused += now - self._last

    def count(self, steps: int) -> None:
        """Counts steps that have just ended."""
        now = self._last = time.perf_counter()
        self.done += steps
        if self._first is None:
            self._first = (now, self.done, steps)
        else:
            until, done, _ = self._first
            self.steps_per_second = (self.done - done) / (now - until - self._paused)
            self.measured = True

    @property
    def compile_seconds(self) -> float:
        """Seconds by which the first execution took longer than later ones."""
        if self._first is None or self._began is None or not self.steps_per_second:
            return 0.0
        until, _, steps = self._first
        return max(0.0, until - self._began - steps / self.steps_per_second)


class Progress(keras.callbacks.Callback):
    """Shows epoch, loss, embedding std, effective rank, accuracies of probe and k-NN, and time left.

    On a terminal it is a progress bar, in a log file one line per epoch. Values are means over the epoch.

    Args:
        epochs, steps, batch_size: epochs of the run, steps per epoch, and images per step.

    Attributes:
        pace: completed steps and their rate.
    """

    WIDTH = 24
    SECONDS = 0.5

    def __init__(self, epochs: int, steps: int, batch_size: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.pace = Pace()
        self._line = StatusLine()
        self._shown = 0.0
        self._estimated = False
        self._batch = 0

    @property
    def images_per_second(self) -> float | None:
        """Training speed, without the first execution; None if there was no other."""
        return self.pace.steps_per_second * self.batch_size or None

    def on_train_begin(self, logs: Any = None) -> None:
        self._line.show("compiling the training step")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.pace.begin()  # not earlier, so that the start of other callbacks does not count

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batch = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.pace.count(batch + 1 - self._batch)
        if not self._estimated and self.pace.steps_per_second:
            self._estimated = True
            self._estimate()
        if self._estimated and time.perf_counter() - self._shown >= self.SECONDS:
            self._shown = time.perf_counter()
            self._line.show(self._text(logs, self._line.room))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._line.finish(self._text(logs, self._line.room if self._line.live else 10**6))

    def state(self) -> dict[str, np.ndarray]:
        """Returns the completed steps and the speed for a checkpoint."""
        return {"done": np.array(self.pace.done), "pace": np.array(self.images_per_second or 0.0)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        self.pace.done = self.pace.before = int(state["done"])
        self.pace.steps_per_second = float(state["pace"]) / self.batch_size

    def _estimate(self) -> None:
        seconds = (self.epochs * self.steps - self.pace.done) / self.pace.steps_per_second
        pace, resumed = self.pace, self.pace.before > 0
        source = f"the {'next' if resumed else 'first'} {pace.done - pace.before} steps"
        if not pace.measured:
            source = "the steps before the interruption"
        left = "training left" if resumed else "training"
        self._line.finish(f"time     about {duration(seconds)} of {left}, estimated from {source}")
        if seconds > LONG:
            print("         faster: --preset=lite (width 16, 10 epochs) or --preset=quick (no data needed)")

    def _text(self, logs: Any, room: int) -> str:
        epoch, position = divmod(self.pace.done - 1, self.steps)
        filled = (position + 1) * self.WIDTH // self.steps
        rate, left = self.pace.steps_per_second, self.epochs * self.steps - self.pace.done
        return fit_pieces(
            [
                (9, f"epoch {epoch + 1}/{self.epochs}"),
                (1, f"[{'=' * filled}{'.' * (self.WIDTH - filled)}]"),
                (8, f"loss {float(logs['loss']):.3f}"),
                (3, f"std {float(logs['embedding_std']):.2f}"),
                (6, f"rank {float(logs['effective_rank']):.1f}"),
                (5, f"probe {float(logs['online_linear']):.1f} %" if "online_linear" in logs else ""),
                (4, f"k-NN {logs['knn']:.1f} %" if "knn" in logs else ""),
                (2, f"{self.images_per_second:.0f} images/s" if rate else ""),
                (7, f"{duration(left / rate)} left" if rate else ""),
            ],
            room,
        )
