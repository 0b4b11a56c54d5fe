import keras
import numpy as np
import pytest
from keras import ops

from selfsup import losses
from selfsup.config import OPTIONS
from selfsup.methods import LOSSES
from selfsup.utils.errors import InputError


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
    given = [ops.cast(x, "bfloat16") for x in rng.normal(size=(4, 6, 5))]
    p1, p2, t1, t2 = (ops.convert_to_numpy(ops.cast(x, "float32")).astype(np.float64) for x in given)

    def cosine(a, b):
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    found = ops.convert_to_numpy(losses.cosine(given[0], given[3]))
    np.testing.assert_allclose(found, cosine(p1, t2), atol=1e-5)
    expected = -np.mean(cosine(p1, t2) + cosine(p2, t1))
    assert float(losses.symmetric_negative_cosine(*given)) == pytest.approx(expected, abs=1e-5)
    expected = np.mean([((p1 - t2) ** 2).sum(1), ((p2 - t1) ** 2).sum(1)]) / 2
    assert float(losses.symmetric_euclidean(*given)) == pytest.approx(expected, rel=1e-5)


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


def test_names_in_the_config_are_functions():
    assert all(callable(getattr(losses, loss.function)) for loss in LOSSES.values())
    assert tuple(LOSSES) == OPTIONS["loss"].choices


def test_euclidean_equals_numpy_and_its_gradient_is_that_of_lemma_1(rng):
    """d/dW_p of (1/2) E|W_p z - t|^2 is W_p E[z z^T] - E[t z^T], as means over both directions."""
    z1, z2, t1, t2 = rng.normal(size=(4, 6, 5)).astype(np.float32)
    w = rng.normal(size=(5, 5)).astype(np.float32)
    expected = np.mean([((z1 @ w.T - t2) ** 2).sum(1), ((z2 @ w.T - t1) ** 2).sum(1)]) / 2

    def loss(weight):
        p1, p2 = (ops.matmul(z, ops.transpose(weight)) for z in (z1, z2))
        return losses.symmetric_euclidean(p1, p2, t1, t2)

    assert float(loss(ops.convert_to_tensor(w))) == pytest.approx(expected, rel=1e-5)
    f, cross = (z1.T @ z1 + z2.T @ z2) / 12, (t2.T @ z1 + t1.T @ z2) / 12
    np.testing.assert_allclose(gradient(loss, w), w @ f - cross, rtol=1e-4, atol=1e-5)


def positive_definite(rng, dims):
    u = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    return (u * rng.uniform(0.1, 1.0, dims)) @ u.T


def test_isoloss_equals_numpy(rng):
    """With the square root of W_p by its eigenvalues, as in the published code; ours is half of that."""
    z1, z2, t1, t2 = rng.normal(size=(4, 6, 5))
    w = positive_definite(rng, 5)
    s, u = np.linalg.eigh(w)
    root = (u * np.sqrt(s)) @ u.T

    def direction(z, t):
        p, roots = z @ w, z @ root
        p_norm, t_norm = np.linalg.norm(p, axis=1), np.linalg.norm(t, axis=1)
        pull = (z * t).sum(1) / (p_norm * t_norm)
        return -2 * np.mean(pull - 0.5 * (p * t).sum(1) / (p_norm**3 * t_norm) * (roots**2).sum(1))

    tensors = [ops.convert_to_tensor(x.astype(np.float32)) for x in (z1 @ w, z2 @ w, t1, t2, z1, z2)]
    found = losses.isoloss(*tensors[:4], z1=tensors[4], z2=tensors[5])
    assert float(found) == pytest.approx((direction(z1, t2) + direction(z2, t1)) / 2, rel=1e-4)


def test_isoloss_has_the_gradient_of_the_cosine_without_the_factor_w_p(rng):
    """This settles the scale: for W_p = I both losses have the same gradient."""
    z, t = rng.normal(size=(2, 6, 5)).astype(np.float32)
    for w in (np.eye(5), positive_definite(rng, 5)):
        kernel = w.astype(np.float32)

        def cosine_loss(x, kernel=kernel):
            p = ops.matmul(x, kernel)
            return losses.symmetric_negative_cosine(p, p, t, t)

        def isotropic_loss(x, kernel=kernel):
            p = ops.matmul(x, kernel)
            return losses.isoloss(p, p, t, t, z1=x, z2=x)

        np.testing.assert_allclose(
            gradient(isotropic_loss, z) @ w, gradient(cosine_loss, z), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("tiny", [0.0, 1e-30, 1e-20, 1e-12])
@pytest.mark.parametrize("loss", ["isoloss", "symmetric_euclidean"])
def test_a_collapsed_batch_has_a_finite_loss_and_gradient(loss, tiny):
    x = np.full((3, 4), tiny, np.float32)
    t = ops.convert_to_tensor(x)
    applied = losses.of_outputs(getattr(losses, loss))

    def value(z):
        return applied({"z1": z, "z2": z, "p1": 0.5 * z, "p2": 0.5 * z, "t1": t, "t2": t})

    assert np.isfinite(float(value(ops.convert_to_tensor(x))))
    assert np.isfinite(gradient(value, x)).all()


def test_a_loss_asks_for_more_outputs_by_name_and_none_passes_a_gradient_to_the_target():
    def loss(a, b, c, d, *, z2):
        return ops.sum(a * d) + ops.sum(b * c) + ops.sum(z2)

    applied = losses.of_outputs(loss)

    def value(x):
        return applied(dict.fromkeys(losses.OUTPUTS, x))

    np.testing.assert_allclose(gradient(value, np.full((1,), 3.0, np.float32)), [3 + 3 + 1])
    with pytest.raises(InputError, match="q is not an output"):
        losses.of_outputs(lambda a, b, c, d, *, q: a)


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
