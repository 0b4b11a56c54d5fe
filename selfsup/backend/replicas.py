"""What a training step must know of the devices among which TensorFlow splits its batch.

Each of them then runs the step on its own rows of the batch. On one device, and with JAX, whose compiler
splits the work by itself, a step sees the whole batch, and everything here leaves its arguments alone.
"""

from typing import Any

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def count() -> int:
    """Devices that share a batch, each with a step of its own."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def index() -> Any:
    """Which of them runs this step: an int32 scalar from 0."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group if count() > 1 else 0


def gather(rows: Any) -> Any:
    """The rows [B, ...] of the whole batch from those of every device, in the batch's order."""
    if count() == 1:
        return rows
    whole = tf.distribute.get_replica_context().all_gather(rows, axis=0)
    return tf.ensure_shape(whole, (None, *rows.shape[1:]))  # `all_gather` forgets it


def mean(value: Any) -> Any:
    """The mean over the devices."""
    if count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.convert_to_tensor(value))
