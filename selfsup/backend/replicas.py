"""Communication between the devices that share a batch on TensorFlow, for use inside a training step.

Each device runs the step on its own rows of the batch. On one device, and on JAX, whose compiler splits the
work itself, a step sees the whole batch, and these functions return their arguments unchanged.
"""

from typing import Any

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def count() -> int:
    """Returns the number of devices that run the step on rows of the same batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def index() -> Any:
    """Returns the index of the device that runs this step: an int32 scalar from 0."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group if count() > 1 else 0


def gather(rows: Any) -> Any:
    """Concatenates the rows [B / count, ...] of all devices to the whole batch [B, ...], in its order."""
    if count() == 1:
        return rows
    whole = tf.distribute.get_replica_context().all_gather(rows, axis=0)
    return tf.ensure_shape(whole, (None, *rows.shape[1:]))  # `all_gather` loses the static shape


def mean(value: Any) -> Any:
    """Averages a value, of any shape, over the devices."""
    if count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.convert_to_tensor(value))
