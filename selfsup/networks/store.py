"""The training images as a layer, so that no step waits for the host."""

from typing import Any

import keras
import numpy as np
from keras import ops


class ImageStore(keras.layers.Layer):
    """Images kept on the device as uint8 [N, H, W, 3]; called with indices [B] it gives a batch.

    The images are a variable, so that no step waits for the host, but no part of the saved model.
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
        return ops.take(self.images, indices, axis=0)

    def save_own_variables(self, store: Any) -> None:
        """Saves nothing: the images are data."""

    def load_own_variables(self, store: Any) -> None:
        """Loads nothing."""
