"""Schedules of the learning rate and of the target's decay."""

import math
from typing import Any

import keras
from keras import ops

from selfsup.config import Config
from selfsup.utils.errors import InputError


def learning_rate(config: Config, steps_per_epoch: int | None = None) -> Any:
    """Returns the learning rate of a config: a number, or a schedule of Keras.

    During the warm-up, the rate rises linearly from 0. Under a cosine it then falls to 0 at the last step
    (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts).

    Args:
        config: the config.
        steps_per_epoch: training steps per epoch; needed unless the rate is constant.

    Raises:
        InputError: it is needed and missing.

    Example:
        >>> rate = learning_rate(Config(schedule="cosine", epochs=10), steps_per_epoch=100)
        >>> [round(float(rate(step)), 4) for step in (0, 500, 1000)]
        [0.03, 0.015, 0.0]
    """
    peak, warmup = config.learning_rate, config.warmup_epochs
    if config.schedule == "constant" and not warmup:
        return peak
    if steps_per_epoch is None:
        raise InputError("steps_per_epoch is missing; the schedule of the config needs it")
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else peak,
        decay_steps=(config.epochs - warmup) * steps_per_epoch,
        alpha=float(config.schedule == "constant"),  # the share of the peak at which the cosine ends
        warmup_target=peak if warmup else None,
        warmup_steps=warmup * steps_per_epoch,
    )


def cosine_tau(tau: float, step: Any, steps: int) -> Any:
    """Computes the target's decay in a step of a run: 1 - (1 - tau) (cos(pi step / steps) + 1) / 2.

    It rises from tau to 1 (Grill et al. 2020, arXiv:2006.07733, section 3.3).

    Args:
        tau: the decay in the first step, in [0, 1].
        step: completed steps before this one, a scalar of at least 0. After the last step tau stays 1.
        steps: steps of the run.

    Returns:
        A float32 scalar.

    Example:
        >>> [round(float(cosine_tau(0.99, step, steps=100)), 4) for step in (0, 50, 100)]
        [0.99, 0.995, 1.0]
    """
    share = ops.minimum(ops.cast(step, "float32") / steps, 1.0)
    return 1.0 - (1.0 - tau) * (ops.cos(math.pi * share) + 1.0) / 2.0
