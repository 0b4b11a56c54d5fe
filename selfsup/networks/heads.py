"""The heads: projector and predictor."""

from typing import Any

import keras
from keras import layers

from selfsup.networks.layers import BatchNorm
from selfsup.networks.resnet import BN_EPSILON, BN_MOMENTUM

HIDDEN = 512
PROJECTION = 128


def mlp(
    inputs: int,
    layers_count: int,
    name: str,
    dtype: Any = "float32",
    output: int = PROJECTION,
) -> keras.Sequential:
    """Builds a head, [B, inputs] -> [B, output]: blocks of Dense 512 - BN - ReLU, then Dense without bias.

    The hidden Dense layers have a bias and the BN layers have no gamma or beta (paper, section 4 and its
    authors' code). With `layers_count=1` the head is a single matrix, the linear predictor. The last layer is
    always named "output".

    Args:
        inputs: size of the input vectors.
        layers_count: number of Dense layers.
        name: name of the model, with which the paths of its variables begin.
        dtype: dtype policy of all layers.
        output: size of the output vectors.

    Example:
        >>> mlp(16, 2, "projector").output_shape
        (None, 128)
    """
    head = keras.Sequential([keras.Input((inputs,))], name=name)
    for index in range(1, layers_count):
        head.add(layers.Dense(HIDDEN, dtype=dtype, name=f"hidden{index}"))
        head.add(
            BatchNorm(
                momentum=BN_MOMENTUM, epsilon=BN_EPSILON, center=False, scale=False,
                dtype=dtype, name=f"hidden{index}_bn",
            )
        )  # fmt: skip
        head.add(layers.Activation("relu", dtype=dtype, name=f"hidden{index}_relu"))
    head.add(layers.Dense(output, use_bias=False, dtype=dtype, name="output"))
    return head
