"""The MLP heads: projector and predictor."""

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
    """A head [B, inputs] -> [B, output]: blocks of Dense 512 - BN - ReLU, then Dense without bias.

    The hidden Dense layers have a bias, their BN neither gamma nor beta (report section 4 and the code of
    its authors). With `layers_count` 1 it is a single matrix, the linear predictor; the last layer is
    called "output" in every case.

    Args:
        inputs: D of the input.
        layers_count: Dense layers in all.
        name: name of the model and first part of its variables' paths.
        dtype: dtype policy of all layers.
        output: D of the output.
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
