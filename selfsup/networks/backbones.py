"""Backbones given by the user, their copies for the target, and their export to stock Keras layers."""

from collections.abc import Callable, Iterator, Sequence
from textwrap import shorten
from typing import Any, TypeAlias

import keras
import numpy as np

from selfsup.networks import layers
from selfsup.utils.errors import InputError

Backbone: TypeAlias = keras.Model | Callable[[], keras.Model]


def make_backbone(given: Backbone) -> keras.Model:
    """Returns a user's backbone, which is given as a model or as a function that returns one.

    Raises:
        InputError: it is not a built functional Keras model from images [B, H, W, 3] to features [B, D].
    """
    model = given if isinstance(given, keras.Model) or not callable(given) else given()
    if not isinstance(model, keras.Model) or not model.built or not hasattr(model, "inputs"):
        raise InputError(
            f"backbone must be a built functional keras.Model or a function that returns one, not {model!r}"
        )
    if any(variable.path.startswith("predictor/") for variable in model.weights):
        raise InputError("backbone must not have a layer named predictor, the name that identifies W_p")
    single = len(model.inputs) == 1 and len(model.outputs) == 1
    if not single or len(model.input_shape) != 4 or len(model.output_shape) != 2:
        raise InputError(
            f"backbone must map images [B, H, W, 3] to features [B, D], not {model.input_shape} to "
            f"{model.output_shape}; for keras.applications pass include_top=False, pooling='avg'"
        )
    if "float" not in (dtype := model.inputs[0].dtype):
        raise InputError(f"backbone must take normalised views, which are float32; its input is {dtype}")
    return model


def check_images(images: Any, backbone: keras.Model) -> None:
    """Checks a batch of images that are to be augmented.

    Raises:
        InputError: they are not uint8 or do not have the shape that the backbone takes.
    """
    dtype, shape = keras.backend.standardize_dtype(images.dtype), list(images.shape[1:])
    wanted = list(backbone.input_shape[1:])
    fits = len(shape) == 3 and all(w in (None, s) for w, s in zip(wanted, shape, strict=True))
    if dtype != "uint8" or not fits:
        sizes = ", ".join(str(size or name) for size, name in zip(wanted, "HWC", strict=True))
        raise InputError(
            f"images must be uint8 [B, {sizes}], or two float views, not {dtype} {['B', *shape]}"
        )


def check_inputs(inputs: Any, backbone: keras.Model, stored: bool) -> None:
    """Checks a batch of images that are to be augmented, or of two views.

    Args:
        inputs: images or, if they are stored on the device, indices; or a tuple of two views.
        backbone: the network that takes the views.
        stored: whether images are stored.

    Raises:
        InputError: the images are not uint8, the views not float, or they do not fit the backbone.
    """
    if not isinstance(inputs, (tuple, list)):
        if not stored:
            check_images(inputs, backbone)
        return
    dtypes = [keras.backend.standardize_dtype(view.dtype) for view in inputs]
    if len(inputs) != 2 or not all("float" in dtype for dtype in dtypes):
        raise InputError(
            f"two views must be normalised float32, not {', '.join(dtypes)}; or pass uint8 images"
        )


def set_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Sets the weights of a model, and what layers such as `Normalization` have computed from theirs."""
    model.set_weights(weights)
    finalize(model)


def finalize(model: keras.Model) -> None:
    """Lets layers such as `Normalization` compute what follows from their weights."""
    for layer in sublayers(model):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def sublayers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns all layers of a model, including those of nested models and layers."""
    return list(model._flatten_layers(include_self=False))


def copied(model: keras.Model, name: str) -> keras.Model:
    """Returns a copy of the model whose weights are separate variables: equal, and frozen if they are.

    Raises:
        InputError: a layer cannot be made from its config.
    """
    copy = _clone(model, name)
    for variable, original in zip(copy.weights, model.weights, strict=True):
        variable.trainable = original.trainable
    return copy


def batch_norms(*models: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """Yields all batch norm layers of the models, including those in other layers."""
    for model in models:
        for layer in sublayers(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                yield layer


def in_stock_layers(model: keras.Model, name: str | None = None, policy: str = "float32") -> keras.Model:
    """Returns a copy of a model with Keras' own layers only, which loads without this package.

    Args:
        model: a functional model.
        name: name of the copy, by default the model's.
        policy: dtype policy of all layers of the copy that have one in their config.

    Raises:
        InputError: a layer cannot be made from its config.
    """

    def stock(layer: keras.Operation) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Layer) and "dtype" in config:  # that of a cast stays
            config["dtype"] = policy
        kind = {layers.BatchNorm: keras.layers.BatchNormalization, layers.Conv2D: keras.layers.Conv2D}
        return kind.get(type(layer), type(layer)).from_config(config)

    return _clone(model, name or model.name, clone_function=stock, recursive=True)


def _clone(model: keras.Model, name: str, **how: Any) -> keras.Model:
    try:
        copy = keras.models.clone_model(model, **how)
        set_weights(copy, model.get_weights())
    except Exception as error:  # of any type: from the user's layers
        reason = shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
        raise InputError(
            f"backbone {model.name} cannot be copied for the target and the encoder ({reason}); your own "
            "layers need a get_config that returns the arguments of __init__"
        ) from error
    copy.name = name
    return copy
