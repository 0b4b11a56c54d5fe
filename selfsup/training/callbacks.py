"""Callbacks that write the records of a run."""

import csv
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import keras
import numpy as np

from selfsup import collapse, eigenspace
from selfsup.config import Config
from selfsup.records.moments import Moments, is_due
from selfsup.records.recordings import EVALUATED, LOG, LOG_FIELDS, TIMING, Eigenspaces
from selfsup.records.workdir import TENSORBOARD
from selfsup.training.advice import advice
from selfsup.training.state import is_final
from selfsup.utils.errors import InputError
from selfsup.utils.files import or_warning, replacing

M = TypeVar("M", bound=Moments)
TIMING_FIELDS = ("epoch", "seconds", "images_per_second")


class EpochLog(keras.callbacks.Callback):
    """Writes one row per epoch to `log.csv` and `timing.csv`, and warns of a collapse with advice.

    Both files are rewritten as a whole, so that they hold each epoch once, even after an interruption. An
    epoch that is cut short has a row, too, until the rest of it is trained.

    Args:
        workdir: folder of the run.
        config: config of the run.
        evaluated: whether the run is evaluated after a number of completed epochs.
    """

    def __init__(
        self,
        workdir: Path,
        config: Config,
        evaluated: Callable[[int], bool] = lambda epoch: True,
    ) -> None:
        super().__init__()
        self.workdir, self.config, self.evaluated = workdir, config, evaluated
        self._rows: list[list[float]] = []
        self._times: list[list[float]] = []
        self._began = self._ended = time.perf_counter()
        self._seconds_before = 0.0  # of this epoch, before an interruption
        self._steps = 0  # of this epoch

    @property
    def row(self) -> dict[str, float]:
        """The last row of `log.csv`, by the names in `LOG_FIELDS`."""
        return dict(zip(LOG_FIELDS, self._rows[-1], strict=True))

    @property
    def collapsed(self) -> bool:
        """Whether the run has collapsed by the last epoch, see `selfsup.collapse.is_collapsed`."""
        if not self._rows:
            return False
        row = self.row
        return collapse.is_collapsed(int(row["epoch"]), row["effective_rank"], row["embedding_std"])

    def on_train_begin(self, logs: Any = None) -> None:
        self._write()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._ended = time.perf_counter()  # so that evaluations and records do not count
        self._steps = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = self._seconds_before + self._ended - self._began
        self._seconds_before, self._began = 0.0, time.perf_counter()
        was_collapsed = self.collapsed
        if self._rows and self._rows[-1][0] == epoch + 1:  # the first part of this epoch
            self._rows.pop()
            seconds += self._times.pop()[1]
        asymmetry = eigenspace.asymmetry(self.model.predictor_weight())
        found = {**logs, "epoch": epoch + 1, "asymmetry": asymmetry}
        self._rows.append([float(found.get(name, math.nan)) for name in LOG_FIELDS])
        self._times.append([epoch + 1, seconds, self._steps * self.config.batch_size / seconds])
        self._write()
        if self.collapsed and not was_collapsed:
            row = self.row
            print(
                "warning: the representation has collapsed: "
                f"effective rank {row['effective_rank']:.2f}, embedding std {row['embedding_std']:.2f} "
                f"(healthy: above {collapse.RANK:g} and {collapse.STD:g})",
                *advice(self.config, row),
                sep="\n",
                file=sys.stderr,
                flush=True,
            )

    def state(self) -> dict[str, np.ndarray]:
        """Returns all rows, and the seconds of the current epoch, for a checkpoint."""
        return {
            "rows": np.array(self._rows, np.float64).reshape(-1, len(LOG_FIELDS)),
            "times": np.array(self._times, np.float64).reshape(-1, len(TIMING_FIELDS)),
            "epoch_seconds": np.array(self._seconds_before + max(0.0, self._ended - self._began)),
            "epochs": np.array(self.config.epochs),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned, without a final evaluation that is not due with more epochs."""
        rows = np.full((len(state["rows"]), len(LOG_FIELDS)), np.nan)
        rows[:, : state["rows"].shape[1]] = state["rows"]  # older checkpoints have fewer columns
        if len(rows) and is_final(state, int(rows[-1, 0])) and not self.evaluated(int(rows[-1, 0])):
            rows[-1, [LOG_FIELDS.index(name) for name in EVALUATED]] = np.nan
        self._rows, self._times = rows.tolist(), state["times"].tolist()
        self._seconds_before = float(state["epoch_seconds"])

    def _write(self) -> None:
        numbers = [[f"{value:.9g}" for value in row] for row in self._rows]
        times = [[f"{epoch:.0f}", f"{s:.3f}", f"{rate:.1f}"] for epoch, s, rate in self._times]
        for name, rows in ((LOG, [LOG_FIELDS, *numbers]), (TIMING, [TIMING_FIELDS, *times])):
            path = self.workdir / name
            with or_warning(str(path)), replacing(path) as file:
                csv.writer(file, lineterminator="\n").writerows(rows)


class MomentsLog(keras.callbacks.Callback, Generic[M]):
    """Records moments of a run in a file: untrained, after epoch 1 and every few after that, and last.

    Args:
        workdir: folder of the run.
        every: epochs between two recordings.
        epochs: epochs of the run.
    """

    def __init__(self, workdir: Path, every: int, epochs: int) -> None:
        super().__init__()
        self.workdir, self.every, self.epochs = workdir, every, epochs
        self._recorded: M | None = None

    @property
    def recorded(self) -> M:
        """The recordings so far, at least one after `on_train_begin`."""
        assert self._recorded is not None
        return self._recorded

    def on_train_begin(self, logs: Any = None) -> None:
        if self._recorded is None:
            self._recorded = self._measure(0)
        self._write()

    def state(self) -> dict[str, np.ndarray]:
        """Returns the recordings for a checkpoint."""
        return {**self.recorded.arrays(), "epochs": np.array(self.epochs)}

    def _measure(self, moment: int) -> M:
        """Measures a moment: 0 is the untrained network, which has no F."""
        raise NotImplementedError

    def _write(self) -> None:
        with or_warning(f"the {self.recorded.KIND} to {self.workdir}"):
            self.recorded.write(self.workdir)


class EigenspaceLog(MomentsLog[Eigenspaces]):
    """Records eigenspaces in `eigenspace.npz`."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if is_due(epoch + 1, self.every, self.epochs):
            before = self.recorded[self.recorded.epoch <= epoch]  # without the first part of this epoch
            self._recorded = before + self._measure(epoch + 1)
            self._write()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned, without a final recording that is not due with more epochs."""
        recorded = Eigenspaces.from_arrays(state)
        last = int(recorded.epoch[-1])
        dropped = is_final(state, last) and not is_due(last, self.every, self.epochs)
        self._recorded = recorded[:-1] if dropped else recorded

    def _measure(self, epoch: int) -> Eigenspaces:
        correlation = keras.ops.convert_to_numpy(self.model.correlation) if epoch else None
        return Eigenspaces.measure(epoch, self.model.predictor_weight(), correlation)


def import_writer() -> Any:
    """Returns TensorBoard's class that writes scalars, or raises an `InputError` if it is not installed."""
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise InputError("tensorboard is not installed; pip install tensorboard") from None
    return Writer


class TensorBoardLog(keras.callbacks.Callback):
    """Writes the rows of an `EpochLog` and the recordings of an `EigenspaceLog` as scalars for TensorBoard.

    It must come after both in the list of callbacks.

    Raises:
        InputError: tensorboard is not installed.
    """

    def __init__(self, workdir: Path, log: EpochLog, eigenspaces: EigenspaceLog) -> None:
        super().__init__()
        writer = import_writer()
        self.log, self.eigenspaces = log, eigenspaces
        self._open = lambda: writer(str(workdir / TENSORBOARD))

    def on_train_begin(self, logs: Any = None) -> None:
        self._writer = self._open()
        self._write_last_recording()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name in LOG_FIELDS[1:]:
            if np.isfinite(self.log.row[name]):
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
