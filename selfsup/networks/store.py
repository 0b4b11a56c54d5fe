"""The training images on the device."""

from typing import Any

import keras
import numpy as np
from keras import ops


class ImageStore(keras.layers.Layer):
    """Keeps images, uint8 [N, H, W, 3], on the device, so that no step waits for the host.

    The images are a variable that is not saved with the model.
    """

    def __init__(self, images: np.ndarray) -> None:
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
