"""Full-precision float32 matrix products; by default GPUs round the factors to 10 bits (TensorFloat-32).

TensorFlow has no switch for single operations: importing this module, and so `SiameseModel`, the predictor
rules or the probes, turns TensorFloat-32 off for the whole process. Operations in bfloat16 are unaffected.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)


@contextmanager
def full_precision() -> Iterator[None]:
    """On JAX, computes the float32 products inside the block in full precision. Also works as a decorator."""
    if keras.backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    else:
        yield
