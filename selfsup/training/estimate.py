"""How long runs will take on this machine's CPU, before they start."""

import time
from collections.abc import Sequence

import keras

from selfsup.analysis import probe
from selfsup.backend import devices
from selfsup.config import Config
from selfsup.data.datasets import Dataset, load_dataset
from selfsup.networks.resnet import resnet18

FORWARDS_PER_STEP = {"tensorflow": 9.0, "jax": 13.0}
"""Forward passes of a batch at inference that take as long as a step with EMA, on a CPU (measured)."""
WITHOUT_EMA = 0.75
STARTUP = 30.0
"""Seconds of a run before its first step and beside its steps (measured)."""


def forward_seconds(config: Config, network: keras.Model, data: Dataset) -> float | None:
    """Seconds of a forward pass of a batch at inference, timed here; None on a GPU, where it says too little.

    Args:
        config: of the run.
        network: of the config's width, compiled; any outputs.
        data: the images.
    """
    if devices.on_gpu():
        return None
    images = data.x_train[: config.batch_size]
    probe.embed(network, images, data.mean, data.std)
    began = time.perf_counter()
    probe.embed(network, images, data.mean, data.std)
    return time.perf_counter() - began


def training_seconds(config: Config, forward: float, images: int) -> float:
    """Seconds of all training steps on so many images, from `forward_seconds`."""
    passes = FORWARDS_PER_STEP[keras.backend.backend()] * (1.0 if config.ema else WITHOUT_EMA)
    return config.epochs * (images // config.batch_size) * forward * passes


def total_seconds(configs: Sequence[Config]) -> float | None:
    """Seconds of whole runs that share their data and network; None on a GPU.

    Raises:
        InputError: the data cannot be used.
    """
    data = load_dataset(configs[0].dataset, configs[0].data_dir)
    network = resnet18(configs[0].width, dtype=devices.resolve_precision(configs[0].precision))
    network.compile(jit_compile=devices.jit_compile())
    forward = forward_seconds(configs[0], network, data)
    if forward is None:
        return None
    images = len(data.x_train)
    features = forward * (images + len(data.x_test)) / configs[0].batch_size
    return sum(STARTUP + training_seconds(config, forward, images) + features for config in configs)
