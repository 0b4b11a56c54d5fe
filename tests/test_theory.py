"""The theory's equations against each other, against numerical derivatives and against samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfsup import theory
from selfsup.config import Config
from selfsup.theory import Constants
from selfsup.utils.errors import InputError


def between(low, high):
    return st.floats(low, high, allow_nan=False)


constants = st.builds(
    Constants,
    eta=between(0, 0.05),
    alpha_p=between(0.3, 5),
    beta=st.one_of(st.just(np.inf), between(0.01, 1)),
)
CASES = settings(max_examples=20, deadline=None, derandomize=True)
TIMES = np.linspace(0, 20, 9)


def symmetric(rng, d, scale=0.3):
    a = scale * rng.normal(size=(d, d))
    return (a + a.T) / 2


def positive(rng, d, scale=0.5):
    a = scale * rng.normal(size=(d, d))
    return a @ a.T


@CASES
@given(
    constants,
    st.sampled_from(["euclidean", "cosine"]),
    st.lists(st.tuples(between(0.05, 1), between(0.01, 1), between(0, 1)), min_size=1, max_size=4),
)
def test_the_invariant_holds_along_every_solution(constants, loss, modes):
    p, s, sigma2 = np.array(modes).T
    found = theory.solve_modes(p, s, TIMES, constants, sigma2, loss=loss)
    values = theory.invariant(found.p, found.s, found.times, constants)
    np.testing.assert_allclose(values, np.broadcast_to(values[0], values.shape), rtol=1e-5, atol=1e-5)


@CASES
@given(between(0.1, 1), between(0, 0.1), between(0.2, 2), st.integers(0, 99))
def test_matrices_that_commute_follow_the_decoupled_equations(sigma2, eta, alpha_p, seed):
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    p, s = rng.uniform(0.1, 1, 4), rng.uniform(0.1, 1, 4)
    constants = Constants(eta=eta, alpha_p=alpha_p)
    weights, shared = theory.solve_matrices((u * p) @ u.T, (u * s) @ u.T, TIMES, constants, sigma2)
    found = theory.solve_modes(p, s, TIMES, constants, sigma2)
    for matrices, expected in ((weights, found.p), (shared, found.s)):
        np.testing.assert_allclose(u.T @ matrices @ u, expected[..., None] * np.eye(4), atol=1e-6)


@pytest.mark.parametrize("beta", [np.inf, 0.1])
def test_matrices_and_modes_are_those_of_the_network(rng, beta):
    """X = I, X' = sigma^2 I and common eigenvectors: W = U diag(w) V^T, so that F = U diag(w^2) U^T."""
    d, n, sigma2 = 3, 5, 0.4
    u, v = np.linalg.qr(rng.normal(size=(d, d)))[0], np.linalg.qr(rng.normal(size=(n, d)))[0]
    p, w = rng.uniform(0.2, 0.8, d), rng.uniform(0.3, 0.9, d)
    constants = Constants(eta=0.02, alpha_p=1.5, beta=beta)
    net = theory.solve_networks((u * p) @ u.T, (u * w) @ v.T, TIMES, np.eye(n), sigma2 * np.eye(n), constants)
    modes = theory.solve_modes(p, w**2, TIMES, constants, sigma2)
    np.testing.assert_allclose(u.T @ net.predictor @ u, modes.p[..., None] * np.eye(d), atol=1e-6)
    shared = net.weight @ net.weight.mT
    np.testing.assert_allclose(u.T @ shared @ u, modes.s[..., None] * np.eye(d), atol=1e-6)
    gains = np.diagonal(u.T @ net.target @ net.weight.mT @ u, axis1=1, axis2=2) / modes.s
    np.testing.assert_allclose(gains, modes.tau, atol=1e-6)


