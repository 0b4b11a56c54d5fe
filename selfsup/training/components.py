"""What a user can replace in a run: backbone, augmentation, loss, optimizer and initial weights."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import keras

from selfsup.losses import Loss
from selfsup.model import Views
from selfsup.networks.backbones import Backbone, copied, in_stock_layers, make_backbone
from selfsup.training.identity import describe
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
        InputError: the optimizer was used before, or a backbone given as a model is not usable.
    """

    backbone: Backbone | None = None
    augmentation: Views | None = None
    loss: Loss | None = None
    optimizer: keras.optimizers.Optimizer | None = None
    init_from: InitialWeights | None = None

    def __post_init__(self) -> None:
        if isinstance(self.backbone, keras.Model):
            in_stock_layers(make_backbone(self.backbone))
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

    @cached_property
    def described(self) -> dict[str, str]:
        """Descriptions of the replaced components by name; they are part of a run's identity."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: describe(component) for name, component in given.items() if component is not None}
