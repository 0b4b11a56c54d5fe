"""The trained encoder as a file of stock Keras layers, and back."""

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
    """A trained backbone with what its images must be normalised by.

    Attributes:
        model: stock Keras layers, normalised float32 [B, 32, 32, 3] -> features [B, D].
        mean, std: of the training images, per channel, in [0, 1].
    """

    model: keras.Model
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features float32 [N, D] of uint8 images [N, 32, 32, 3]."""
        return embed(self.model, images, self.mean, self.std)


def export_encoder(backbone: keras.Model, path: Path) -> None:
    """Writes the backbone as a float32 functional model of stock layers, which Keras alone can load."""
    encoder = in_stock_layers(backbone, "encoder")
    with replacement(path) as temporary:
        encoder.save(temporary)


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a finished run.

    Args:
        path: the run's folder, or the `encoder.keras` in it; `result.json` lies beside it.

    Raises:
        InputError: one of the two files is missing.
    """
    path = Path(path)
    if path.is_dir():
        path = path / ENCODER
    record = path.with_name(RESULT)
    for file in (path, record):
        if not file.is_file():
            raise InputError(f"no {file.name} in {file.parent}; give the folder of a finished run")
    dataset = json.loads(record.read_text())["dataset"]
    model = keras.models.load_model(path, compile=False)
    model.compile(jit_compile=jit_compile())
    return Encoder(model, tuple(dataset["mean"]), tuple(dataset["std"]))


def probed_model(backbone: keras.Model, projector: keras.Sequential, reuse: bool) -> keras.Model:
    """Normalised images -> what the probes stand on, sharing the given networks' weights.

    Returns:
        A model with the outputs `linear`, h [B, 8 * width], and with `reuse` also `linear_reused`, the
        projector's first block [B, 512] (report section 5.2, Deeper Projection Head).
    """
    outputs = {"linear": backbone.output}
    if reuse:
        x = backbone.output
        for layer in projector.layers[:3]:
            x = layer(x)
        outputs["linear_reused"] = x
    model = keras.Model(backbone.input, outputs, name="probed")
    model.compile(jit_compile=jit_compile())
    return model
