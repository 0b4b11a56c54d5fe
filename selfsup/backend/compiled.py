"""Functions compiled by the backend."""

from collections.abc import Callable

import keras


def compiled(function: Callable) -> Callable:
    """Returns a function of tensors, or nested lists of them, as a graph (TensorFlow) or compiled (JAX).

    Example:
        >>> float(compiled(lambda x: 2.0 * x)(keras.ops.convert_to_tensor(3.0)))
        6.0
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, autograph=False)