def test_the_commutator_follows_theorem_3_and_decays(rng):
    constants, sigma2, tau = Constants(eta=0.03, eta_p=0.05, alpha_p=1.3), 0.5, 0.9
    weight, shared = symmetric(rng, 4), positive(rng, 4)
    h = 1e-5
    dw, df = theory.matrix_rates(weight, shared, constants, sigma2, tau)
    after, before = (theory.commutator(shared + sign * h * df, weight + sign * h * dw) for sign in (1, -1))
    rate = theory.commutator_rate(weight, shared, constants, sigma2, tau)
    np.testing.assert_allclose(rate, (after - before) / (2 * h), atol=1e-8)
    weights, correlations = theory.solve_matrices(weight, shared, np.linspace(0, 60, 4), constants, sigma2)
    sizes = [np.linalg.norm(theory.commutator(*pair)) for pair in zip(correlations, weights, strict=True)]
    alignments = [
        size / np.linalg.norm(f) / np.linalg.norm(w)
        for size, f, w in zip(sizes, correlations, weights, strict=True)
    ]
    assert alignments[0] > 0.05
    assert sizes[-1] < 1e-4 * sizes[0]
    assert alignments[-1] < 1e-3


@pytest.mark.parametrize("beta", [np.inf, 0.2])
def test_theorem_1_in_any_linear_network(rng, beta):
    d, n = 3, 5
    shared, noise = positive(rng, n), positive(rng, n, 0.2)
    constants = Constants(eta=0.05, alpha_p=2.0, beta=beta)
    net = theory.solve_networks(
        rng.normal(size=(d, d)), 0.5 * rng.normal(size=(d, n)), TIMES, shared, noise, constants
    )
    found = theory.imbalance(net.predictor, net.weight, 2.0)
    expected = theory.imbalance_decay(TIMES, constants)[:, None, None] * found[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("symmetrised", [False, True])
def test_theorem_1_with_two_decays_and_with_a_symmetric_predictor(rng, symmetrised):
    d, n, h, eta, eta_p, alpha_p = 3, 5, 1e-6, 0.01, 0.1, 2.0
    shared, noise = positive(rng, n), positive(rng, n, 0.2)
    predictor, weight = symmetric(rng, d), rng.normal(size=(d, n))
    constants, times = Constants(eta=eta, eta_p=eta_p, alpha_p=alpha_p), np.array([0.0, h])
    net = theory.solve_networks(predictor, weight, times, shared, noise, constants, symmetrised)
    before, after = theory.imbalance(net.predictor, net.weight, alpha_p)
    expected = -2 * eta * before + 2 * (eta_p - eta) * predictor.T @ predictor / alpha_p
    if symmetrised:
        g = weight @ shared @ weight.T - predictor @ weight @ (shared + noise) @ weight.T
        expected = expected + theory.commutator(predictor, g - g.T) / 2
    np.testing.assert_allclose((after - before) / h, expected, atol=1e-4)


def test_theorem_1_holds_for_the_trace_with_a_symmetric_predictor(rng):
    d, n = 3, 5
    shared, noise = positive(rng, n), positive(rng, n, 0.2)
    constants = Constants(eta=0.01, alpha_p=2.0)
    start = symmetric(rng, d), rng.normal(size=(d, n))
    net = theory.solve_networks(*start, TIMES, shared, noise, constants, symmetric=True)
    found = theory.imbalance(net.predictor, net.weight, 2.0)
    decay = theory.imbalance_decay(TIMES, constants)
    traces = np.trace(found, axis1=1, axis2=2)
    np.testing.assert_allclose(traces, decay * traces[0], atol=1e-6)
    assert np.abs(found - decay[:, None, None] * found[0]).max() > 0.01


def test_fixed_points_threshold_and_basin():
    sigma2, eta = 0.5, 0.05
    assert theory.fixed_points(eta, sigma2) == pytest.approx((0.054447, 0.612220), abs=1e-6)
    assert theory.collapse_threshold(sigma2) == pytest.approx(1 / 6)
    assert np.isnan(theory.fixed_points(1 / 6 + 1e-6, sigma2)).all()
    constants, times = Constants(eta=eta), np.array([0.0, 2000.0])
    starts = np.array([0.054, 0.055])
    dies, lives = theory.solve_modes(starts, starts**2, times, constants, sigma2).p[-1]
    assert dies == pytest.approx(0, abs=1e-6)
    assert lives == pytest.approx(0.612220, abs=1e-5)
    boundary = theory.basin_boundary(0.054447**2, constants, sigma2)
    assert boundary == pytest.approx(0.054447, abs=1e-4)
    assert theory.basin_boundary(0.02, constants, sigma2) < boundary
    assert theory.basin_boundary(0.5, constants, sigma2) == 0
    for rates in ({"eta": 0.0}, {"eta": 0.05, "eta_p": 0.0}):
        with pytest.raises(InputError, match="without weight decay"):
            theory.basin_boundary(0.5, theory.Constants(**rates), sigma2)
    assert np.isnan(theory.basin_boundary(0.01, Constants(eta=0.2), sigma2))


@CASES
@given(between(0, 1), between(0.01, 0.5), between(0.5, 1))
def test_rates_vanish_at_the_fixed_points(sigma2, fraction, tau):
    eta = fraction * theory.collapse_threshold(sigma2, tau)
    p = np.array(theory.fixed_points(eta, sigma2, tau))
    dp, ds, _ = theory.mode_rates(p, p**2, np.full(2, tau), Constants(eta=eta, beta=0.0), sigma2)
    np.testing.assert_allclose(np.r_[dp, ds], 0, atol=1e-12)


def test_the_cosine_force_is_the_mean_gradient_of_samples(rng):
    """Of this package's loss, by numerical differentiation, with enough modes for the assumption to hold."""
    d, count = 100, 3000
    sigma2, p, s = rng.uniform(0, 0.5, d), rng.uniform(0.2, 1, d), rng.uniform(0.1, 2, d)
    tau = rng.uniform(0.5, 1, d)
    shared, *noise = rng.normal(size=(3, count, d))
    z1, z2 = (np.sqrt(s) * (shared + np.sqrt(sigma2) * own) for own in noise)

    def cosines(a, b):
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    def loss(p):
        return -np.mean(cosines(p * z1, tau * z2) + cosines(p * z2, tau * z1))

    h = 1e-5
    gradient = np.array([(loss(p + h * e) - loss(p - h * e)) / (2 * h) for e in np.eye(d)])
    dp, _, _ = theory.mode_rates(p, s, tau, Constants(), sigma2, loss="cosine")
    assert np.corrcoef(dp, -gradient)[0, 1] > 0.99
    assert np.linalg.norm(dp + gradient) < 0.1 * np.linalg.norm(gradient)


def test_the_cosine_conserves_the_sum_of_s_and_the_euclidean_loss_does_not(rng):
    s = rng.uniform(0.1, 2, 6)
    cosine, euclidean = (
        theory.solve_modes(np.sqrt(s), s, TIMES, Constants(), loss=loss).s.sum(1)
        for loss in ("cosine", "euclidean")
    )
    np.testing.assert_allclose(cosine, cosine[0], rtol=1e-7)
    assert euclidean[-1] == pytest.approx(6, rel=1e-3)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss"):
        theory.mode_rates(np.ones(1), np.ones(1), np.ones(1), Constants(), loss="manhattan")


def test_constants_of_a_run():
    found = Constants.from_config(Config(method="byol", learning_rate=0.2, predictor_learning_rate=2.0))
    assert (found.alpha_p, found.dt) == (pytest.approx(10), pytest.approx(2))
    assert found.predictor_decay == pytest.approx(10 * 4e-4)
    assert found.beta == pytest.approx(0.004 / 2)
    assert Constants.from_config(Config(method="simsiam")).beta == np.inf
    found = Constants.from_config(Config(method="byol"))
    decay = theory.imbalance_decay(found.times([390, 3900, 39000]), found)
    np.testing.assert_allclose(decay, [0.911, 0.392, 8.6e-5], rtol=3e-3)
