"""Products of float32 in float32, where GPUs would round their factors to 10 bits (TensorFloat-32)."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def full_precision() -> Iterator[None]:
    """For products within, on JAX; TensorFlow has one switch for the process, which stays off from here on.

    Also a decorator. Convolutions in bfloat16 are as they were.
    """
    if keras.backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
        return
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
