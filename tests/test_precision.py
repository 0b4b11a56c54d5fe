import keras
import numpy as np
import pytest

from selfsup import linalg, predictors

Z = np.ones((4, 3), np.float32)
F = np.eye(3, dtype=np.float32)
PRODUCTS = {
    "correlation": lambda: predictors.correlation(Z, Z),
    "eigh": lambda: predictors.directpred(F, 0.1),
    "newton_schulz": lambda: predictors.directpred(F, 0.1, solver="newton_schulz"),
    "square root": lambda: linalg.square_root(F),
    "largest eigenvalue": lambda: linalg.largest_eigenvalue(F),
}


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a setting of single operations on JAX")
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_keep_all_bits_on_gpus(name):
    import jax

    traced = str(jax.make_jaxpr(PRODUCTS[name])())
    assert traced.count("Precision.HIGHEST, Precision.HIGHEST") == traced.count("dot_general[") > 0


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a setting of the process on TensorFlow")
def test_the_process_keeps_all_bits_on_gpus():
    import tensorflow as tf

    assert not tf.config.experimental.tensor_float_32_execution_enabled()
