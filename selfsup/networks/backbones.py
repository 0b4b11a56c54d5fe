"""Backbones as arguments: Keras models or factories of them, copies as targets, and in stock layers."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras

from selfsup.networks import layers
from selfsup.utils.errors import InputError

Backbone: TypeAlias = keras.Model | Callable[[], keras.Model]


def make_backbone(given: Backbone) -> keras.Model:
    """The model itself, or what its factory makes.

    Raises:
        InputError: it is no Keras model with one input of images and one output [B, D].
    """
    model = given if isinstance(given, keras.Model) else given()
    if not isinstance(model, keras.Model) or not model.built:
        raise InputError(
            f"backbone must be a built keras.Model or a function that returns one, not {model!r}"
        )
    if any(variable.path.startswith("predictor/") for variable in model.weights):
        raise InputError("backbone must have no layer named predictor: that name tells W_p from the rest")
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.output_shape) != 2:
        raise InputError(
            f"backbone must map images [B, H, W, 3] to features [B, D], not {model.input_shape} to "
            f"{model.output_shape}; for keras.applications give include_top=False, pooling='avg'"
        )
    return model


def target_copy(model: keras.Model, name: str) -> keras.Model:
    """A copy of the model with weights of its own, which have the same values."""
    copy = keras.models.clone_model(model)
    copy.name = name
    copy.set_weights(model.get_weights())
    return copy


def batch_norms(*models: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """All batch norms in the models, nested ones included."""
    for model in models:
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                yield from batch_norms(layer)
            elif isinstance(layer, keras.layers.BatchNormalization):
                yield layer


def in_stock_layers(model: keras.Model, name: str | None = None, policy: str = "float32") -> keras.Model:
    """The same network with Keras' own layers alone, which loads without this package.

    Args:
        model: functional; its weights are copied.
        name: of the new model.
        policy: dtype policy of all its layers.
    """

    def stock(layer: keras.layers.Layer) -> Any:
        config = {**layer.get_config(), "dtype": policy}
        kind = {layers.BatchNorm: keras.layers.BatchNormalization, layers.Conv2D: keras.layers.Conv2D}
        return kind.get(type(layer), type(layer)).from_config(config)

    copy = keras.models.clone_model(model, clone_function=stock, recursive=True)
    copy.name = name or model.name
    copy.set_weights(model.get_weights())
    return copy
