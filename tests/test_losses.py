import keras
import numpy as np
import pytest
from keras import ops

from selfsup import losses


def test_equals_numpy(rng):
    p1, p2, t1, t2 = rng.normal(size=(4, 6, 5)).astype(np.float32)

    def cosine(a, b):
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    expected = np.mean(-cosine(p1, t2) - cosine(p2, t1))
    assert float(losses.symmetric_negative_cosine(p1, p2, t1, t2)) == pytest.approx(expected, rel=1e-5)


def test_perfect_agreement_is_minus_two_and_scale_does_not_matter(rng):
    z = rng.normal(size=(4, 5)).astype(np.float32)
    assert float(losses.symmetric_negative_cosine(z, 3 * z, 7 * z, z)) == pytest.approx(-2, abs=1e-6)


def test_zero_rows_are_defined():
    zero = np.zeros((2, 3), np.float32)
    assert float(losses.symmetric_negative_cosine(zero, zero, zero, zero)) == 0.0


def test_bfloat16_is_computed_in_float32(rng):
    z = ops.cast(rng.normal(size=(4, 5)), "bfloat16")
    assert losses.cosine(z, z).dtype == "float32" or "float32" in str(losses.cosine(z, z).dtype)


def gradient(function, x):
    """The gradient of a scalar function at x, by the backend."""
    x = ops.convert_to_tensor(x)
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x).numpy()


@pytest.mark.parametrize("tiny", [0.0, 1e-30, 1e-20])
def test_a_zero_row_gets_no_gradient_and_the_other_rows_get_theirs(tiny):
    """d(-cos(x, t) / B) / dx = -(t/|t| - cos x/|x|) / |x| / B, for each direction."""
    x = np.array([[tiny, 0.0], [1.0, 2.0]], np.float32)
    t = np.array([[1.0, 1.0], [3.0, 1.0]], np.float32)
    found = gradient(lambda p: losses.symmetric_negative_cosine(p, p, t, t), x)
    unit, target = x[1] / np.linalg.norm(x[1]), t[1] / np.linalg.norm(t[1])
    expected = -2 * (target - unit @ target * unit) / np.linalg.norm(x[1]) / 2
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)
    assert np.isfinite(found[0]).all()
