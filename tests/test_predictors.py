import numpy as np
import pytest
from keras import ops

from selfsup import predictors


def numpy(value):
    return ops.convert_to_numpy(value)


def random_correlation(rng, dims=16, rank=None, scale=1.0):
    z = rng.normal(size=(rank or 4 * dims, dims)) * rng.uniform(0.1, 3, dims)
    return (scale * z.T @ z / len(z)).astype(np.float32)


def directpred_by_svd(f, eps, spectrum):
    """An independent computation: singular vectors of a positive matrix are its eigenvectors."""
    u, s, _ = np.linalg.svd(f.astype(np.float64))
    if spectrum == "normalized":
        p = np.maximum(np.sqrt(s / s.max()) + eps, 1e-4)
    else:
        p = np.sqrt(s) + eps * s.max()
    return sum(p_j * np.outer(u_j, u_j) for p_j, u_j in zip(p, u.T, strict=True))


@pytest.mark.parametrize("spectrum", ["normalized", "paper"])
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_directpred_equals_numpy(rng, eps, spectrum):
    f = random_correlation(rng)
    expected = directpred_by_svd(f, eps, spectrum)
    np.testing.assert_allclose(numpy(predictors.directpred(f, eps, spectrum)), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e12])
def test_directpred_of_rank_deficient_tiny_and_huge_f(rng, scale):
    f = random_correlation(rng, rank=3)
    w = numpy(predictors.directpred((f * scale).astype(np.float32), 0.1))
    assert np.isfinite(w).all()
    s = np.sort(np.linalg.eigvalsh(f.astype(np.float64)))[::-1]
    expected = np.sort(np.sqrt(np.maximum(s, 0) / s[0]) + 0.1)[::-1]
    found = np.sort(np.linalg.eigvalsh(w))[::-1]
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-3)
    assert (found[3:] < 0.11).all()
    assert (found[3:] > 0.0999).all()


@pytest.mark.parametrize("rule", [predictors.directpred, predictors.directcopy])
def test_collapsed_f_gives_a_multiple_of_the_identity(rule):
    w = numpy(rule(np.zeros((4, 4), np.float32), 0.1))
    np.testing.assert_allclose(w, 0.1 * np.eye(4), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_directset_equals_numpy(rng, alpha, eps):
    f = random_correlation(rng)
    u, s, _ = np.linalg.svd(f.astype(np.float64))
    expected = sum(
        (s_j / s.max() + eps) ** alpha * np.outer(u_j, u_j) for s_j, u_j in zip(s, u.T, strict=True)
    )
    np.testing.assert_allclose(numpy(predictors.directset(f, alpha, eps)), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e12])
def test_directset_is_finite_for_every_f_and_does_not_depend_on_scale(rng, scale):
    f = (scale * random_correlation(rng, rank=3)).astype(np.float32)
    found = numpy(predictors.directset(f, 0.5, 0.01))
    np.testing.assert_allclose(found, numpy(predictors.directset(f / scale, 0.5, 0.01)), atol=2e-3)
    for broken in (np.zeros((4, 4), np.float32), np.full((4, 4), np.nan, np.float32)):
        np.testing.assert_allclose(numpy(predictors.directset(broken, 0.5, 0.01)), 0.1 * np.eye(4), atol=1e-6)
    assert np.isfinite(numpy(predictors.directset(np.zeros((4, 4), np.float32), 0.5, 0.0))).all()


def test_directset_is_near_its_special_cases(rng):
    f = random_correlation(rng)
    np.testing.assert_allclose(
        numpy(predictors.directset(f, 0.5, 0.0)), numpy(predictors.directpred(f, 0.0)), atol=2e-4
    )
    np.testing.assert_allclose(
        numpy(predictors.directset(f, 1.0, 0.25)),
        numpy(predictors.directcopy(f, 0.25, "spectral")),
        atol=1e-5,
    )


@pytest.mark.parametrize("rule", [predictors.directpred, predictors.directcopy])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_f_that_is_not_finite_raises_no_error(rule, value):
    f = np.eye(4, dtype=np.float32)
    f[0, 1] = value
    np.testing.assert_allclose(numpy(rule(f, 0.1)), 0.1 * np.eye(4), atol=1e-6)


def test_directpred_floors_the_spectrum():
    w = numpy(predictors.directpred(np.diag([1.0, 0.0]).astype(np.float32), 0.0))
    np.testing.assert_allclose(np.diag(w), [1.0, 1e-4], rtol=1e-5)


def test_directcopy_equals_numpy(rng):
    f = random_correlation(rng)
    frobenius = f / np.sqrt((f.astype(np.float64) ** 2).sum()) + 0.3 * np.eye(16)
    spectral = f / np.linalg.norm(f.astype(np.float64), 2) + 0.3 * np.eye(16)
    np.testing.assert_allclose(numpy(predictors.directcopy(f, 0.3)), frobenius, atol=1e-6)
    np.testing.assert_allclose(numpy(predictors.directcopy(f, 0.3, norm="spectral")), spectral, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e20])
def test_directcopy_does_not_depend_on_scale(rng, scale):
    f = random_correlation(rng)
    scaled = numpy(predictors.directcopy((f * scale).astype(np.float32), 0.3))
    np.testing.assert_allclose(scaled, numpy(predictors.directcopy(f, 0.3)), atol=1e-5)


def test_rules_use_the_symmetric_part(rng):
    f = random_correlation(rng)
    skewed = f + np.triu(f, 1) * 0.5 - np.triu(f, 1).T * 0.5
    for rule in (predictors.directpred, predictors.directcopy):
        np.testing.assert_allclose(numpy(rule(skewed, 0.1)), numpy(rule(f, 0.1)), atol=1e-4)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="spectrum"):
        predictors.directpred(np.eye(2), 0.1, spectrum="centred")
    with pytest.raises(ValueError, match="norm"):
        predictors.directcopy(np.eye(2), 0.1, norm="nuclear")


def test_correlation_is_the_mean_over_both_views(rng):
    z1, z2 = rng.normal(size=(2, 7, 4)).astype(np.float32)
    expected = np.mean([np.outer(z, z) for z in (*z1, *z2)], axis=0)
    np.testing.assert_allclose(numpy(predictors.correlation(z1, z2)), expected, rtol=1e-4, atol=1e-6)


def test_moving_average_starts_with_the_first_value(rng):
    first, second = rng.normal(size=(2, 3, 3)).astype(np.float32)
    zero = np.zeros((3, 3), np.float32)
    np.testing.assert_array_equal(numpy(predictors.moving_average(zero, first, 0.3, True)), first)
    np.testing.assert_allclose(
        numpy(predictors.moving_average(first, second, 0.3, False)), 0.3 * first + 0.7 * second, rtol=1e-6
    )


def test_symmetrize_one_weight(rng):
    w = rng.normal(size=(4, 4)).astype(np.float32)
    np.testing.assert_allclose(numpy(predictors.symmetrize(w)), (w + w.T) / 2)


def test_symmetrize_two_weights(rng):
    w1, w2 = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(4, 6)).astype(np.float32)
    new1, new2 = (numpy(w) for w in predictors.symmetrize(w1, w2))
    np.testing.assert_allclose(new1, (w1 + w2.T) / 2, rtol=1e-6)
    np.testing.assert_array_equal(new2, new1.T)
    product = new2 @ new1
    np.testing.assert_allclose(product, product.T, atol=1e-6)
