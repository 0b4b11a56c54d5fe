"""How a `SiameseModel` is compiled, saved without its weights, and built again by `load_model`."""

from dataclasses import asdict
from typing import Any

import keras

from selfsup.backend.devices import jit_compile
from selfsup.backend.step import StepModel
from selfsup.config import Config
from selfsup.optimizers import from_config
from selfsup.utils.errors import InputError

_PARTS = ("augmentation", "loss", "backbone")


class SavedModel(StepModel):
    """A `SiameseModel` without its networks: its optimizer, and its arguments in a serialised form."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, serialised. Functions must be registered with Keras."""
        given = {name: value for name, value in self._given.items() if value is not None}
        if not self._default_backbone:
            given["backbone"] = self.backbone
        names = ("mean", "std", "classes", "steps_per_epoch", "name")
        plain = {"config": asdict(self.config), **{name: getattr(self, name) for name in names}}
        return plain | {name: keras.saving.serialize_keras_object(value) for name, value in given.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SavedModel":
        """Builds the model from what `get_config` returned."""
        config = {**config, "config": Config(**config["config"])}
        for name in set(_PARTS) & config.keys():
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)

    def compile(self, optimizer: Any = None, loss: Any = None, **kwargs: Any) -> None:
        """Compiles the model; by default with the config's optimizer, and with XLA if that is faster.

        Raises:
            InputError: a loss is given, which is an argument of the constructor; or the optimizer
                accumulates gradients, while F and the target change in every step.
        """
        if loss is not None or kwargs.get("loss_weights") is not None:
            raise InputError("compile takes no loss; pass it to SiameseModel(config, loss=...)")
        if getattr(optimizer, "gradient_accumulation_steps", None):
            raise InputError("the optimizer must not accumulate gradients; use larger batches instead")
        kwargs.setdefault("jit_compile", jit_compile() and not kwargs.get("run_eagerly"))
        super().compile(optimizer or from_config(self.config, self.steps_per_epoch), **kwargs)
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was before saving, with variables for the optimizer's state."""
        arguments = keras.saving.deserialize_keras_object(config)
        arguments.pop("jit_compile", None)  # chosen for the backend and device that saved
        self.compile(**{name: value for name, value in arguments.items() if value is not None})
