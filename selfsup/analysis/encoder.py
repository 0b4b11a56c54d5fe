"""The encoder: a trained backbone in a file of stock Keras layers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from selfsup.analysis.probe import embed
from selfsup.backend.devices import jit_compile
from selfsup.networks.backbones import in_stock_layers
from selfsup.records.results import RESULT
from selfsup.records.workdir import ENCODER
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacement


@dataclass(frozen=True)
class Encoder:
    """A backbone and the normalisation of its images.

    Attributes:
        model: a Keras model from normalised images, float32 [B, H, W, 3], to features [B, D].
        mean, std: of the training images, per channel, in [0, 1].

    Example:
        >>> model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalMaxPooling2D()])
        >>> encoder = Encoder(model, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> encoder(np.full((1, 32, 32, 3), 255, np.uint8)).tolist()
        [[2.0, 2.0, 2.0]]
    """

    model: keras.Model
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Computes the features, float32 [N, D], of images, uint8 [N, H, W, 3]."""
        return embed(self.model, images, self.mean, self.std)


def export_encoder(backbone: keras.Model, path: Path) -> None:
    """Writes a functional backbone as a float32 model of stock Keras layers, to a .keras file."""
    encoder = in_stock_layers(backbone, "encoder")
    with replacement(path) as temporary:
        encoder.save(temporary)


def load_encoder(path: str | Path) -> Encoder:
    """Loads the encoder of a finished run.

    Args:
        path: the run's folder, or the `encoder.keras` in it, next to which there must be a `result.json`.

    Raises:
        InputError: one of the two files is missing.
    """
    path = Path(path)
    if path.is_dir():
        path = path / ENCODER
    record = path.with_name(RESULT)
    for file in (path, record):
        if not file.is_file():
            raise InputError(f"no {file.name} in {file.parent}; pass the folder of a finished run")
    dataset = json.loads(record.read_text())["dataset"]
    model = keras.models.load_model(path, compile=False)
    model.compile(jit_compile=jit_compile())
    return Encoder(model, tuple(dataset["mean"]), tuple(dataset["std"]))


def probed_model(backbone: keras.Model, projector: keras.Sequential, reuse: bool) -> keras.Model:
    """Returns a model from normalised images to the features that are probed. It shares the weights.

    Returns:
        A model with the outputs `linear`, h [B, D], and with `reuse` also `linear_reused`, the output of the
        projector's first block, [B, 512] (report section 5.2, Deeper Projection Head).
    """
    outputs = {"linear": backbone.outputs[0]}
    if reuse:
        x = backbone.outputs[0]
        for layer in projector.layers[:3]:
            x = layer(x)
        outputs["linear_reused"] = x
    model = keras.Model(backbone.inputs[0], outputs, name="probed")
    model.compile(jit_compile=jit_compile())
    return model
