"""The pre-training of a run, from its last checkpoint or from scratch to the last epoch."""

import functools
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np

from selfsup.analysis.encoder import probed_model
from selfsup.backend.devices import resolve_precision
from selfsup.config import Config
from selfsup.data.batches import ahead, batches, gather, labels_of
from selfsup.data.dataset import Dataset
from selfsup.model import SiameseModel
from selfsup.networks.backbones import in_stock_layers
from selfsup.records import checkpoints
from selfsup.training.callbacks import EigenspaceLog, EpochLog, TensorBoardLog
from selfsup.training.components import Components
from selfsup.training.context import Context, RunOptions
from selfsup.training.dynamics import BATCHES, DynamicsLog
from selfsup.training.early import EarlyEvaluation
from selfsup.training.hooks import RunCallbacks, Timed
from selfsup.training.loading import stored_images
from selfsup.training.progress import Progress
from selfsup.training.resume import CALLBACK, Checkpointer
from selfsup.training.stop import StopOnCollapse

STEPS_PER_EXECUTION = 10


@dataclass(frozen=True)
class Setup:
    """A model that is ready to train, and its callbacks.

    Attributes:
        model: the siamese network, restored from the last checkpoint if there is one.
        untrained: the weights of its backbone before the first step.
        done, steps: steps completed before this process, and steps of the whole run.
        steps_per_epoch: steps per epoch.
        probed: the online network as a model from images to the features that are evaluated.
        log, progress, checkpointer: callbacks that also say whether the run has collapsed, how fast it was,
            and whether it has diverged.
        callbacks: all callbacks.
    """

    model: SiameseModel
    untrained: list[np.ndarray]
    done: int
    steps: int
    steps_per_epoch: int
    probed: keras.Model
    log: EpochLog
    progress: Progress
    checkpointer: Checkpointer
    callbacks: RunCallbacks


def set_up(
    config: Config, data: Dataset, context: Context, components: Components, options: RunOptions
) -> Setup:
    """Builds the model and the callbacks, and restores the last checkpoint.

    Raises:
        InputError: the checkpoints cannot be used, or tensorboard is not installed.
        Collapsed: the run had already collapsed, and `stop_on_collapse` is true.
    """
    steps = data.training_images // config.batch_size
    identity = identity_of(config, data, components)
    checkpoint = checkpoints.latest(context.workdir, identity)
    done = checkpoint.steps if checkpoint else 0
    model, untrained = _build(config, data, context, components, steps, done)
    probed = probed_model(model.backbone, model.projector, reuse=config.projector_layers > 2)
    every = config.evaluate_every if context.devices.size == 1 else 0
    early = EarlyEvaluation(probed, data, every, config.epochs, config.seed)
    log = EpochLog(context.workdir, config, early.due)
    eigenspaces = EigenspaceLog(context.workdir, config.record_every, config.epochs)
    progress = Progress(config.epochs, steps, config.batch_size)
    fixed = _fixed_batches(model, data) if context.devices.size == 1 else []
    dynamics = DynamicsLog(context.workdir, config.record_every, config.epochs, steps, fixed)
    stateful: dict[str, Any] = {"log": log, "eigenspaces": eigenspaces, "dynamics": dynamics}
    stateful |= {"progress": progress, "clock": context.clock}
    for index, callback in enumerate(options.callbacks):
        if hasattr(callback, "state") and hasattr(callback, "restore"):
            stateful[f"{CALLBACK}{index} {type(callback).__name__}"] = callback
    checkpointer = Checkpointer(
        context.workdir,
        identity,
        stateful,
        options.checkpoint_minutes,
        context.interruption,
        context.machines,
    )
    timed: dict[str, list[keras.callbacks.Callback]] = {
        "evaluations": [early],
        "callbacks": [progress, log],
        "records": [eigenspaces, dynamics],
    }
    if options.tensorboard:
        timed["records"].append(TensorBoardLog(context.workdir, log, eigenspaces))
    ordered = [Timed(callback, context.clock, phase) for phase, group in timed.items() for callback in group]
    ordered += [Timed(callback, context.clock, "callbacks") for callback in options.callbacks]
    ordered.append(Timed(checkpointer, context.clock, "checkpoints"))
    if checkpoint:
        checkpointer.restore(model, checkpoint, config.epochs)
    if options.stop_on_collapse:
        stop = StopOnCollapse(log, checkpointer)
        stop.check()
        ordered.append(Timed(stop, context.clock, "checkpoints"))
    callbacks = RunCallbacks(ordered, config.epochs, steps)
    callbacks.set_model(model)
    total = done if checkpointer.ended else config.epochs * steps
    return Setup(model, untrained, done, total, steps, probed, log, progress, checkpointer, callbacks)


