"""The equations of a linear network and of its matrices W_p and F (Tian et al. 2021, Lemma 1, Theorems 1-3).

The views of an input share the covariance X = E[x1 x2^T], and each has X + X' = E[x1 x1^T]. The online
network is z = W x, the predictor W_p z, the target t = W_a x, and the loss the Euclidean one,
(1/2) E|W_p z1 - t2|^2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from selfsup.analysis.theory.constants import Array, Constants
from selfsup.analysis.theory.integrate import integrate


@dataclass(frozen=True)
class Networks:
    """A solution: times [T], W_p [T, D, D], W [T, D, N] and the target's W_a [T, D, N]."""

    times: Array
    predictor: Array
    weight: Array
    target: Array


def network_rates(
    predictor: Array, weight: Array, target: Array, shared: Array, between: Array, constants: Constants
) -> tuple[Array, Array, Array]:
    """Returns the rates of W_p, W and W_a (Tian et al. 2021, Lemma 1).

    Args:
        predictor, weight, target: W_p [D, D], W and W_a [D, N].
        shared, between: X and X', [N, N].
        constants: the constants of the equations. If beta is infinite, W_a moves with W.

    Example:
        >>> one = np.ones((1, 1))
        >>> rates = network_rates(0.5 * one, one, one, one, 0 * one, Constants())
        >>> [float(rate[0, 0]) for rate in rates]
        [0.5, 0.25, 0.25]
    """
    error = target @ shared - predictor @ weight @ (shared + between)
    new_predictor = constants.alpha_p * error @ weight.T - constants.predictor_decay * predictor
    new_weight = predictor.T @ error - constants.eta * weight
    follow = new_weight if np.isinf(constants.beta) else constants.beta * (weight - target)
    return new_predictor, new_weight, follow


def solve_networks(
    predictor: Array,
    weight: Array,
    times: Array,
    shared: Array,
    between: Array,
    constants: Constants,
    symmetric: bool = False,
    rule: Callable[[Array], Array] | None = None,
) -> Networks:
    """Solves the equations of a linear network, whose target starts as a copy of W.

    Args:
        predictor, weight: start values W_p [D, D] and W [D, N].
        times: [T], ascending.
        shared, between, constants: see `network_rates`.
        symmetric: whether only the symmetric part of W_p's rate counts.
        rule: from F = W (X + X') W^T to W_p; then W_p is not trained.

    Example:
        >>> one = np.ones((1, 1))
        >>> times = np.array([0.0, 9.0])
        >>> found = solve_networks(one, one / 2, times, one, 0 * one, Constants(), rule=lambda f: f)
        >>> found.predictor.round(3).ravel().tolist()
        [0.25, 1.0]
    """

    def set_predictor(trained: Array, w: Array) -> Array:
        return trained if rule is None else rule(w @ (shared + between) @ w.T)

    def rates(trained: Array, w: Array, w_a: Array) -> tuple[Array, Array, Array]:
        found = network_rates(set_predictor(trained, w), w, w_a, shared, between, constants)
        rate = (found[0] + found[0].T) / 2.0 if symmetric else found[0]
        return rate if rule is None else np.zeros_like(trained), found[1], found[2]

    found = integrate(rates, [predictor, weight, weight], times)
    predictors = np.stack([set_predictor(*pair) for pair in zip(*found[:2], strict=True)])
    return Networks(np.asarray(times, np.float64), predictors, *found[1:])


def matrix_rates(
    predictor: Array, shared: Array, constants: Constants, sigma2: float = 0.0, tau: float = 1.0
) -> tuple[Array, Array]:
    """Returns dW_p/dt and dF/dt for X = I, X' = sigma^2 I, W_a = tau W and a symmetric W_p.

    dW_p/dt = -alpha_p/2 (1 + sigma^2) {W_p, F} + alpha_p tau F - eta_p W_p and
    dF/dt = -(1 + sigma^2) {W_p^2, F} + tau {W_p, F} - 2 eta F (Tian et al. 2021, section 3.2).

    Args:
        predictor: W_p, [D, D], symmetric.
        shared: F = W X W^T, [D, D].
        constants: the constants of the equations.
        sigma2, tau: sigma^2 and the target's gain.

    Example:
        >>> weight, shared = matrix_rates(np.diag([0.5]), np.diag([1.0]), Constants())
        >>> weight.tolist(), shared.tolist()
        ([[0.5]], [[0.5]])
    """
    both = predictor @ shared + shared @ predictor
    square = predictor @ predictor
    new_predictor = constants.alpha_p * (tau * shared - (1.0 + sigma2) / 2.0 * both)
    new_shared = tau * both - (1.0 + sigma2) * (square @ shared + shared @ square)
    return (
        new_predictor - constants.predictor_decay * predictor,
        new_shared - 2.0 * constants.eta * shared,
    )


