import numpy as np
import pytest

from selfsup import eigenspace


def orthogonal(rng, dims):
    return np.linalg.qr(rng.normal(size=(dims, dims)))[0]


def test_alignment_of_known_eigenvectors(rng):
    u = orthogonal(rng, 5)
    f = u @ np.diag([1.0, 2, 3, 4, 5]) @ u.T
    w = u @ np.diag([2.0, -1, 0, 1, 3]) @ u.T
    np.testing.assert_allclose(eigenspace.alignment(f, w), [1, -1, 0, 1, 1], atol=1e-9)


def test_alignment_by_its_definition(rng):
    z, w = rng.normal(size=(20, 4)), rng.normal(size=(4, 4))
    f = z.T @ z
    values, vectors = np.linalg.eig(f)
    expected = []
    for j in np.argsort(values):
        u = vectors[:, j]
        expected.append(u @ (w @ u) / np.linalg.norm(u) / np.linalg.norm(w @ u))
    np.testing.assert_allclose(eigenspace.alignment(f, w), expected, atol=1e-9)


def test_a_kernel_is_the_transpose(rng):
    f, w = np.diag([1.0, 2.0]), np.array([[1.0, 0.0], [5.0, 1.0]])
    assert not np.allclose(eigenspace.alignment(f, w), eigenspace.alignment(f, w.T))


def test_asymmetry():
    assert eigenspace.asymmetry(np.eye(3)) == 0
    assert eigenspace.asymmetry(np.array([[0.0, 1.0], [-1.0, 0.0]])) == 2
    assert eigenspace.asymmetry(np.array([[1.0, 2.0], [0.0, 1.0]])) == pytest.approx(4 / 4)
    assert eigenspace.asymmetry(np.zeros((2, 2))) == 0
    for broken in (np.nan, np.inf):
        assert np.isnan(eigenspace.asymmetry(np.diag([1.0, broken])))
        for other in (np.eye(2), np.zeros((2, 2))):
            assert np.isnan(eigenspace.commutator_size(other, np.diag([1.0, broken])))
        assert np.isnan(eigenspace.effective_rank(np.array([1.0, broken])))


def test_predictor_spectrum_are_sorted_real_parts():
    rotation = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -3.0]])
    np.testing.assert_allclose(eigenspace.predictor_spectrum(rotation), [-3, 0, 0], atol=1e-12)


def test_effective_rank():
    assert eigenspace.effective_rank(np.array([0.0, 0.0, 2.0, 2.0])) == pytest.approx(2)
    p = np.array([0.7, 0.2, 0.1])
    assert eigenspace.effective_rank(9 * p) == pytest.approx(np.prod(p**-p))
    assert eigenspace.effective_rank(np.array([-1e-9, 0.0, 5.0])) == pytest.approx(1)
    assert eigenspace.effective_rank(np.zeros(3)) == 1
