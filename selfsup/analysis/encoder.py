"""The encoder: a trained backbone, with the preparation of its images, in a file of stock Keras layers."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from selfsup.analysis.inputs import batches
from selfsup.backend.devices import jit_compile
from selfsup.networks.backbones import in_stock_layers
from selfsup.pixels import check_moments
from selfsup.records import checkpoints
from selfsup.records.results import RESULT, read_result
from selfsup.records.workdir import ENCODER
from selfsup.utils.errors import InputError, first_line
from selfsup.utils.files import replacement, user_path

PROJECTION = "projection"
"""Name of the output z of a `probed_model`."""
SQUARE, NORMALISE = "square", "normalise"
"""Names of the layers that crop and resize, and that normalise."""
_BATCH = 128
_PIXELS = 128 * 96 * 96
"""Pixels per batch up to which a batch has `_BATCH` images."""


class Encoder:
    """A frozen backbone that takes images of any size.

    Args:
        model: a Keras model that `encoder_model` made or, with `mean` and `std`, a backbone.
        mean, std: per channel, in [0, 1], to normalise the images of a backbone by.

    Attributes:
        model: a Keras model from images, uint8 or float [B, H, W, 3] in [0, 255], to features [B, D]. It
            crops, resizes and normalises the images.

    Example:
        >>> backbone = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalMaxPooling2D()])
        >>> encoder = Encoder(backbone, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> encoder(np.full((1, 48, 40, 3), 255, np.uint8)).tolist()
        [[2.0, 2.0, 2.0]]
        >>> encoder(np.full((48, 40, 3), 255.0)).shape
        (3,)
    """

    def __init__(
        self, model: keras.Model, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        if (mean is None) != (std is None):
            raise InputError("mean and std belong together; pass both, or none for a model that has them")
        self.model = model if mean is None or std is None else encoder_model(model, mean, std)

    @property
    def image_size(self) -> int:
        """Height and width in pixels of the images that the backbone was trained on."""
        return int(self.model.get_layer(SQUARE).height)

    @property
    def dimensions(self) -> int:
        """Length D of a feature vector."""
        return int(self.model.output_shape[-1])

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the training images per channel, in [0, 1]."""
        return tuple(round(float(value) / 255.0, 6) for value in self._moments("input_mean"))

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the training images per channel, in [0, 1]."""
        return tuple(round(float(value) ** 0.5 / 255.0, 6) for value in self._moments("input_variance"))

    def _moments(self, name: str) -> np.ndarray:
        return np.ravel(getattr(self.model.get_layer(NORMALISE), name))

    @property
    def backbone(self) -> keras.Model:
        """The model from normalised images, float32 [B, S, S, 3], to features; it shares the weights."""
        return self.model.layers[-1]

    def __call__(self, images: Any) -> np.ndarray:
        """Computes the features of images.

        Images of another size than `image_size` are cropped to their central square and resized by Pillow, as
        the training images were. `model` does the same inside; its pixels differ from Pillow's by less than a
        grey level on average.

        Args:
            images: one image, uint8 or float [H, W, 3] in [0, 255]; several as an array or a tensor of the
                backend, [N, H, W, 3]; the name of an image file; a Pillow image; or a list of these, whose
                sizes may differ.

        Returns:
            Features, float32 [N, D], or [D] of one image (not of a list of one).

        Raises:
            InputError: there are no images, they are not [H, W, 3] or not in [0, 255] (floats in [0, 1] are
                refused), or a file cannot be read.
        """
        size = self.image_size
        limit = max(8, 2 ** int(np.log2(_PIXELS / size**2)))
        chunks, single = batches(images, size, min(_BATCH, limit))
        features = np.concatenate([self._predict(batch) for batch in chunks])
        return features[0] if single else features

    def _predict(self, batch: np.ndarray) -> np.ndarray:
        """Computes the features of a batch, padded to a power of two: each new shape would be compiled."""
        padding = 2 ** int(np.ceil(np.log2(len(batch)))) - len(batch)
        padded = np.pad(batch, ((0, padding), (0, 0), (0, 0), (0, 0))) if padding else batch
        return np.asarray(self.model.predict_on_batch(padded), np.float32)[: len(batch)]


def encoder_model(
    backbone: keras.Model, mean: Sequence[float], std: Sequence[float], image_size: int | None = None
) -> keras.Model:
    """Returns a model from images of any size to features. It shares the backbone's weights.

    Args:
        backbone: a model from normalised images [B, S, S, 3] to features [B, D].
        mean, std: per channel, in [0, 1], to normalise the images by.
        image_size: S, for backbones that take images of any size.

    Returns:
        A model from images, uint8 or float [B, H, W, 3] in [0, 255], to features, float32 [B, D].
    """
    check_moments(mean, std)
    size = image_size or backbone.input_shape[1]
    plain: dict[str, Any] = {"dtype": "float32"}
    images = keras.Input((None, None, 3), name="images", **plain)
    square = keras.layers.Resizing(
        size, size, "bilinear",
        crop_to_aspect_ratio=True, antialias=True, data_format="channels_last", name=SQUARE, **plain,
    )  # fmt: skip
    shift, variance = (255.0 * np.asarray(mean)).tolist(), ((255.0 * np.asarray(std)) ** 2).tolist()
    normalise = keras.layers.Normalization(axis=-1, mean=shift, variance=variance, name=NORMALISE, **plain)
    # Without training=False, a plain call of the model would use the statistics of the batch: Resizing, which
    # comes before, has training=True by default, and Keras passes that on to the layers that follow.
    features = backbone(normalise(square(images)), training=False)
    return keras.Model(images, features, name="encoder")


def export_encoder(
    backbone: keras.Model,
    path: Path,
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int | None = None,
) -> None:
    """Writes a functional backbone as a float32 model of stock Keras layers, to a .keras file.

    Args:
        backbone, mean, std, image_size: see `encoder_model`.
        path: the file.

    Raises:
        OSError: the file cannot be written.
    """
    stock = in_stock_layers(backbone, "backbone")
    with replacement(path) as temporary:
        encoder_model(stock, mean, std, image_size).save(temporary)


def load_encoder(path: str | Path) -> Encoder:
    """Loads the encoder of a run.

    Args:
        path: the run's folder, or an encoder file. Files of older versions hold the backbone alone; they need
            the `result.json` of their run next to them.

    Returns:
        The encoder: call it with images of any size, [N, H, W, 3] in [0, 255], for features [N, D].

    Raises:
        InputError: there is no encoder, the run diverged, or the file is damaged.
    """
    path = user_path("run", str(path))
    if path.is_dir():
        path = path / ENCODER
    run, record = path.parent, path.with_name(RESULT)
    result = read_result(run) if path.name == ENCODER else None
    if result is not None and result.diverged:
        raise InputError(f"the run in {run} diverged, so it has no encoder")
    if not path.is_file():
        raise InputError(_why_missing(path, result is not None))
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many types on damaged files
        reason = first_line(error) if zipfile.is_zipfile(path) else "it is damaged: not a zip file"
        raise InputError(
            f"{path} cannot be loaded as a Keras model ({reason}); copy it again, or repeat the run"
        ) from None
    if not {SQUARE, NORMALISE} <= {layer.name for layer in model.layers}:
        if not record.is_file():
            raise InputError(f"{path} holds a backbone alone; put the {RESULT} of its run next to it")
        found = read_result(run)
        assert found is not None
        model = encoder_model(model, found.dataset["mean"], found.dataset["std"])
    model.compile(jit_compile=jit_compile())
    return Encoder(model)


def _why_missing(path: Path, finished: bool) -> str:
    """Returns why there is no encoder at `path`, and what to do."""
    run = path.parent
    if path.name == ENCODER and not finished and run.is_dir() and checkpoints.found(run):
        return (
            f"no {ENCODER} in {run}: the run is not finished; selfsup export --run={run} writes the encoder "
            "of its last checkpoint"
        )
    return f"no {path.name} in {run}; pass the folder of a finished run"


def probed_model(backbone: keras.Model, projector: keras.Sequential, reuse: bool) -> keras.Model:
    """Returns a model from normalised images to the features that are probed. It shares the weights.

    Returns:
        A model with the outputs `linear`, h [B, D], `projection`, z [B, 128], and with `reuse` also
        `linear_reused`, the output of the projector's first block, [B, 512] (paper, section 5.2, Deeper
        Projection Head).
    """
    outputs = {"linear": backbone.outputs[0], PROJECTION: projector(backbone.outputs[0])}
    if reuse:
        x = backbone.outputs[0]
        for layer in projector.layers[:3]:
            x = layer(x)
        outputs["linear_reused"] = x
    model = keras.Model(backbone.inputs[0], outputs, name="probed")
    model.compile(jit_compile=jit_compile())
    return model
