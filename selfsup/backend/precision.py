"""Full-precision float32 matrix products; by default GPUs round the factors to 10 bits (TensorFloat-32)."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def full_precision() -> Iterator[None]:
    """Computes the float32 products inside the block in full precision. Also works as a decorator.

    TensorFlow has only a process-wide switch: there TensorFloat-32 stays off after the block. Operations in
    bfloat16 are unaffected.
    """
    if keras.backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
        return
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
