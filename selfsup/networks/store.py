"""The training images on the device, if they fit."""

from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup.utils.errors import InputError

LIMIT = 4 * 2**30
"""Bytes up to which images are kept on the device by default."""


def on_device(images: str, count: int, size: int) -> bool:
    """Whether to keep the training images on the device.

    Args:
        images: "device", "host", or "auto" for the device if they take up to 4 GiB there.
        count: number of images.
        size: their height and width in pixels.
    """
    return images == "device" or (images == "auto" and count * size * size * 3 <= LIMIT)


class ImageStore(keras.layers.Layer):
    """Keeps images, uint8 [N, H, W, 3], on the device, so that no step waits for the host.

    The images are a variable that is not saved with the model.

    Raises:
        InputError: the images are not uint8 [N, H, W, 3].
    """

    def __init__(self, images: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4:
            raise InputError(f"images must be uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}")
        super().__init__(name="images", trainable=False)
        self.images = self.add_weight(
            shape=images.shape,
            dtype="uint8",
            initializer=lambda *_, **__: ops.convert_to_tensor(images),
            trainable=False,
            name="images",
        )
        self.built = True

    def call(self, indices: Any) -> Any:
        """Returns the images [B, H, W, 3] with the indices, int [B]."""
        return ops.take(self.images, indices, axis=0)

    def save_own_variables(self, store: Any) -> None:
        """Saves nothing, because the images are data."""

    def load_own_variables(self, store: Any) -> None:
        """Loads nothing."""
