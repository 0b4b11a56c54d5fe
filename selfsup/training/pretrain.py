"""The pre-training of a run: a model and its callbacks, from the last checkpoint to the last epoch."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from selfsup.backend.devices import resolve_precision
from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.config import Config
from selfsup.data.datasets import Dataset, batches
from selfsup.model import SiameseModel
from selfsup.records import checkpoints
from selfsup.records.checkpoints import Identity
from selfsup.training.callbacks import EigenspaceLog, EpochLog, TensorBoardLog
from selfsup.training.progress import Progress
from selfsup.training.resume import Checkpoints
from selfsup.utils.clock import Clock
from selfsup.utils.interrupts import Interruption

STEPS_PER_EXECUTION = 10


@dataclass(frozen=True)
class Site:
    """Where a run is made: its folder, machines and devices, its clock, and what may stop it."""

    workdir: Path
    machines: Machines
    devices: Devices
    clock: Clock
    interruption: Interruption


class Pretraining:
    """A run up to its probe. Making it restores the last checkpoint, if there is one.

    Args:
        config, data, site: the run's.
        tensorboard: whether to write the scalars for TensorBoard as well.
        checkpoint_minutes: minutes between two checkpoints inside an epoch.

    Attributes:
        model: the siamese network.
        log, progress, keeper: the callbacks with the last row, the pace, and whether the run diverged.
        done: steps done in earlier processes, of `steps` in all.
        untrained: the backbone's first weights.

    Raises:
        InputError: the checkpoints cannot be used, or TensorBoard is not there.
    """

    def __init__(
        self, config: Config, data: Dataset, site: Site, tensorboard: bool, checkpoint_minutes: float
    ) -> None:
        self.config, self.site, self.images = config, site, len(data.x_train)
        self._steps = self.images // config.batch_size
        self.steps = config.epochs * self._steps
        workdir, clock = site.workdir, site.clock
        self.log = EpochLog(workdir, self._steps * config.batch_size)
        eigenspaces = EigenspaceLog(workdir, config.record_every, config.epochs)
        self.progress = Progress(config.epochs, self._steps, config.batch_size)
        parts = {"log": self.log, "eigenspaces": eigenspaces, "progress": self.progress, "clock": clock}
        identity = identity_of(config, data)
        self.keeper = Checkpoints(
            workdir, identity, parts, checkpoint_minutes, site.interruption, site.machines
        )
        self.callbacks = [clock.watch(self.progress, "callbacks"), clock.watch(self.log, "callbacks")]
        self.callbacks.append(clock.watch(eigenspaces, "records"))
        if tensorboard:
            self.callbacks.append(clock.watch(TensorBoardLog(workdir, self.log, eigenspaces), "records"))
        self.callbacks.append(clock.watch(self.keeper, "checkpoints"))
        checkpoint = checkpoints.latest(workdir, identity)
        self.done = checkpoint.steps if checkpoint else 0
        keras.utils.set_random_seed(config.seed)
        with site.devices.scope():
            self.model = SiameseModel(config, data.x_train, data.mean, data.std)
            self.model.compile(steps_per_execution=self._execution())
            self.model.rank_every = min(self.model.rank_every, self._steps)
            self.untrained = self.model.backbone.get_weights()
            if checkpoint:
                self.keeper.restore(self.model, checkpoint)

    def _execution(self) -> int:
        """Steps of an execution: an epoch, and the rest of an interrupted one, are whole numbers of them."""
        limit = self.site.devices.longest_execution or STEPS_PER_EXECUTION
        number = math.gcd(self._steps, self.done)
        return max(d for d in range(1, limit + 1) if number % d == 0)

    def fit(self) -> None:
        """Trains to the end, or until the run diverges.

        The rest of an interrupted epoch has a `fit` of its own: Keras takes the first epoch's length for all.

        Raises:
            Interrupted: a signal came; the state is saved.
        """
        epoch, position = divmod(self.done, self._steps)
        whole = epoch + (position > 0)
        with self.site.interruption.deferred(), self.site.devices.scope():
            for first, last, skipped in ((epoch, whole, position), (whole, self.config.epochs, 0)):
                if first < last and not self.model.stop_training:
                    self.model.fit(
                        self.site.devices.feed(functools.partial(self._batches, first, skipped)),
                        steps_per_epoch=self._steps - skipped,
                        initial_epoch=first,
                        epochs=last,
                        shuffle=False,
                        verbose=0,
                        callbacks=self.callbacks,
                    )

    def _batches(self, epoch: int, position: int) -> Iterator[tuple[np.ndarray]]:
        config = self.config
        for (indices,) in batches(self.images, config.batch_size, config.seed, epoch, position):
            yield (self.site.machines.rows(indices),)


def identity_of(config: Config, data: Dataset) -> Identity:
    """What makes two runs the same run; backend and precision, for the numbers would not be the same."""
    return {
        "config": config.fingerprint,
        "seed": config.seed,
        "data": data.fingerprint,
        "backend": keras.backend.backend(),
        "precision": resolve_precision(config.precision),
    }
