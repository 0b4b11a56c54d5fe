"""Encoders in other formats: SavedModel, ONNX and TFLite, for programs without Keras."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from selfsup.analysis.encoder import Encoder
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacement

ONNX_OPSET = 18


def write(encoder: Encoder, path: Path, format: str) -> None:
    """Writes an encoder.

    A Keras file and a SavedModel take images of any size. ONNX and TFLite have no antialiased resizing, so
    these files take images of the encoder's `image_size` only: float32 [B, S, S, 3] in [0, 255].

    Args:
        encoder: the encoder.
        path: the file; a folder for a SavedModel, which is replaced if it holds one.
        format: a name in `FORMATS`.

    Raises:
        InputError: the format needs another backend or a package that is not installed, or the folder holds
            other files.
        OSError: the file cannot be written.
    """
    check(format)
    if format == "saved_model":
        _saved_model(encoder, path)
        return
    with replacement(path) as temporary:
        if format == "keras":
            encoder.model.save(temporary)
        else:
            temporary.write_bytes(_CONVERTERS[format](_fixed_size(encoder)))


def check(format: str) -> None:
    """Checks that a format can be written here.

    Raises:
        InputError: it needs another backend, or a package that is not installed.
    """
    if format != "keras" and keras.backend.backend() != "tensorflow":
        raise InputError(
            f"--format={format} needs TensorFlow, not {keras.backend.backend()}; set "
            "KERAS_BACKEND=tensorflow, which loads the encoders of all runs"
        )
    if format == "onnx":
        try:
            import tf2onnx  # noqa: F401
        except ImportError:
            raise InputError("--format=onnx needs tf2onnx; pip install 'tf2onnx>=1.17'") from None


def _saved_model(encoder: Encoder, path: Path) -> None:
    if path.exists() and any(path.iterdir()) and not (path / "saved_model.pb").is_file():
        raise InputError(f"{path} holds files other than a SavedModel; choose another --out")
    with tempfile.TemporaryDirectory(prefix=".saved_model~", dir=path.parent) as folder:
        new, old = Path(folder) / "new", Path(folder) / "old"
        encoder.model.export(new, format="tf_saved_model", verbose=False)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


def _fixed_size(encoder: Encoder) -> Any:
    """Returns the encoder as a `tf.function` on images, float32 [B, S, S, 3] in [0, 255]."""
    import tensorflow as tf

    size, backbone = encoder.image_size, encoder.backbone
    shift, scale = (255.0 * np.array(moment, np.float32) for moment in (encoder.mean, encoder.std))

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32, "images")])
    def features(images: Any) -> Any:
        return {"features": backbone((images - shift) / scale, training=False)}

    return features


def _onnx(function: Any) -> bytes:
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=ONNX_OPSET)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto.SerializeToString()


def _tflite(function: Any) -> bytes:
    import tensorflow as tf

    concrete = function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], function).convert()


_CONVERTERS: dict[str, Callable[[Any], bytes]] = {"onnx": _onnx, "tflite": _tflite}
FORMATS = ("keras", "saved_model", *_CONVERTERS)
