"""Linear networks trained by this package, against the equations of the theory."""

import numpy as np
import pytest

from selfsup import theory
from selfsup.config import Config
from selfsup.theory import linear_networks
from selfsup.utils.errors import InputError

D, N, TIME = 4, 6, 4.0
RATES = (0.02, 0.01)


def by_eigenvalues(power, eps):
    """DirectPred and DirectSet in NumPy: `power` from eigenvalues in [0, 1] to those of W_p."""

    def rule(f):
        s, u = np.linalg.eigh(f)
        return (u * (power(s / s.max()) + eps)) @ u.T

    return rule


SETTINGS = {
    "trained": ({"method": "sgd"}, {}),
    "momentum": ({"method": "sgd", "momentum": 0.9}, {}),
    "no EMA, symmetric": ({"method": "sgd", "ema": False, "symmetric": True}, {"symmetric": True}),
    "own rate and decay": (
        {"method": "sgd", "predictor_learning_rate": 3.0, "predictor_weight_decay": 0.1},
        {},
    ),
    "directpred": ({"method": "directpred", "rho": 0.0}, {"rule": by_eigenvalues(np.sqrt, 0.1)}),
    "directset": (
        {"method": "directset", "ema": False, "rho": 0.0, "eps": 0.0, "rule_options": {"alpha": 2.0}},
        {"rule": by_eigenvalues(np.square, 0.0)},
    ),
}


@pytest.fixture
def views(rng):
    """Views whose covariances are no multiples of the identity."""
    mix = np.eye(N) + 0.2 * rng.normal(size=(N, N))
    view1, view2 = (view @ mix for view in linear_networks.gaussian_views(rng, 50, (0.3, 0.6), N))
    return (view1 + 0.1 * view1**2).astype(np.float32), view2.astype(np.float32)


def distance(rate, given, options, views, rng):
    """Distance between the trained network and the solution at the end, relative to the solution's change."""
    fields = {"weight_decay": 0.02, "loss": "euclidean", "momentum": 0.0, **given}
    learning_rate = rate * (1 - fields["momentum"])
    if "predictor_learning_rate" in fields:  # relative to the network's
        fields["predictor_learning_rate"] *= learning_rate
    if fields.get("ema", True):
        fields["tau"] = 1 - 0.5 * rate
    config = Config(learning_rate=learning_rate, **fields)
    predictor, weight = 0.4 * rng.normal(size=(D, D)), 0.4 * rng.normal(size=(D, N))
    if options.get("symmetric"):
        predictor = (predictor + predictor.T) / 2
    shared, between = linear_networks.covariances(*views)
    if "rule" in options:
        predictor = options["rule"](weight @ (shared + between) @ weight.T)
    steps = round(TIME / rate)
    found = linear_networks.train(config, *views, weight, predictor, steps, every=steps)
    expected = theory.solve_networks(
        predictor, weight, found.times, shared, between, theory.Constants.from_config(config), **options
    )
    assert found.times[-1] == pytest.approx(TIME)
    solutions = [
        (getattr(found, name), getattr(expected, name)) for name in ("predictor", "weight", "target")
    ]
    return max(np.linalg.norm(a[-1] - b[-1]) / np.linalg.norm(b[-1] - b[0]) for a, b in solutions)


@pytest.mark.parametrize("name", SETTINGS)
def test_trained_networks_tend_to_the_solution_with_order_1(name, views, record_property):
    coarse, fine = (distance(rate, *SETTINGS[name], views, np.random.default_rng(1)) for rate in RATES)
    order = np.log(coarse / fine) / np.log(RATES[0] / RATES[1])
    record_property(f"order of convergence, {name}", round(float(order), 2))
    assert fine < 0.2
    assert order == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("beta", [None, 0.5])
def test_a_trained_network_follows_theorem_1_with_the_cosine_and_momentum(beta, views, rng):
    """Which assumes neither the Euclidean loss nor a target."""
    rate = 0.01
    ema = {"ema": False} if beta is None else {"tau": 1 - beta * rate}
    config = Config(method="sgd", learning_rate=rate * 0.5, momentum=0.5, weight_decay=0.2, **ema)
    predictor, weight = rng.normal(size=(D, D)), rng.normal(size=(D, N))
    found = linear_networks.train(config, *views, weight, predictor, steps=300, every=100)
    balance = theory.imbalance(found.predictor, found.weight)
    expected = theory.imbalance_decay(found.times, theory.Constants.from_config(config))
    np.testing.assert_allclose(balance, expected[:, None, None] * balance[0], atol=0.03)
    assert np.linalg.norm(found.weight[-1] - weight * np.sqrt(expected[-1])) > 0.1


def test_a_schedule_is_refused():
    config = Config(method="sgd", loss="euclidean", tau_schedule="cosine")
    with pytest.raises(InputError, match="no schedules"):
        linear_networks.LinearSiamese(config, np.ones((2, 3)), np.eye(2))


def test_weights_are_not_set_only_every_few_steps(rng):
    with pytest.raises(InputError, match="freq"):
        linear_networks.LinearSiamese(Config(freq=2), np.ones((2, 3)), np.eye(2))


@pytest.mark.parametrize("setting", linear_networks.TOYS)
def test_toy_networks_end_as_published(setting, record_property):
    """Halvagal et al. 2023, figures 2, 5 and 6."""
    start, end = linear_networks.toy(setting, every=1500)
    record_property(f"{setting}: sum of eigenvalues", [float(x.sum().round(3)) for x in (start, end)])
    record_property(f"{setting}: eigenvalues at the end", end.round(3).tolist())
    assert start.max() > 40 * start.min()
    if setting == "euclidean":
        np.testing.assert_allclose(end, 1, atol=5e-3)
    elif setting == "no_stop_gradient":
        assert end.max() < 0.4
    elif setting == "cosine":
        np.testing.assert_allclose(end, end.mean(), rtol=0.02)
        assert end.sum() == pytest.approx(start.sum(), rel=3e-3)
    else:
        np.testing.assert_allclose(end, end.mean(), rtol=0.02)
        assert end.sum() > 1.2 * start.sum()
