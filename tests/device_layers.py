"""Compares batch norm on two virtual CPU devices of TensorFlow with NumPy."""

import keras
import numpy as np
import tensorflow as tf

from device_steps import divide_cpu
from selfsup.networks.layers import BatchNorm

MOMENTUM, EPSILON = 0.9, 1e-5


def on_two_devices(x: np.ndarray, synchronized: bool, affine: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outputs of the halves of a batch, one on each device, and the moving statistics afterwards."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    halves = np.split(x, 2)
    with strategy.scope():
        layer = BatchNorm(
            momentum=MOMENTUM, epsilon=EPSILON, center=affine, scale=affine, synchronized=synchronized
        )
        layer.build((None, *x.shape[1:]))
        inputs = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(halves[context.replica_id_in_sync_group])
        )
        outputs = tf.function(lambda: strategy.run(lambda half: layer(half, training=True), (inputs,)))()
    moving = [keras.ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance)]
    return np.concatenate([output.numpy() for output in outputs.values]), moving


def normalised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    return (x - mean) / np.sqrt(variance + EPSILON), mean, variance


def main() -> None:
    divide_cpu(2)
    rng = np.random.default_rng(0)
    for shape, affine in (((8, 4, 4, 3), True), ((8, 3), False)):
        x = rng.normal(2, 3, shape).astype(np.float32)
        for synchronized in (True, False):
            outputs, (moving_mean, moving_variance) = on_two_devices(x, synchronized, affine)
            groups = [normalised(rows) for rows in ([x] if synchronized else np.split(x, 2))]
            expected, mean, variance = (
                join([group[i] for group in groups])
                for i, join in enumerate((np.concatenate, average, average))
            )
            np.testing.assert_allclose(outputs, expected, atol=1e-5)
            np.testing.assert_allclose(moving_mean, (1 - MOMENTUM) * mean, atol=1e-5)
            np.testing.assert_allclose(moving_variance, MOMENTUM + (1 - MOMENTUM) * variance, atol=1e-5)


def average(values: list[np.ndarray]) -> np.ndarray:
    return np.mean(values, axis=0)


if __name__ == "__main__":
    main()
