"""ResNet-18, with a stem for small images (paper, section 4) or its own."""

from typing import Any

import keras
from keras import layers

from selfsup.networks.layers import BatchNorm, Conv2D

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9
BLOCKS_PER_STAGE = 2
STAGES = 4


def resnet18(
    width: int = 64,
    image_shape: tuple[int, int, int] = (32, 32, 3),
    dtype: Any = "float32",
    name: str = "backbone",
    stem: str = "small",
) -> keras.Model:
    """Builds the backbone: normalised images, float32 [B, H, W, 3] -> features [B, 8 * width].

    The architecture is that of He et al. 2015 (arXiv:1512.03385). As in Tian et al.'s PyTorch code, the
    convolutions have no bias and He-normal weights by fan-out; BN has momentum 0.9 and epsilon 1e-5.

    Args:
        width: channels of the first stage; the others have 2, 4 and 8 times as many. 64 is ResNet-18.
        image_shape: height, width and channels.
        dtype: dtype policy of all layers.
        name: name of the model, with which the paths of its variables begin.
        stem: "small" for a 3x3 convolution with stride 1 and no pooling, for images of 32 pixels; "large" for
            ResNet-18's own 7x7 convolution with stride 2 and a 3x3 max-pool with stride 2.

    Example:
        >>> resnet18(width=16).input_shape
        (None, 32, 32, 3)
    """

    def conv(x: Any, channels: int, size: int, strides: int, layer: str) -> Any:
        init = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        return Conv2D(
            channels, size, strides, "same",
            use_bias=False, kernel_initializer=init, dtype=dtype, name=f"{layer}_conv",
        )(x)  # fmt: skip

    def norm(x: Any, layer: str) -> Any:
        return BatchNorm(momentum=BN_MOMENTUM, epsilon=BN_EPSILON, dtype=dtype, name=f"{layer}_bn")(x)

    def relu(x: Any, layer: str) -> Any:
        return layers.Activation("relu", dtype=dtype, name=f"{layer}_relu")(x)

    def block(x: Any, channels: int, strides: int, layer: str) -> Any:
        shortcut = x
        if strides != 1 or x.shape[-1] != channels:
            shortcut = norm(conv(x, channels, 1, strides, f"{layer}_shortcut"), f"{layer}_shortcut")
        x = relu(norm(conv(x, channels, 3, strides, f"{layer}_1"), f"{layer}_1"), f"{layer}_1")
        x = norm(conv(x, channels, 3, 1, f"{layer}_2"), f"{layer}_2")
        return relu(layers.Add(dtype=dtype, name=f"{layer}_add")([x, shortcut]), f"{layer}_2")

    images = keras.Input(image_shape, dtype="float32", name="images")
    size, strides = (7, 2) if stem == "large" else (3, 1)
    x = relu(norm(conv(images, width, size, strides, "stem"), "stem"), "stem")
    if stem == "large":
        x = layers.MaxPooling2D(3, 2, "same", data_format="channels_last", dtype=dtype, name="stem_pool")(x)
    for stage in range(STAGES):
        for index in range(BLOCKS_PER_STAGE):
            strides = 2 if stage > 0 and index == 0 else 1
            x = block(x, width * 2**stage, strides, f"stage{stage + 1}_block{index + 1}")
    features = layers.GlobalAveragePooling2D(dtype=dtype, name="features")(x)
    return keras.Model(images, features, name=name)