def solve_matrices(
    predictor: Array,
    shared: Array,
    times: Array,
    constants: Constants,
    sigma2: float = 0.0,
    tau: float = 1.0,
) -> tuple[Array, Array]:
    """Solves the equations of `matrix_rates` and returns W_p and F at the times, [T, D, D] each.

    Example:
        >>> start, times = np.diag([0.5]), np.array([0.0, 30.0])
        >>> weight, shared = solve_matrices(start, start @ start, times, Constants())
        >>> weight[-1].round(4).tolist(), shared[-1].round(4).tolist()
        ([[1.0]], [[1.0]])
    """
    found = integrate(lambda w_p, f: matrix_rates(w_p, f, constants, sigma2, tau), [predictor, shared], times)
    return found[0], found[1]


def commutator(correlation: Array, predictor: Array) -> Array:
    """Returns [F, W_p] = F W_p - W_p F: zero if all eigenvectors of F are eigenvectors of W_p.

    Args:
        correlation, predictor: [..., D, D].

    Example:
        >>> commutator(np.diag([1.0, 2.0]), np.diag([3.0, 4.0])).tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """
    return correlation @ predictor - predictor @ correlation


def commutator_rate(
    predictor: Array, shared: Array, constants: Constants, sigma2: float = 0.0, tau: float = 1.0
) -> Array:
    """Returns d[F, W_p]/dt = -[F, W_p] K - K [F, W_p] (Tian et al. 2021, Theorem 3).

    K = (1 + sigma^2) (alpha_p F / 2 + W_p^2 - tau W_p / (1 + sigma^2)) + (eta + eta_p / 2) I. Where K is
    positive definite, F and W_p align.

    Args:
        predictor, shared, constants, sigma2, tau: see `matrix_rates`.

    Example:
        >>> commutator_rate(np.diag([1.0, 2.0]), np.eye(2), Constants()).tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """
    decay = constants.eta + constants.predictor_decay / 2.0
    k = (1.0 + sigma2) * (constants.alpha_p * shared / 2.0 + predictor @ predictor) - tau * predictor
    k = k + decay * np.eye(len(k))
    c = commutator(shared, predictor)
    return -c @ k - k @ c


def imbalance(predictor: Array, weight: Array, alpha_p: float = 1.0) -> Array:
    """Returns C = W W^T - W_p^T W_p / alpha_p, which no gradient changes (Tian et al. 2021, Theorem 1).

    The theorem needs neither a linear network nor the Euclidean loss, but only two adjacent linear layers: in
    a real network, W is the projector's last Dense and W_p the predictor's first one. W_p is trained.
      - With one weight decay for both, C(t) = exp(-2 eta t) C(0).
      - With two, dC/dt = -2 eta C + 2 (eta_p - eta) W_p^T W_p / alpha_p. So C tends to
        (eta_p - eta) / (alpha_p eta) W_p^T W_p if W_p settles.
      - If W_p is a single layer that is symmetrised after every step, then, once it is symmetric,
        dC/dt = -2 eta C + [W_p, G - G^T] / 2, where alpha_p G is what the gradient alone would add to W_p. A
        commutator has no trace, so that the trace of C follows the theorem.

    Under the cosine loss no gradient changes |W| and |W_p| either, because a scale does not matter: norms
    alone do not test the theorem, the eigenvalues of C do. Momentum delays the decay by momentum /
    (1 - momentum) steps at the start.

    Args:
        predictor: W_p, [..., H, D].
        weight: W, [..., D, N].
        alpha_p: learning rate of W_p relative to that of W.

    Example:
        >>> imbalance(np.array([[1.0]]), np.array([[2.0]])).tolist()
        [[3.0]]
    """
    return weight @ weight.mT - predictor.mT @ predictor / alpha_p


def imbalance_decay(times: Array, constants: Constants) -> Array:
    """Returns |C(t)| / |C(0)| = exp(-2 eta t), see `imbalance`.

    Example:
        >>> from selfsup.config import Config
        >>> constants = Constants.from_config(Config(method="byol"))
        >>> imbalance_decay(constants.times(np.array([390, 3900])), constants).round(3).tolist()
        [0.911, 0.392]
    """
    return np.exp(-2.0 * constants.eta * np.asarray(times))
