"""Keeps the last good state of a run, and goes on from it to exactly the same end."""

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
    """A part of a run whose state is in its checkpoints."""

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
        found.update(np.ascontiguousarray(ops.convert_to_numpy(variable)))
    return found.hexdigest()


class Checkpoints(keras.callbacks.Callback):
    """Saves a run at the end of every epoch and every few minutes, and stops it where it must stop.

    The loss is looked at after every execution of a few steps. Once it, or a variable, is not finite,
    training ends and nothing is saved any more: the last checkpoint is of the last good state. A signal
    is answered by a checkpoint and `Interrupted`. Stands last in the list of callbacks.

    Args:
        workdir, identity: the run.
        parts: what has state beside the model, by name.
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
        parts: Mapping[str, Stateful],
        minutes: float,
        interruption: Interruption,
        machines: Machines,
    ) -> None:
        super().__init__()
        self.workdir, self.identity, self.parts = workdir, identity, parts
        self.seconds, self.interruption, self.machines = 60.0 * minutes, interruption, machines
        self.diverged = False
        self._last = time.perf_counter()
        self._metrics: list[np.ndarray] = []

    def restore(self, model: SiameseModel, checkpoint: Checkpoint) -> None:
        """Sets the model and all parts to a checkpoint; metrics at the first epoch's begin.

        Raises:
            InputError: the checkpoint was written by a version of the package with other variables.
        """
        state: dict[str, dict[str, np.ndarray]] = {}
        for name, array in checkpoint.arrays.items():
            part, _, key = name.partition("/")
            state.setdefault(part, {})[key] = array
        own = variables(model)
        if set(state) - {_METRICS} != {_MODEL, *self.parts} or state[_MODEL].keys() != own.keys():
            raise InputError(
                f"the checkpoints in {self.workdir} are of another version of selfsup; "
                "go on with that one, or start anew with --overwrite"
            )
        for name, variable in own.items():
            variable.assign(state[_MODEL][name])
        self._metrics = list(state.get(_METRICS, {}).values())
        for name, part in self.parts.items():
            part.restore(state[name])

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
        late = time.perf_counter() - self._last >= self.seconds
        late, signum = self.machines.largest(int(late), self.interruption.received or 0)
        if signum:
            self.interruption.received = signum
        return bool(late or signum)

    def _diverge(self) -> None:
        self.diverged = self.model.stop_training = True

    def _save(self, metrics: list[keras.Variable]) -> None:
        getattr(self.model, "jax_state_sync", lambda: None)()  # on JAX the variables lag behind
        state = {_MODEL: variables(self.model), _METRICS: {f"{i:03d}": v for i, v in enumerate(metrics)}}
        arrays = {
            f"{part}/{name}": ops.convert_to_numpy(variable)
            for part, group in state.items()
            for name, variable in group.items()
        }
        if not all(np.isfinite(array).all() for array in arrays.values()):
            self._diverge()
            return
        for name, part in self.parts.items():
            arrays |= {f"{name}/{key}": value for key, value in part.state().items()}
        steps = int(ops.convert_to_numpy(self.model.steps))
        with or_warning(f"the checkpoint of step {steps}"):
            checkpoints.save(self.workdir, self.identity, Checkpoint(steps, arrays))
        self._last = time.perf_counter()
