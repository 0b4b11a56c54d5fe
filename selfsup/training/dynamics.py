"""The callback that records what the theory is compared with."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from selfsup.backend.compiled import compiled
from selfsup.backend.step import sync
from selfsup.methods import METHODS
from selfsup.model import SiameseModel
from selfsup.records.dynamics import Dynamics
from selfsup.records.moments import is_due
from selfsup.training.callbacks import MomentsLog
from selfsup.training.state import is_final

MARKS = (10, 30, 100, 200)
"""Steps after which a recording is made, as soon as hooks are called, besides those at the ends of epochs."""
BATCHES = 2
"""Batches for the expectations: a recording costs their forward passes."""


class DynamicsLog(MomentsLog[Dynamics]):
    """Records `dynamics.npz`: untrained, after a few steps, and when `EigenspaceLog` records.

    Args:
        workdir: folder of the run.
        every: epochs between two recordings.
        epochs, steps: epochs of the run, and steps per epoch.
        batches: inputs of the model for the expectations; none in runs on several devices.
    """

    def __init__(self, workdir: Path, every: int, epochs: int, steps: int, batches: Sequence[Any]) -> None:
        super().__init__(workdir, every, epochs)
        self.steps, self.batches = steps, batches
        self._forward: Callable[[Any], dict[str, np.ndarray]] | None = None
        self._epoch = self._step = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step = self._epoch * self.steps + batch + 1
        if _marked(self.recorded.step[-1], self._step):
            self._record(self._step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if is_due(epoch + 1, self.every, self.epochs):
            self._record(self._step)  # of an epoch that is cut short, too

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned, without a final recording that is not due with more epochs."""
        recorded = Dynamics.from_arrays(state)
        epoch, rest = divmod(int(recorded.step[-1]), self.steps)
        marked = len(recorded) > 1 and _marked(*recorded.step[-2:])
        due = marked or (rest == 0 and is_due(epoch, self.every, self.epochs))
        final = is_final(state, epoch) or rest > 0
        self._recorded = recorded[:-1] if final and not due else recorded

    def _record(self, step: int) -> None:
        if step > self.recorded.step[-1]:
            self._recorded = self.recorded + self._measure(step)
            self._write()

    def _measure(self, step: int) -> Dynamics:
        model = self.model
        sync(model)
        correlation = ops.convert_to_numpy(model.correlation) if step else None
        self._forward = self._forward or _forward(model)
        outputs = [self._forward(batch) for batch in self.batches]
        return Dynamics.measure(step, model.predictor_weight(), correlation, outputs, _layers(model))


def _marked(before: int, step: int) -> bool:
    """Whether a mark lies after one step and not after another."""
    return any(before < mark <= step for mark in MARKS)


def _forward(model: SiameseModel) -> Callable[[Any], dict[str, np.ndarray]]:
    """Returns a function from a batch to z1, z2, t1 and t2 in training mode. It changes no variable.

    It is compiled, because the single operations of a network take several times as long.
    """

    @compiled
    def call(trainable: list[Any], others: list[Any], batch: Any) -> Mapping[str, Any]:
        return model.stateless_call(trainable, others, batch, training=True)[0]

    def forward(batch: Any) -> dict[str, np.ndarray]:
        groups = (model.trainable_variables, model.non_trainable_variables)
        trainable, others = ([v.value for v in group] for group in groups)
        outputs = call(trainable, others, ops.convert_to_tensor(batch))
        return {name: ops.convert_to_numpy(outputs[name]) for name in ("z1", "z2", "t1", "t2")}

    return forward


def _layers(model: SiameseModel) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the projector's last weight and the predictor's first over sqrt(alpha_p); None with a rule."""
    if METHODS[model.resolved.method].rule:
        return None
    kernels = (model.projector.layers[-1].kernel, model.predictor_kernels[0])
    weight, first = (ops.convert_to_numpy(kernel).astype(np.float64).T for kernel in kernels)
    return weight, first / np.sqrt(model.resolved.alpha_p)
