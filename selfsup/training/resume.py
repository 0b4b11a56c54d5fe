"""Keeps the last good state of a run, and resumes from it to exactly the same end."""

import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from selfsup.backend.machines import Machines
from selfsup.model import SiameseModel
from selfsup.records import checkpoints
from selfsup.records.checkpoints import Checkpoint, Identity
from selfsup.utils.errors import InputError
from selfsup.utils.files import or_warning
from selfsup.utils.interrupts import Interruption

_MODEL, _METRICS = "model", "metrics"


class Stateful(Protocol):
    """Something whose state belongs into the checkpoints of a run."""

    def state(self) -> dict[str, np.ndarray]: ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None: ...


def variables(model: SiameseModel) -> dict[str, keras.Variable]:
    """All that a step changes, by path, but for the metrics: weights, F, step count, optimizer's slots.

    Random numbers need nothing more: augmentation and order are functions of the seed and the step count.
    """
    images = set() if model.store is None else {id(v) for v in model.store.weights}
    own = [v for v in model.weights if id(v) not in images]
    return {f"{index:03d} {v.path}": v for index, v in enumerate([*own, *model.optimizer.variables])}


def digest(model: SiameseModel) -> str:
    """SHA-256 of all that training has changed."""
    found = hashlib.sha256()
    for name, variable in variables(model).items():
        found.update(name.encode())
        found.update(np.ascontiguousarray(ops.convert_to_numpy(variable)).data)
    return found.hexdigest()


class Checkpointer(keras.callbacks.Callback):
    """Saves a run at the end of every epoch and every few minutes, and stops it where it must stop.

    The loss is looked at after every execution of a few steps. Once it, or a variable, is not finite,
    training ends and nothing is saved any more: the last checkpoint is of the last good state. A signal
    is answered by a checkpoint and `Interrupted`. Stands last in the list of callbacks.

    Args:
        workdir, identity: the run.
        stateful: what has state besides the model, by name.
        minutes: between two checkpoints at most.
        interruption: where signals are noted; one on any machine is one on all.
        machines: of the run.

    Attributes:
        diverged: whether the loss or a variable stopped being finite.
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
        self.diverged = False
        self._last = time.perf_counter()
        self._metrics: list[np.ndarray] = []

    def restore(self, model: SiameseModel, checkpoint: Checkpoint) -> None:
        """Sets the model and everything stateful to a checkpoint; metrics follow when the epoch begins.

        Raises:
            InputError: the checkpoint was written by a version of the package with other variables.
        """
        state: dict[str, dict[str, np.ndarray]] = {}
        for name, array in checkpoint.arrays.items():
            owner_name, _, key = name.partition("/")
            state.setdefault(owner_name, {})[key] = array
        own = list(variables(model).values())
        saved = list(state[_MODEL].values())  # in the same order; unnamed layers may have other names
        same = [tuple(v.shape) for v in own] == [array.shape for array in saved]
        if set(state) - {_METRICS} != {_MODEL, *self.stateful} or not same:
            raise InputError(
                f"the checkpoints in {self.workdir} were written with other variables or callbacks; resume "
                "with the same version of selfsup and the same callbacks, or start again with --overwrite"
            )
        for variable, array in zip(own, saved, strict=True):
            variable.assign(array)
        self._metrics = list(state.get(_METRICS, {}).values())
        for name, owner in self.stateful.items():
            owner.restore(state[name])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._metrics:  # of an interrupted epoch; `fit` has just reset them
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            self._diverge()
        elif batch + 1 < self.params["steps"] and self._due():  # else the epoch's end saves, with its records
            self._save(self.model.metrics_variables)
            self.interruption.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.diverged:
            self._save([])
            self._due()
            self.interruption.check()

    def _due(self) -> bool:
        """Whether it is time for a checkpoint on any machine, or a signal came: it is then one on all."""
        due = int(time.perf_counter() - self._last >= self.seconds)
        late, signum = self.machines.largest(due, self.interruption.received or 0)
        if signum:
            self.interruption.received = signum
        return bool(late or signum)

    def _diverge(self) -> None:
        self.diverged = self.model.stop_training = True

    def _save(self, metrics: list[keras.Variable]) -> None:
        getattr(self.model, "jax_state_sync", lambda: None)()  # on JAX the variables lag behind
        state = {_MODEL: variables(self.model), _METRICS: {f"{i:03d}": v for i, v in enumerate(metrics)}}
        arrays = {
            f"{owner}/{name}": ops.convert_to_numpy(variable)
            for owner, group in state.items()
            for name, variable in group.items()
        }
        if not all(np.isfinite(array).all() for array in arrays.values()):
            self._diverge()
            return
        for name, owner in self.stateful.items():
            arrays |= {f"{name}/{key}": value for key, value in owner.state().items()}
        steps = int(ops.convert_to_numpy(self.model.steps))
        with or_warning(f"the checkpoint of step {steps}"):
            checkpoints.save(self.workdir, self.identity, Checkpoint(steps, arrays))
        self._last = time.perf_counter()
