"""The time that runs will take on this machine, estimated from a few training steps."""

import time
from collections.abc import Iterable

import keras

from selfsup.config import Config
from selfsup.data.batches import batches, gather
from selfsup.data.dataset import Dataset
from selfsup.model import SiameseModel
from selfsup.training.loading import load, stored_images

STEPS = 10
STARTUP = 30.0
"""Seconds of a run outside of its steps and features (measured on two CPU cores)."""
FEATURES = 0.11
"""Time to compute the probe's features of one batch, in training steps (measured)."""


def step_seconds(config: Config, data: Dataset) -> float:
    """Returns the seconds per training step, measured over ten steps after a warm-up of ten."""
    steps = data.training_images // config.batch_size
    model = SiameseModel(config, stored_images(config, data), data.mean, data.std, steps_per_epoch=steps)
    model.compile(steps_per_execution=STEPS)
    ends: list[float] = []
    timer = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    order = (indices for (indices,) in batches(data.training_images, config.batch_size, config.seed))
    feed = ((indices if model.store is not None else gather(data, indices),) for indices in order)
    model.fit(feed, steps_per_epoch=2 * STEPS, shuffle=False, verbose=0, callbacks=[timer])
    return (ends[-1] - ends[0]) / STEPS


def total_seconds(configs: Iterable[Config]) -> float:
    """Returns the seconds of runs with the same data and network. Steps with and without EMA are measured.

    Raises:
        InputError: the data cannot be used.
    """
    timed: dict[bool, float] = {}
    data: Dataset | None = None
    total = 0.0
    for config in configs:
        data = data or load(config)
        ema = config.resolved.ema
        if ema not in timed:
            timed[ema] = step_seconds(config, data)
        images = len(data.x_train)
        features = (
            FEATURES * (images + len(data.x_test)) / config.batch_size if data.x_test is not None else 0
        )
        steps = config.epochs * (data.training_images // config.batch_size)
        total += STARTUP + (steps + features) * timed[ema]
    return total