def _build(
    config: Config, data: Dataset, context: Context, components: Components, steps: int, done: int
) -> tuple[SiameseModel, list[np.ndarray]]:
    """Returns the compiled model, initialised from the config's seed, and its backbone's weights."""
    keras.utils.set_random_seed(config.seed)
    with context.devices.scope():
        model = SiameseModel(
            config, stored_images(config, data), data.mean, data.std,
            classes=data.classes or None, steps_per_epoch=steps, **components.of_model(),
        )  # fmt: skip
        # The number of steps per execution must divide an epoch and the rest of an interrupted epoch.
        limit = context.devices.longest_execution or STEPS_PER_EXECUTION
        longest = _longest_execution(math.gcd(steps, done), limit)
        if components.backbone:
            in_stock_layers(model.backbone)  # raises an error now instead of after the training
        model.compile(components.optimizer, steps_per_execution=longest)
        if components.init_from:
            components.init_from.assign(model)
        model.rank_every = min(model.rank_every, steps)
        return model, model.backbone.get_weights()


def _longest_execution(steps: int, limit: int) -> int:
    """Returns the largest divisor of `steps` up to a limit."""
    return max(d for d in range(1, limit + 1) if steps % d == 0)


def _fixed_batches(model: SiameseModel, data: Dataset) -> list[np.ndarray]:
    """Returns fixed batches for the recordings: indices, or images if these are not on the device."""
    order = batches(data.training_images, model.config.batch_size, model.config.seed)
    chosen = [indices for (indices,) in islice(order, BATCHES)]
    return chosen if model.store is not None else [gather(data, indices) for indices in chosen]


def pretrain(config: Config, setup: Setup, data: Dataset, context: Context) -> None:
    """Trains to the last epoch, or until the run diverges.

    The rest of an interrupted epoch is a separate `fit`, because Keras keeps the length of the first epoch.

    Args:
        config, context: config and execution context of the run.
        setup: model and callbacks.
        data: the training images. Those that are not on the device are read in a thread.

    Raises:
        Interrupted: a signal stopped the run; its state is saved.
        Collapsed: the run has collapsed, and `stop_on_collapse` is true; its state is saved.
    """
    model, callbacks, steps = setup.model, setup.callbacks, setup.steps_per_epoch

    def make(indices: np.ndarray) -> tuple[np.ndarray, ...]:
        batch = indices if model.store is not None else gather(data, indices)
        return (batch, labels_of(data, indices)) if data.labelled else (batch,)

    def feed(epoch: int, position: int) -> Iterator[tuple[np.ndarray, ...]]:
        order = batches(data.training_images, config.batch_size, config.seed, epoch, position)
        rows = (context.machines.rows(indices) for (indices,) in order)
        return (make(indices) for indices in rows) if model.store is not None else ahead(make, rows)

    epoch, position = divmod(setup.done, steps)
    whole = epoch + (position > 0)
    parts = ((epoch, whole, position), (whole, config.epochs, 0)) if setup.done < setup.steps else ()
    with (
        context.clock.phase("steps"),
        context.interruption.deferred(),
        closing(setup.checkpointer),
        context.devices.scope(),
    ):
        for first, last, skipped in parts:
            if first < last and not model.stop_training:
                callbacks.offset = skipped
                with _without_final_average(model.optimizer):
                    model.fit(
                        context.devices.feed(functools.partial(feed, first, skipped)),
                        steps_per_epoch=steps - skipped,
                        initial_epoch=first,
                        epochs=last,
                        shuffle=False,
                        verbose=0,
                        callbacks=callbacks,
                    )
        if not setup.checkpointer.ended:
            model.optimizer.finalize_variable_values(model.trainable_weights)
        callbacks.end()
    context.clock.move(setup.progress.pace.compile_seconds, "steps", "compile")


@contextmanager
def _without_final_average(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Keeps `fit` from replacing the weights by their average at its end if the optimizer has `use_ema`."""
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values


def identity_of(config: Config, data: Dataset, components: Components) -> dict[str, str | int]:
    """Returns the identity of a run. It includes backend and precision because they change the numbers."""
    return {
        "config": config.training,
        "seed": config.seed,
        "data": data.fingerprint,
        "backend": keras.backend.backend(),
        "precision": resolve_precision(config.precision),
        **components.described,
    }
