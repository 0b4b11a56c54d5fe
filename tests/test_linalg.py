import numpy as np
import pytest
from keras import ops

from selfsup import predictors
from selfsup.linalg import largest_eigenvalue, square_root

SPECTRA = {
    "decaying": np.logspace(-6, 0, 128),
    "linear": np.linspace(0, 1, 128),
    "flat": np.ones(128),
    "nearly flat": np.r_[np.full(127, 0.98), 1.0],
    "two alike": np.r_[np.logspace(-9, -1, 126), 0.9999, 1.0],
    "rank 3": np.r_[np.zeros(125), 0.2, 0.5, 1.0],
    "collapsed to one": np.r_[np.zeros(127), 1.0],
    "zero": np.zeros(128),
}


def matrix(rng, spectrum, scale=1.0):
    u = np.linalg.qr(rng.normal(size=(128, 128)))[0]
    return (scale * (u * spectrum) @ u.T).astype(np.float32), u


def numpy(value):
    return ops.convert_to_numpy(value)


@pytest.mark.parametrize("name", SPECTRA)
def test_square_root_is_within_its_bound(rng, name):
    spectrum = SPECTRA[name]
    a, u = matrix(rng, spectrum)
    error = numpy(square_root(a)) - (u * np.sqrt(spectrum)) @ u.T
    assert np.linalg.norm(error, 2) < 1e-3


@pytest.mark.parametrize("name", SPECTRA)
def test_largest_eigenvalue(rng, name):
    a, _ = matrix(rng, 7.0 * SPECTRA[name])
    assert float(largest_eigenvalue(a)) == pytest.approx(7.0 * SPECTRA[name].max(), rel=1e-3)


@pytest.mark.parametrize("spectrum", ["normalized", "paper"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e8])
def test_both_solvers_give_the_same_predictor(rng, name, spectrum, scale):
    f, _ = matrix(rng, SPECTRA[name], scale)
    exact, fast = (
        numpy(predictors.directpred(f, 0.1, spectrum, solver)) for solver in ("eigh", "newton_schulz")
    )
    assert np.isfinite(fast).all()
    unit = 1.0 if spectrum == "normalized" else np.linalg.norm(exact, 2)
    assert np.linalg.norm(fast - exact, 2) <= 1e-3 * unit


def test_a_boost_below_the_floor_is_the_floor(rng):
    f, _ = matrix(rng, SPECTRA["rank 3"])
    w = numpy(predictors.directpred(f, 0.0, solver="newton_schulz"))
    assert np.linalg.eigvalsh(w).min() >= 0.9e-4


def test_an_f_that_is_not_finite_raises_no_error():
    f = np.full((4, 4), np.nan, np.float32)
    w = numpy(predictors.directpred(f, 0.1, solver="newton_schulz"))
    np.testing.assert_allclose(w, 0.1 * np.eye(4), atol=1e-3)


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="solver"):
        predictors.directpred(np.eye(2), 0.1, solver="qr")


@pytest.mark.parametrize("spectrum", ["normalized", "paper"])
@pytest.mark.parametrize("lowest", [-1e-4, -1e-3, -0.1])
def test_negative_eigenvalues_count_as_zero_with_both_solvers(rng, lowest, spectrum):
    eigenvalues = np.r_[lowest, np.logspace(-2, 0, 127)]
    f, u = matrix(rng, eigenvalues)
    root = np.sqrt(np.maximum(eigenvalues, 0))
    expected = (u * (root + 0.1)) @ u.T
    for solver in ("eigh", "newton_schulz"):
        w = numpy(predictors.directpred(f, 0.1, spectrum, solver))
        assert np.linalg.norm(w - expected, 2) < 1e-3, solver
