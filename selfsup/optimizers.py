"""SGD with a coupled L2 penalty, and with another learning rate and penalty for groups of weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from selfsup.backend import replicas
from selfsup.config import Config
from selfsup.networks.siamese import PREDICTOR
from selfsup.schedules import learning_rate
from selfsup.utils.errors import InputError


@dataclass(frozen=True)
class Group:
    """Weights whose path starts with the group's name.

    Attributes:
        rate_ratio: their learning rate relative to the optimizer's, above 0.
        weight_decay: their coupled L2 penalty.
    """

    rate_ratio: float
    weight_decay: float


@keras.saving.register_keras_serializable("selfsup")
class CoupledSGD(keras.optimizers.SGD):
    """Momentum SGD as PyTorch has it: g + weight_decay * w goes into the momentum.

    Keras' own `weight_decay` is decoupled (Loshchilov and Hutter 2019), which is not what the papers use.
    Kernels and the gamma and beta of batch norms decay, biases do not (the paper's published code).

    At a constant rate the steps are PyTorch's. When the rate changes they differ: Keras keeps the rate inside
    the velocity, v <- momentum * v - rate * g and w <- w + v, so that a new rate applies to new gradients
    only; PyTorch multiplies the whole velocity by it. Keras' clipping applies to the gradient with its
    penalty, times the `rate_ratio` of its group.

    Args:
        learning_rate: of the weights outside all groups: a number above 0, or a schedule of Keras.
        momentum: in [0, 1).
        l2: coupled penalty of the weights outside all groups.
        groups: a `Group` by the name with which the paths of its weights start.

    Raises:
        InputError: when it is built, a group has no weights.

    Example:
        >>> optimizer = CoupledSGD(0.03, l2=4e-4, groups={"predictor": Group(10.0, 0.0)})
        >>> round(float(optimizer.learning_rate), 4)
        0.03
    """

    def __init__(
        self,
        learning_rate: Any = 0.03,
        momentum: float = 0.9,
        l2: float = 0.0,
        groups: Mapping[str, Group | Mapping[str, float]] | None = None,
        name: str = "coupled_sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum, name=name, **kwargs)
        self.l2 = l2
        self.groups = {
            path: group if isinstance(group, Group) else Group(**group)
            for path, group in (groups or {}).items()
        }
        self._base = Group(1.0, l2)

    def build(self, variables: Any) -> None:
        """Creates the velocities of trainable variables."""
        if missing := sorted(set(self.groups) - {v.path.split("/")[0] for v in variables}):
            raise InputError(f"groups: no weight has a path that starts with {missing[0]!r}")
        super().build(variables)

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Applies one step; `grads` and variables as `keras.optimizers.Optimizer.apply` takes them."""
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        grads = [self._penalised(g, v) for g, v in zip(grads, variables, strict=True)]
        return super().apply(grads, trainable_variables)

    def _penalised(self, gradient: Any, variable: Any) -> Any:
        group = self.groups.get(variable.path.split("/")[0], self._base)
        if gradient is None:
            return None
        if group.weight_decay and not variable.path.endswith("/bias"):
            share = group.weight_decay / replicas.count()  # the devices' gradients are summed
            gradient = gradient + share * keras.ops.convert_to_tensor(variable)
        return gradient if group.rate_ratio == 1 else gradient * group.rate_ratio

    def get_config(self) -> dict[str, Any]:
        groups = {path: vars(group) for path, group in self.groups.items()}
        return {**super().get_config(), "l2": self.l2, "groups": groups}


def from_config(config: Config, steps_per_epoch: int | None = None) -> CoupledSGD:
    """Returns the optimizer of a run. Schedules need the number of training steps per epoch."""
    groups, resolved = {}, config.resolved
    if resolved.trains_predictor:
        groups[PREDICTOR] = Group(resolved.alpha_p, resolved.predictor_weight_decay)
    rate = learning_rate(config, steps_per_epoch)
    return CoupledSGD(rate, config.momentum, config.weight_decay, groups)
