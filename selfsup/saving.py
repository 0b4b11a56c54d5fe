"""What `save` writes of a `SiameseModel` besides its weights, and how `load_model` builds it again."""

from typing import Any

import keras

from selfsup.backend.step import StepModel
from selfsup.config import Config

_PARTS = ("augmentation", "loss", "backbone")


class SavedModel(StepModel):
    """The constructor's arguments of a `SiameseModel`, to and from a serialised form."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, serialised. Functions must be registered with Keras."""
        given = {name: value for name, value in self._given.items() if value is not None}
        if not self._default_backbone:
            given["backbone"] = self.backbone
        names = ("mean", "std", "classes", "steps_per_epoch", "name")
        plain = {"config": self.config.to_dict(), **{name: getattr(self, name) for name in names}}
        return plain | {name: keras.saving.serialize_keras_object(value) for name, value in given.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SavedModel":
        """Builds the model from what `get_config` returned."""
        config = {**config, "config": Config(**config["config"])}
        for name in set(_PARTS) & config.keys():
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was before saving, with variables for the optimizer's state."""
        arguments = keras.saving.deserialize_keras_object(config)
        arguments.pop("jit_compile", None)  # chosen for the backend and device that saved
        self.compile(**{name: value for name, value in arguments.items() if value is not None})
