"""How long runs will take on this machine, from a few training steps."""

import time
from collections.abc import Iterable
from typing import Any

import keras

from selfsup.config import Config
from selfsup.data.batches import batches
from selfsup.data.datasets import Dataset, load_dataset
from selfsup.model import SiameseModel

STEPS = 10
STARTUP = 30.0
"""Seconds that a run spends before its first step and beside its steps (measured on two CPU cores)."""
FEATURES = 0.11
"""Share of a step's time that the features of as many images take for the probe (measured)."""


class _Ends(keras.callbacks.Callback):
    """When each execution ended."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter())


def step_seconds(config: Config, data: Dataset) -> float:
    """Seconds of a training step, timed over ten of them after ten others."""
    model = SiameseModel(config, data.x_train, data.mean, data.std)
    model.compile(steps_per_execution=STEPS)
    ends = _Ends()
    feed = batches(len(data.x_train), config.batch_size, config.seed)
    model.fit(feed, steps_per_epoch=2 * STEPS, shuffle=False, verbose=0, callbacks=[ends])
    return (ends.seconds[-1] - ends.seconds[-1 - STEPS if keras.backend.backend() == "jax" else 0]) / STEPS


def total_seconds(configs: Iterable[Config]) -> float:
    """Seconds of whole runs that share their data and network; steps with and without EMA are timed.

    Raises:
        InputError: the data cannot be used.
    """
    timed: dict[bool, float] = {}
    data: Dataset | None = None
    total = 0.0
    for config in configs:
        data = data or load_dataset(config.dataset, config.data_dir)
        ema = config.resolved.ema
        if ema not in timed:
            timed[ema] = step_seconds(config, data)
        images = len(data.x_train)
        features = FEATURES * (images + len(data.x_test)) / config.batch_size
        total += STARTUP + (config.epochs * (images // config.batch_size) + features) * timed[ema]
    return total
