"""What a user can replace in a run: backbone, augmentation, loss, optimizer and initial weights."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import keras

from selfsup.losses import Loss
from selfsup.model import Views
from selfsup.networks.backbones import Backbone, copied, make_backbone
from selfsup.training.initial import InitialWeights
from selfsup.utils.errors import InputError


@dataclass(frozen=True)
class Components:
    """What replaces the paper's components; None keeps the paper's.

    Attributes:
        backbone, augmentation, loss: see `SiameseModel`.
        optimizer: a Keras optimizer that has not been used; the config's learning rate, momentum, penalties
            and schedule then do not apply.
        init_from: the weights of another run to start from.

    Raises:
        InputError: the optimizer was used before.
    """

    backbone: Backbone | None = None
    augmentation: Views | None = None
    loss: Loss | None = None
    optimizer: keras.optimizers.Optimizer | None = None
    init_from: InitialWeights | None = None

    def __post_init__(self) -> None:
        if self.optimizer is None:
            return
        if not isinstance(self.optimizer, keras.optimizers.Optimizer):
            raise InputError(f"optimizer must be a Keras optimizer, not {self.optimizer!r}")
        if self.optimizer.built:
            raise InputError("optimizer has been used before; pass a new one")

    def of_model(self) -> dict[str, Any]:
        """Returns the components that are arguments of `SiameseModel`, by name.

        A backbone given as a model is copied, so that the next run does not start from what this one learns.

        Raises:
            InputError: the backbone is not usable, see `make_backbone`.
        """
        backbone = self.backbone
        if isinstance(backbone, keras.Model):
            backbone = copied(make_backbone(backbone), backbone.name)
        return {"backbone": backbone, "augmentation": self.augmentation, "loss": self.loss}

    def describe(self) -> dict[str, str]:
        """Returns a description of each replaced component by name; it is part of a run's identity."""
        return {name: _describe(value) for name, value in vars(self).items() if value is not None}


def _describe(component: Any) -> str:
    if isinstance(component, keras.Model):
        checksum = hashlib.sha256(component.to_json().encode())
        for array in component.get_weights():
            checksum.update(array.tobytes())
        return f"{component.name} {checksum.hexdigest()[:8]}"
    if isinstance(component, keras.optimizers.Optimizer):
        settings = json.dumps(component.get_config(), sort_keys=True, default=str)
        return f"{type(component).__name__} {hashlib.sha256(settings.encode()).hexdigest()[:8]}"
    if hasattr(component, "__qualname__"):
        return f"{component.__module__}.{component.__qualname__}"
    return repr(component)
