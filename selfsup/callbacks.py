"""What a run says and writes while it trains."""

import csv
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from selfsup import collapse, eigenspace
from selfsup.durations import duration
from selfsup.errors import InputError
from selfsup.recordings import LOG, LOG_FIELDS, Eigenspaces

TIMING = "timing.csv"
TIMING_FIELDS = ("epoch", "seconds", "images_per_second")


class EpochLog(keras.callbacks.Callback):
    """A row per epoch in `log.csv` and `timing.csv`, and the watch for collapse and divergence.

    Attributes:
        row: the last epoch's values, by `LOG_FIELDS`.
        collapsed: by the rule of `selfsup.collapse.is_collapsed`, at the last epoch.
        diverged: the loss stopped being finite, and training with it.
    """

    def __init__(self, workdir: Path, images_per_epoch: int) -> None:
        super().__init__()
        self.workdir = workdir
        self.images_per_epoch = images_per_epoch
        self.row: dict[str, float] = {}
        self.collapsed = self.diverged = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._write(LOG, LOG_FIELDS, "w")
        self._write(TIMING, TIMING_FIELDS, "w")

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
        self._write(LOG, [f"{self.row[name]:.9g}" for name in LOG_FIELDS])
        self._write(TIMING, [epoch + 1, f"{seconds:.3f}", f"{self.images_per_epoch / seconds:.1f}"])
        if not np.isfinite(self.row["loss"]):
            self.diverged = self.model.stop_training = True
            return
        was_collapsed = self.collapsed
        self.collapsed = collapse.is_collapsed(
            epoch + 1, self.row["effective_rank"], self.row["embedding_std"]
        )
        if self.collapsed and not was_collapsed:
            rank, std = self.row["effective_rank"], self.row["embedding_std"]
            healthy = f"{collapse.RANK:g} and {collapse.STD:g}"
            print(
                f"warning: the representation has collapsed: effective rank {rank:.2f}, "
                f"embedding std {std:.2f} (healthy: above {healthy})",
                file=sys.stderr,
                flush=True,
            )

    def _write(self, name: str, row: Any, mode: str = "a") -> None:
        with (self.workdir / name).open(mode, newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)


class EigenspaceLog(keras.callbacks.Callback):
    """Records the eigenspaces in `eigenspace.npz`: untrained, after epoch 1, every few from there, the last.

    Args:
        workdir: folder of the run.
        every: epochs between two recordings.

    Attributes:
        recorded: what has been recorded.
    """

    def __init__(self, workdir: Path, every: int) -> None:
        super().__init__()
        self.workdir, self.every = workdir, every
        self.recorded: Eigenspaces | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.recorded = Eigenspaces.measure(0, self.model.predictor_weight())
        self.recorded.write(self.workdir)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch % self.every == 0 or epoch + 1 == self.params["epochs"]:
            correlation = keras.ops.convert_to_numpy(self.model.correlation)
            self.recorded += Eigenspaces.measure(epoch + 1, self.model.predictor_weight(), correlation)
            self.recorded.write(self.workdir)


class TensorBoardLog(keras.callbacks.Callback):
    """The rows of an `EpochLog` and what an `EigenspaceLog` records, as scalars for TensorBoard.

    Stands behind both in the list of callbacks.

    Raises:
        InputError: tensorboard is not installed.
    """

    def __init__(self, workdir: Path, log: EpochLog, eigenspaces: EigenspaceLog) -> None:
        super().__init__()
        try:
            from tensorboard.summary import Writer
        except ImportError:
            raise InputError("--tensorboard needs a package more; pip install tensorboard") from None
        self.log, self.eigenspaces = log, eigenspaces
        self._open = lambda: Writer(str(workdir / "tensorboard"))

    def on_train_begin(self, logs: Any = None) -> None:
        self._writer = self._open()
        self._write_last_recording()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name in LOG_FIELDS[1:]:
            self._writer.add_scalar(f"training/{name}", self.log.row[name], epoch + 1)
        if self.eigenspaces.recorded.epoch[-1] == epoch + 1:
            self._write_last_recording()
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._writer.close()

    def _write_last_recording(self) -> None:
        last = self.eigenspaces.recorded[-1:]
        scalars = {
            "F/largest_eigenvalue": last.correlation_eigenvalues.max(),
            "F/effective_rank": last.effective_rank[0],
            "W_p/largest_eigenvalue": last.predictor_eigenvalues.max(),
            "W_p/asymmetry": last.asymmetry[0],
            "alignment/mean": last.alignment.mean(),
        }
        for name, value in scalars.items():
            if np.isfinite(value):
                self._writer.add_scalar(f"eigenspace/{name}", float(value), int(last.epoch[0]))


class Progress(keras.callbacks.Callback):
    """A bar on a terminal, else a line per epoch: loss, embedding std, effective rank, time left.

    Asynchronous, so that training never waits for the logs to reach the host.

    Args:
        epochs, steps, batch_size: of the run.

    Attributes:
        images_per_second: in training, without its first steps.
        compile_seconds: what the first steps took longer than others, once training has ended.
    """

    async_safe = True

    WIDTH = 24
    EVERY = 0.5

    def __init__(self, epochs: int, steps: int, batch_size: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.epoch = 0
        self.images_per_second = 0.0
        self.compile_seconds = 0.0
        self._first: tuple[float, int] | None = None
        self._shown = 0.0
        self._bar = sys.stdout.isatty()

    def on_train_begin(self, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_end(self, logs: Any = None) -> None:
        if self._first and (rate := self.images_per_second):
            until, done = self._first
            self.compile_seconds = max(0.0, until - self._began - done * self.batch_size / rate)

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
