"""The decoupled equations: one mode per common eigenvector of W_p and F (Tian et al. 2021, eq. 11-13).

A mode has the eigenvalue p of W_p, s = u^T E[z1 z2^T] u, and the gain tau of the target, which is
u^T E[t z^T] u / s. With the variance sigma^2 between the views relative to the shared one,

    dp/dt = alpha_p s f - eta_p p
    ds/dt = 2 p s f - 2 eta s
    dtau/dt = beta (1 - tau) - tau (ds/dt) / (2 s).

Under the Euclidean loss, (1/2) E|p - t|^2, the force is f = tau - (1 + sigma^2) p.

Under this package's cosine loss, a mode's gradient for one image is
p_m / (|p|^3 |t|) sum_k p_k (p_k z_k^2 t_m - p_m z_k t_k z_m) in each of both directions. Its mean has this
form if the squared lengths |p|^2 and |t|^2 and the product p.t, which are sums over all modes, are replaced
by their means P, Q and R: then

    f = 2 (tau - (1 + sigma^2) p R / P) / sqrt(P Q),
    P = sum (1 + sigma^2) p^2 s,  Q = sum (1 + sigma^2) tau^2 s,  R = sum p tau s.

The assumption holds if many modes contribute to the lengths; it is rough if a few dominate. Without decay and
with one sigma, sum s is constant: the cosine couples the modes.
"""

from dataclasses import dataclass

import numpy as np

from selfsup.analysis.theory.constants import Array, Constants
from selfsup.analysis.theory.integrate import integrate
from selfsup.utils.errors import InputError

DIRECTIONS = 2.0
"""The cosine loss is a sum over both directions, each of scale 1 (`losses.LOSS_SCALE`)."""
BISECTIONS = 40
SETTLED = 50.0
"""Time in units of 1 / eta after which every mode has reached a fixed point."""


@dataclass(frozen=True)
class Modes:
    """A solution: times [T]; p, s and tau of each mode, float64 [T, D]."""

    times: Array
    p: Array
    s: Array
    tau: Array


def mode_rates(
    p: Array,
    s: Array,
    tau: Array,
    constants: Constants,
    sigma2: Array | float = 0.0,
    loss: str = "euclidean",
) -> tuple[Array, Array, Array]:
    """Returns dp/dt, ds/dt and dtau/dt of all modes, [D] each (Tian et al. 2021, eq. 11-13).

    Args:
        p, s, tau: eigenvalues of W_p and of E[z1 z2^T], and gains of the target, [D].
        constants: the constants of the equations.
        sigma2: sigma^2 of each mode, or of all.
        loss: "euclidean" or "cosine".

    Raises:
        ValueError: the loss is unknown.

    Example:
        >>> one = np.ones(1)
        >>> dp, ds, dtau = mode_rates(0.5 * one, one, one, Constants())
        >>> dp.tolist(), ds.tolist(), dtau.tolist()
        ([0.5], [0.5], [0.0])
    """
    if loss not in _FORCES:
        raise ValueError(f"loss must be one of {', '.join(_FORCES)}, not {loss!r}")
    force = _FORCES[loss](p, s, tau, sigma2)
    growth = 2.0 * p * force - 2.0 * constants.eta  # (ds/dt) / s
    dp = constants.alpha_p * s * force - constants.predictor_decay * p
    if np.isinf(constants.beta):
        return dp, s * growth, np.zeros_like(tau)
    return dp, s * growth, constants.beta * (1.0 - tau) - tau * growth / 2.0


def _euclidean(p: Array, s: Array, tau: Array, sigma2: Array | float) -> Array:
    return tau - (1.0 + sigma2) * p


def _cosine(p: Array, s: Array, tau: Array, sigma2: Array | float) -> Array:
    prediction, target = (np.sum((1.0 + sigma2) * gain**2 * s) for gain in (p, tau))
    product = np.sum(p * tau * s)
    size = np.sqrt(prediction * target)
    if size == 0.0:  # as in the loss: a zero vector has no gradient
        return np.zeros_like(p)
    return DIRECTIONS * (tau - (1.0 + sigma2) * p * product / prediction) / size


_FORCES = {"euclidean": _euclidean, "cosine": _cosine}


