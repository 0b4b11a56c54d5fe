"""The pre-training of a run: from its last checkpoint, or from scratch, to the last epoch."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from selfsup.backend.devices import resolve_precision
from selfsup.config import Config
from selfsup.data.batches import batches
from selfsup.data.datasets import Dataset
from selfsup.model import SiameseModel
from selfsup.records import checkpoints
from selfsup.records.checkpoints import Checkpoint, Identity
from selfsup.training.callbacks import EigenspaceLog, EpochLog, TensorBoardLog
from selfsup.training.context import Context
from selfsup.training.hooks import RunCallbacks, Timed
from selfsup.training.parts import Parts
from selfsup.training.progress import Progress
from selfsup.training.resume import Checkpointer

STEPS_PER_EXECUTION = 10


@dataclass(frozen=True)
class Start:
    """A model that is ready to train.

    Attributes:
        model: the siamese network, restored from the last checkpoint where there is one.
        untrained: the weights of its backbone before the first step.
        done: steps done by earlier processes, of `steps` in all.
        steps_per_epoch: the last partial batch of an epoch is dropped.
        log, progress, checkpointer: callbacks with the last row, the pace, and whether the run diverged.
        callbacks: all callbacks.
    """

    model: SiameseModel
    untrained: list[np.ndarray]
    done: int
    steps: int
    steps_per_epoch: int
    log: EpochLog
    progress: Progress
    checkpointer: Checkpointer
    callbacks: RunCallbacks


@dataclass(frozen=True)
class Pretrained:
    """What pre-training leaves: the model, its untrained backbone's weights, and the last records.

    Attributes:
        collapsed: by the rule of `selfsup.collapse`.
        diverged: whether the loss or a variable stopped being finite.
        monitor: the last row of the log.
        images_per_second: without the first execution, which compiles.
    """

    model: SiameseModel
    untrained: list[np.ndarray]
    collapsed: bool
    diverged: bool
    monitor: dict[str, float]
    images_per_second: float


def start(
    config: Config,
    data: Dataset,
    context: Context,
    parts: Parts | None = None,
    own: Sequence[keras.callbacks.Callback] = (),
    tensorboard: bool = False,
    checkpoint_minutes: float = 10.0,
) -> Start:
    """Builds model and callbacks and restores the last checkpoint.

    Args:
        config, data, context: of the run.
        parts: what is swapped.
        own: the user's callbacks. They come after the records' and before the checkpoints'; one with
            `state() -> dict of arrays` and `restore(state)` is kept in the checkpoints.
        tensorboard: whether to write the scalars for TensorBoard as well.
        checkpoint_minutes: minutes between two checkpoints inside an epoch.

    Raises:
        InputError: the checkpoints cannot be used, or TensorBoard is not installed.
    """
    parts = parts or Parts()
    steps = len(data.x_train) // config.batch_size
    identity = identity_of(config, data, parts)
    checkpoint = checkpoints.latest(context.workdir, identity)
    log = EpochLog(context.workdir, steps * config.batch_size)
    eigenspaces = EigenspaceLog(context.workdir, config.record_every, config.epochs)
    progress = Progress(config.epochs, steps, config.batch_size)
    stateful: dict[str, Any] = {"log": log, "eigenspaces": eigenspaces, "progress": progress}
    stateful["clock"] = context.clock
    for index, callback in enumerate(own):
        if hasattr(callback, "state") and hasattr(callback, "restore"):
            stateful[f"callback {index} {type(callback).__name__}"] = callback
    checkpointer = Checkpointer(
        context.workdir, identity, stateful, checkpoint_minutes, context.interruption, context.machines
    )
    timed: dict[str, list[keras.callbacks.Callback]] = {
        "callbacks": [progress, log],
        "records": [eigenspaces],
    }
    if tensorboard:
        timed["records"].append(TensorBoardLog(context.workdir, log, eigenspaces))
    ordered = [Timed(callback, context.clock, phase) for phase, group in timed.items() for callback in group]
    ordered += [Timed(callback, context.clock, "callbacks") for callback in own]
    ordered.append(Timed(checkpointer, context.clock, "checkpoints"))
    model, untrained = _build(config, data, context, parts, steps, checkpoint)
    if checkpoint:
        checkpointer.restore(model, checkpoint)
    callbacks = RunCallbacks(ordered, config.epochs, steps)
    callbacks.set_model(model)
    done = checkpoint.steps if checkpoint else 0
    total = config.epochs * steps
    return Start(model, untrained, done, total, steps, log, progress, checkpointer, callbacks)


def _build(
    config: Config, data: Dataset, context: Context, parts: Parts, steps: int, checkpoint: Checkpoint | None
) -> tuple[SiameseModel, list[np.ndarray]]:
    """The compiled model of the config's seed, and the weights of its backbone."""
    keras.utils.set_random_seed(config.seed)
    with context.devices.scope():
        model = SiameseModel(config, data.x_train, data.mean, data.std, **vars(parts))
        # An epoch, and the rest of an interrupted one, are whole numbers of executions.
        limit = context.devices.longest_execution or STEPS_PER_EXECUTION
        number = math.gcd(steps, checkpoint.steps if checkpoint else 0)
        model.compile(steps_per_execution=max(d for d in range(1, limit + 1) if number % d == 0))
        model.rank_every = min(model.rank_every, steps)
        return model, model.backbone.get_weights()


def pretrain(config: Config, start: Start, images: int, context: Context) -> Pretrained:
    """Trains to the last epoch, or until the run diverges.

    The rest of an interrupted epoch has a `fit` of its own: Keras takes the first epoch's length for all.

    Args:
        config, context: of the run.
        start: model and callbacks.
        images: number of training images.

    Raises:
        Interrupted: a signal came; the state is saved.
    """
    model, callbacks, steps = start.model, start.callbacks, start.steps_per_epoch

    def feed(epoch: int, position: int) -> Iterator[tuple[np.ndarray]]:
        for (indices,) in batches(images, config.batch_size, config.seed, epoch, position):
            yield (context.machines.rows(indices),)

    epoch, position = divmod(start.done, steps)
    whole = epoch + (position > 0)
    with context.clock.phase("steps"), context.interruption.deferred(), context.devices.scope():
        for first, last, skipped in ((epoch, whole, position), (whole, config.epochs, 0)):
            if first < last and not model.stop_training:
                callbacks.offset = skipped
                model.fit(
                    context.devices.feed(functools.partial(feed, first, skipped)),
                    steps_per_epoch=steps - skipped,
                    initial_epoch=first,
                    epochs=last,
                    shuffle=False,
                    verbose=0,
                    callbacks=callbacks,
                )
        callbacks.end()
    context.clock.move(start.progress.pace.compile_seconds, "steps", "compile")
    return Pretrained(
        model,
        start.untrained,
        start.log.collapsed,
        start.checkpointer.diverged,
        start.log.row,
        start.progress.images_per_second,
    )


def identity_of(config: Config, data: Dataset, parts: Parts | None = None) -> Identity:
    """What makes two runs the same run; backend and precision, for they change the numbers."""
    swapped = parts.describe() if parts else {}
    return {
        "config": config.fingerprint,
        "seed": config.seed,
        "data": data.fingerprint,
        "backend": keras.backend.backend(),
        "precision": resolve_precision(config.precision),
        **swapped,
    }
