"""The constants of the equations, and the time of a training step."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from selfsup.config import Config
from selfsup.utils.errors import InputError

Array: TypeAlias = np.ndarray


@dataclass(frozen=True)
class Constants:
    """The constants of the equations of Tian et al. 2021 (Lemma 1).

    Time is measured such that the weights follow dW/dt = -gradient - eta W.

    Attributes:
        eta: weight decay of the projector W.
        eta_p: weight decay of the predictor W_p in the same time; None for eta, as in Lemma 1. It includes
            alpha_p, because the optimizer multiplies the penalty by the predictor's rate, too.
        alpha_p: learning rate of W_p relative to that of W.
        beta: rate at which the target follows the online network; infinite if they are equal, without EMA.
        dt: time of one training step.
        momentum: of SGD. It counts only in `times_from_rest`.

    Example:
        >>> Constants(eta=0.1).predictor_decay
        0.1
    """

    eta: float = 0.0
    eta_p: float | None = None
    alpha_p: float = 1.0
    beta: float = math.inf
    dt: float = 1.0
    momentum: float = 0.0

    @property
    def predictor_decay(self) -> float:
        """Weight decay of W_p."""
        return self.eta if self.eta_p is None else self.eta_p

    @classmethod
    def from_config(cls, config: Config) -> "Constants":
        """Returns the constants of a run.

        A step of momentum SGD takes the time learning_rate / (1 - momentum). If a rule sets W_p, alpha_p and
        eta_p have no meaning.

        Raises:
            InputError: a schedule changes the learning rate or tau, which these equations keep constant.

        Example:
            >>> found = Constants.from_config(Config(method="byol"))
            >>> round(found.dt, 6), round(found.beta, 6), found.alpha_p, found.eta
            (0.3, 0.013333, 1.0, 0.0004)
        """
        resolved = config.resolved
        if resolved.scheduled:
            raise InputError("the equations of the theory have constant rates; this config has a schedule")
        dt = config.learning_rate / (1.0 - config.momentum)
        return cls(
            eta=config.weight_decay,
            eta_p=resolved.alpha_p * resolved.predictor_weight_decay,
            alpha_p=resolved.alpha_p,
            beta=(1.0 - resolved.tau) / dt if resolved.ema else math.inf,
            dt=dt,
            momentum=config.momentum,
        )

    def times(self, steps: Array | float) -> Array:
        """Returns the time after numbers of training steps."""
        return np.asarray(steps, np.float64) * self.dt

    def times_from_rest(self, steps: Array | float) -> Array:
        """Returns the time after numbers of steps of a run that starts with a momentum of zero.

        A constant force then moves a weight as it would in `dt` (n - m (1 - m^n) / (1 - m)) without momentum:
        after many steps, m / (1 - m) steps are missing.

        Example:
            >>> constants = Constants(dt=0.5, momentum=0.9)
            >>> constants.times_from_rest(np.array([0, 1, 1000])).round(3).tolist()
            [0.0, 0.05, 495.5]
        """
        steps = np.asarray(steps, np.float64)
        m = self.momentum
        return self.times(steps - m * (1.0 - m**steps) / (1.0 - m))
