"""Saves the state of a run, so that a resumed run gives bit-identical results."""

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup.backend.machines import Machines
from selfsup.backend.step import sync
from selfsup.model import SiameseModel
from selfsup.records import checkpoints
from selfsup.records.checkpoints import FINAL, MODEL, Checkpoint, Identity
from selfsup.training.state import Stateful, digest, own_copy, to_numpy, variables
from selfsup.utils.errors import InputError
from selfsup.utils.files import or_warning
from selfsup.utils.interrupts import Interruption

_METRICS, _PROBE, _ENDED = "metrics", "online_probe", "ended"
CALLBACK = "callback "
"""Beginning of the names of a user's callbacks, which are not saved while they have no state."""


def _probe_state(model: SiameseModel) -> list[keras.Variable]:
    return [] if model.online_probe is None else model.online_probe.state


class Checkpointer(keras.callbacks.Callback):
    """Saves checkpoints, and stops the run after a signal or a divergence.

    It saves a checkpoint at the end of every epoch, every few minutes, and after a signal; then it also
    raises `Interrupted`. Training waits only until the state is copied on the device; a thread writes the
    file, and `close` waits for the last one. If the loss (checked after every execution of a few steps) or a
    variable in the copy is not finite, training ends without another checkpoint. In the list of callbacks, it
    must come after all whose state it saves.

    Args:
        workdir, identity: folder and identity of the run.
        stateful: other objects whose state is saved, by name.
        minutes: minutes between two checkpoints inside an epoch.
        interruption: the handler of signals. A signal to any machine stops all machines.
        machines: the machines of the run.

    Attributes:
        diverged: whether the loss or a variable stopped being finite.
        ended: whether the training that was restored had ended, perhaps early.
    """

    def __init__(
        self,
        workdir: Path,
        identity: Identity,
        stateful: Mapping[str, Stateful],
        minutes: float,
        interruption: Interruption,
        machines: Machines,
    ) -> None:
        super().__init__()
        self.workdir, self.identity, self.stateful = workdir, identity, stateful
        self.seconds, self.interruption, self.machines = 60.0 * minutes, interruption, machines
        self.diverged = self.ended = False
        self._last = time.perf_counter()
        self._metrics: list[np.ndarray] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[bool] | None = None
        self._saved = 0  # steps
        self._trained = ""  # digest of the model after the last epoch

    def close(self) -> None:
        """Waits until the last checkpoint is written. None can be saved afterwards."""
        self._thread.shutdown()
        self._wait()

    def restore(self, model: SiameseModel, checkpoint: Checkpoint, epochs: int) -> None:
        """Restores the model and the other objects; metrics follow when the epoch begins.

        Args:
            model: the model.
            checkpoint: its state.
            epochs: the number of epochs of the run. A training that a callback ended goes on if that is not
                the number it had.

        Raises:
            InputError: the checkpoint has other variables or callbacks.
        """
        state = checkpoint.groups()
        self.ended = int(state.pop(_ENDED, {}).get("epochs", 0)) == epochs
        final = state.pop(FINAL, {})
        current = list(variables(model).values())
        weights = final if final and self.ended else state[MODEL]
        saved = list(weights.values())  # in the same order; names of unnamed layers may differ
        same = [tuple(v.shape) for v in current] == [array.shape for array in saved]
        absent = [name for name in self.stateful if name not in state]
        own = [name for name in absent if not name.startswith(CALLBACK)]
        known = set(state) <= {_METRICS, MODEL, _PROBE, *self.stateful}
        probe = _probe_state(model)
        learned = list(state.get(_PROBE, {}).values())
        if learned:  # older checkpoints have none
            same &= [tuple(v.shape) for v in probe] == [array.shape for array in learned]
        self._metrics = list(state.get(_METRICS, {}).values())
        same &= len(self._metrics) in (0, len(model.metrics_variables))
        if not known or not same or own or any(self.stateful[name].state() for name in absent):
            raise InputError(
                f"the checkpoints in {self.workdir} were written with other variables or callbacks; resume "
                "with the same version of selfsup and the same callbacks, or start again with --overwrite"
            )
        for variable, array in zip(current, saved, strict=True):
            variable.assign(array)
        for variable, array in zip(probe, learned, strict=False):
            variable.assign(array)
        for name, owner in self.stateful.items():
            owner.restore(state.get(name, {}))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._metrics:  # `fit` has just reset those of the interrupted epoch
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            self._diverge()
        elif batch + 1 < self.params["steps"] and self._due():  # `on_epoch_end` saves after the last batch
            self._save()
            self.interruption.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.diverged:
            return
        self._save()
        if self.model.stop_training or epoch + 1 == self.params["epochs"]:
            self._trained = digest(self.model)  # `on_train_end` follows
        else:
            self._due()
            self.interruption.check()

    def on_train_end(self, logs: Any = None) -> None:
        self._wait()
        if self.diverged:
            return
        changed = digest(self.model) != self._trained  # Keras' EarlyStopping may restore the best weights
        if changed or self.model.stop_training:
            self._mark_end(variables(self.model) if changed else {})
        self._due()
        self.interruption.check()

    def _mark_end(self, final: Mapping[str, keras.Variable]) -> None:
        """Adds to the last checkpoint that no epoch follows, and the weights with which training ended."""
        last = checkpoints.latest(self.workdir, self.identity)
        if last is None or last.steps != self._saved:  # it could not be written
            return
        arrays = {**last.arrays, f"{_ENDED}/epochs": np.array(self.params["epochs"])}
        arrays |= {f"{FINAL}/{name}": to_numpy(variable) for name, variable in final.items()}
        with or_warning(f"the checkpoint of step {last.steps}"):
            checkpoints.save(self.workdir, self.identity, Checkpoint(last.steps, arrays))

    def _due(self) -> bool:
        """Whether a checkpoint is due on any machine. A signal to any machine becomes one to all."""
        due = int(time.perf_counter() - self._last >= self.seconds)
        late, signum = self.machines.largest(due, self.interruption.received or 0)
        if signum:
            self.interruption.received = signum
        return bool(late or signum)

    def _diverge(self) -> None:
        self.diverged = self.model.stop_training = True

    def _save(self) -> None:
        sync(self.model)
        steps = int(ops.convert_to_numpy(self.model.steps))
        partial = steps % self.params["steps"] > 0
        metrics = self.model.metrics_variables if partial else []
        state = {MODEL: variables(self.model)}
        for name, group in ((_METRICS, metrics), (_PROBE, _probe_state(self.model))):
            state[name] = {f"{i:03d}": v for i, v in enumerate(group)}
        copies = {
            f"{owner}/{name}": ops.copy(variable)  # on the device; the next step reuses the original
            for owner, group in state.items()
            for name, variable in group.items()
        }
        others = {
            f"{name}/{key}": own_copy(f"{name}/{key}", value)
            for name, owner in self.stateful.items()
            for key, value in owner.state().items()
        }
        self._wait()
        if not self.diverged:
            self._writing = self._thread.submit(self._write, steps, copies, others)
            self._saved = steps
        self._last = time.perf_counter()

    def _write(self, steps: int, copies: Mapping[str, Any], others: Mapping[str, np.ndarray]) -> bool:
        """Writes a checkpoint unless a variable is not finite; returns whether all are."""
        arrays = {name: to_numpy(value) for name, value in copies.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            return False
        with or_warning(f"the checkpoint of step {steps}"):
            checkpoints.save(self.workdir, self.identity, Checkpoint(steps, {**arrays, **others}))
        return True

    def _wait(self) -> None:
        """Waits for the thread. Training ends if it found a variable that is not finite."""
        if self._writing is not None and not self._writing.result():
            self._diverge()
