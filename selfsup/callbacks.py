"""What a run says and writes while it trains."""

import csv
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from selfsup import eigenspace, monitor

LOG_FIELDS = ("epoch", "loss", "embedding_std", "effective_rank", "asymmetry")
TIMING_FIELDS = ("epoch", "seconds", "images_per_second")


class EpochLog(keras.callbacks.Callback):
    """A row per epoch in `log.csv` and `timing.csv`, and the watch for collapse and divergence.

    Attributes:
        row: the last epoch's values, by `LOG_FIELDS`.
        collapsed: by the rule of `selfsup.monitor.is_collapsed`, at the last epoch.
        diverged: the loss stopped being finite, and training with it.
    """

    def __init__(self, workdir: Path, images_per_epoch: int) -> None:
        super().__init__()
        self.workdir = workdir
        self.images_per_epoch = images_per_epoch
        self.row: dict[str, float] = {}
        self.collapsed = self.diverged = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._write("log.csv", LOG_FIELDS, "w")
        self._write("timing.csv", TIMING_FIELDS, "w")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._began
        weight = self.model.predictor_weight()
        self.row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "embedding_std": float(logs["embedding_std"]),
            "effective_rank": float(logs["effective_rank"]),
            "asymmetry": eigenspace.asymmetry(weight),
        }
        self._write("log.csv", [f"{self.row[name]:.9g}" for name in LOG_FIELDS])
        self._write("timing.csv", [epoch + 1, f"{seconds:.3f}", f"{self.images_per_epoch / seconds:.1f}"])
        if not np.isfinite(self.row["loss"]):
            self.diverged = self.model.stop_training = True
            return
        was_collapsed = self.collapsed
        self.collapsed = monitor.is_collapsed(
            epoch + 1, self.row["effective_rank"], self.row["embedding_std"]
        )
        if self.collapsed and not was_collapsed:
            rank, std = self.row["effective_rank"], self.row["embedding_std"]
            healthy = f"{monitor.COLLAPSE_RANK:g} and {monitor.COLLAPSE_STD:g}"
            print(
                f"warning: the representation has collapsed: effective rank {rank:.2f}, "
                f"embedding std {std:.2f} (healthy: above {healthy})",
                file=sys.stderr,
                flush=True,
            )

    def _write(self, name: str, row: Any, mode: str = "a") -> None:
        with (self.workdir / name).open(mode, newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)


class Progress(keras.callbacks.Callback):
    """A bar on a terminal, else a line per epoch: loss, embedding std, effective rank, time left.

    Asynchronous, so that training never waits for the logs to reach the host.

    Args:
        epochs, steps, batch_size: of the run.
    """

    async_safe = True

    WIDTH = 24
    EVERY = 0.5

    def __init__(self, epochs: int, steps: int, batch_size: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.epoch = 0
        self.images_per_second = 0.0
        self._first: tuple[float, int] | None = None
        self._shown = 0.0
        self._bar = sys.stdout.isatty()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now, done = time.perf_counter(), self.epoch * self.steps + batch + 1
        if self._first is None:
            self._first = (now, done)
        elif done > self._first[1]:
            self.images_per_second = (done - self._first[1]) * self.batch_size / (now - self._first[0])
        if self._bar and now - self._shown >= self.EVERY:
            self._shown = now
            self._show(batch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._show(self.steps, logs)
        print(flush=True)

    def _show(self, done: int, logs: Any) -> None:
        filled = done * self.WIDTH // self.steps
        bar = "=" * filled + "." * (self.WIDTH - filled)
        pace = ""
        if rate := self.images_per_second:
            left = ((self.epochs - self.epoch) * self.steps - done) * self.batch_size
            pace = f"  {rate:.0f} images/s, {duration(left / rate)} left"
        text = (
            f"epoch {self.epoch + 1}/{self.epochs} [{bar}]  loss {float(logs['loss']):.3f}  "
            f"std {float(logs['embedding_std']):.2f}  rank {float(logs['effective_rank']):.1f}{pace}"
        )
        print(f"\r{text}\033[K" if self._bar else text, end="", flush=True)


def duration(seconds: float) -> str:
    """A time in words, such as "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