def solve_modes(
    p: Array,
    s: Array,
    times: Array,
    constants: Constants,
    sigma2: Array | float = 0.0,
    tau: Array | float = 1.0,
    loss: str = "euclidean",
) -> Modes:
    """Solves the decoupled equations.

    Args:
        p, s: start values, [D].
        times: [T], ascending; `constants.times(steps)` gives those of training steps.
        constants, sigma2, loss: see `mode_rates`.
        tau: start value of the target's gain, [D] or one for all: 1 if the target starts as a copy.

    Example:
        >>> times, constants = np.array([0.0, 300.0]), Constants(eta=0.05)
        >>> found = solve_modes(np.array([0.2]), np.array([0.04]), times, constants)
        >>> found.p[-1].round(4).tolist()
        [0.9472]
    """
    p = np.atleast_1d(np.asarray(p, np.float64))
    start = [p, np.broadcast_to(s, p.shape), np.broadcast_to(tau, p.shape)]
    arrays = integrate(
        lambda p, s, tau: mode_rates(p, s, tau, constants, sigma2, loss), start, times, method="LSODA"
    )
    return Modes(np.asarray(times, np.float64), *arrays)


def invariant(p: Array, s: Array, times: Array, constants: Constants) -> Array:
    """Returns (s - p^2 / alpha_p) exp(2 eta t), which is constant along every solution (Theorem 1).

    This holds for both losses and any target, if W_p has the weight decay of W. It follows that s tends to
    p^2 / alpha_p, which is why DirectPred sets p to the square root of s.

    Args:
        p, s: of a solution, [T, D].
        times: [T].
        constants: with eta_p = eta.

    Example:
        >>> invariant(np.array([[1.0]]), np.array([[3.0]]), np.zeros(1), Constants()).tolist()
        [[2.0]]
    """
    return (s - p**2 / constants.alpha_p) * np.exp(2.0 * constants.eta * np.asarray(times))[:, None]


def fixed_points(eta: float, sigma2: float = 0.0, tau: float = 1.0) -> tuple[float, float]:
    """Returns p- and p+, between which a mode grows on s = p^2 / alpha_p (Tian et al. 2021, section 3.3).

    [tau -+ sqrt(tau^2 - 4 eta (1 + sigma^2))] / (2 (1 + sigma^2)): p- is unstable, p+ and 0 are stable. They
    are NaN above the collapse threshold, where only 0 remains. The loss is the Euclidean one.

    Example:
        >>> [round(p, 6) for p in fixed_points(eta=0.05, sigma2=0.5)]
        [0.054447, 0.61222]
    """
    discriminant = tau**2 - 4.0 * eta * (1.0 + sigma2)
    if discriminant < 0.0:
        return np.nan, np.nan
    low, high = ((tau + sign * discriminant**0.5) / (2.0 * (1.0 + sigma2)) for sign in (-1.0, 1.0))
    return low, high


def collapse_threshold(sigma2: float = 0.0, tau: float = 1.0) -> float:
    """Returns the weight decay tau^2 / (4 (1 + sigma^2)) above which a mode always collapses.

    Example:
        >>> round(collapse_threshold(sigma2=0.5), 6)
        0.166667
    """
    return tau**2 / (4.0 * (1.0 + sigma2))


def basin_boundary(s: float, constants: Constants, sigma2: float = 0.0, tau: float = 1.0) -> float:
    """Returns the least p in [0, p+] from which a mode survives, at a constant gain of the target.

    From s = p^2 / alpha_p it is p-. A larger s lowers it, because W_p grows in proportion to s.

    Args:
        s: start value of s.
        constants: with eta and eta_p above 0; beta is ignored.
        sigma2, tau: of the mode.

    Raises:
        InputError: eta or eta_p is 0.

    Returns:
        The boundary; NaN if the mode dies from everywhere.

    Example:
        >>> bool(basin_boundary(0.01, Constants(eta=0.05), sigma2=0.5) < 0.054447)
        True
    """
    if min(constants.eta, constants.predictor_decay) <= 0:
        raise InputError("without weight decay of both networks, a mode reaches no fixed point")
    unstable, stable = fixed_points(constants.eta, sigma2, tau)
    fixed = Constants(constants.eta, constants.eta_p, constants.alpha_p)
    times = np.array([0.0, SETTLED / constants.eta])

    def lives(p: float) -> bool:
        found = solve_modes(np.array([p]), np.array([s]), times, fixed, sigma2, tau)
        return bool(found.p[-1, 0] > unstable)

    if np.isnan(stable) or not lives(stable):
        return np.nan
    low, high = 0.0, stable
    if lives(low):
        return low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if lives(middle) else (middle, high)
    return high
