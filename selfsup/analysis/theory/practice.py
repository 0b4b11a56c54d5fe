"""Theory beside practice: Theorem 1 and the square-root law in the recordings of a run.

Both are read from `dynamics.npz` (`selfsup.Dynamics`), without a backend. `predict` in the module beside this
one solves the equations from a recording on.
"""

from dataclasses import dataclass

import numpy as np

from selfsup.analysis.theory.constants import Array, Constants
from selfsup.analysis.theory.matrices import imbalance_decay
from selfsup.records.dynamics import Dynamics
from selfsup.utils.errors import InputError

CONFIDENCE = 0.95
NOISE = 3.0
"""A mode counts if its p is this many deviations of the noise above the level of the weak modes."""
LEAST_MODES = 4
"""Fewer modes give no slope."""
GRID = 2001


@dataclass(frozen=True)
class Conservation:
    """Theorem 1 in a run: what is left of C = W W^T - V^T V / alpha_p at R moments; 0 is the first.

    If C(t) is its start value times `decay`, `norm` equals `decay` and `deviation` is 0. The norm alone tests
    little, see `imbalance`. `moved` shows what the test is worth: it is how far the two parts of C deviate
    from the same law, because gradients change them. Eigenvalues do not show rotations, so that `deviation`
    and `moved` are lower bounds for the matrices.

    Attributes:
        step: completed training steps, int64 [R].
        decay: exp(-2 eta t), where a run starts with momentum at rest, float64 [R].
        norm: |C(t)| / |C(0)| in the Frobenius norm, float64 [R].
        deviation: |eig C(t) - decay eig C(0)| / |C(0)|, float64 [R].
        deviation_of_parts: the same relative to |W W^T| + |V^T V / alpha_p| at t, float64 [R].
        moved: |eig P(t) - decay eig P(0)| / |C(0)| of that part P of C where it is smaller, float64 [R].
        trace: the trace of C(t), over the sum of the absolute eigenvalues of C(0), float64 [R].
        predicted_trace: the same by the law, which holds for two weight decays, too, float64 [R].
    """

    step: Array
    decay: Array
    norm: Array
    deviation: Array
    deviation_of_parts: Array
    moved: Array
    trace: Array
    predicted_trace: Array


def conservation(recorded: Dynamics, constants: Constants) -> Conservation:
    """Compares the recorded eigenvalues of C with Theorem 1 (Tian et al. 2021).

    The law of the eigenvalues is that of one weight decay and of a predictor that is not symmetrised. The
    trace follows its own: tr C(t) = exp(-2 eta t) tr C(0) + the integral of exp(-2 eta (t - u))
    2 (eta_p - eta) tr(V^T V / alpha_p)(u) du, with V^T V interpolated between recordings. It holds for a
    symmetrised predictor, too: for a single layer as `imbalance` says. For two layers with batch norm, the
    cosine loss does not depend on the scale of any of them, so that each norm decays on its own.

    Args:
        recorded: recordings of a run whose predictor is trained by gradient. With a symmetrised predictor,
            pass `recorded[1:]`: the first step makes it symmetric and so changes C.
        constants: see `Constants.from_config`.

    Raises:
        InputError: a rule sets W_p, or its weights are not finite at the start.

    Example:
        >>> layers = np.diag([2.0, 1.0]), np.eye(2)
        >>> start = Dynamics.measure(0, np.eye(2), np.eye(2), [], layers)
        >>> later = Dynamics.measure(10, np.eye(2), np.eye(2), [], layers)
        >>> found = conservation(start + later, Constants(eta=0.05))
        >>> found.decay.round(3).tolist(), found.norm.tolist(), found.deviation.round(3).tolist()
        ([1.0, 0.368], [1.0, 1.0], [0.0, 0.632])
    """
    c, w, v = (
        np.asarray(eigenvalues, np.float64)
        for eigenvalues in (recorded.imbalance, recorded.projector_gram, recorded.predictor_gram)
    )
    if not np.isfinite(c[0]).all():
        raise InputError("Theorem 1 needs the recordings of a predictor that is trained by gradient")
    times = constants.times_from_rest(recorded.step)
    decay = imbalance_decay(times - times[0], constants)
    size, parts = np.linalg.norm(c[0]), sum(np.linalg.norm(part, axis=1) for part in (w, v))
    off_c, off_w, off_v = (np.linalg.norm(x - decay[:, None] * x[0], axis=1) for x in (c, w, v))
    total = np.abs(c[0]).sum()
    return Conservation(
        step=recorded.step,
        decay=decay,
        norm=np.linalg.norm(c, axis=1) / size,
        deviation=off_c / size,
        deviation_of_parts=off_c / parts,
        moved=np.minimum(off_w, off_v) / size,
        trace=c.sum(axis=1) / total,
        predicted_trace=_trace(times, c[0].sum(), v.sum(axis=1), constants) / total,
    )


def _trace(times: Array, start: float, predictor: Array, constants: Constants) -> Array:
    """Returns tr C at the times: `predictor` has the traces of V^T V / alpha_p at the times."""
    grid = np.union1d(np.linspace(times[0], times[-1], GRID), times)
    source = 2.0 * (constants.predictor_decay - constants.eta) * np.interp(grid, times, predictor)
    steps = np.diff(grid)
    kept = np.exp(-2.0 * constants.eta * steps)
    added = steps * (kept * source[:-1] + source[1:]) / 2.0
    trace = [start]
    for factor, term in zip(kept, added, strict=True):
        trace.append(factor * trace[-1] + term)
    return np.array(trace)[np.searchsorted(grid, times)]


def noise_floor(p: Array) -> float:
    """Returns the value above which p_j is more than what the weak modes have, too.

    The weak modes are the lower half by the eigenvalues of F. There a trained W_p has mostly its random start
    value, also along the diagonal in F's basis. The floor is their mean, or 0 if that is negative, plus
    `NOISE` times their noise. The noise is taken from differences of neighbours, (p_{j+1} - p_j)^2 / 2, to
    which a smooth course of p contributes little.

    Args:
        p: u_j^T W_p u_j in ascending order of F's eigenvalues, [D] with D of at least 4.

    Example:
        >>> round(noise_floor(np.array([0.1, -0.1, 0.1, -0.1, 1.0, 2.0, 3.0, 4.0])), 3)
        0.424
    """
    weak = np.asarray(p, np.float64)[: len(p) // 2]
    noise = np.sqrt(np.mean(np.diff(weak) ** 2) / 2.0)
    return float(max(weak.mean(), 0.0) + NOISE * noise)


def leading_modes(p: Array) -> Array:
    """Returns the modes above the noise: those of the largest eigenvalues of F.

    They end where the median of three neighbouring p falls to `noise_floor`. This selects by F, and hardly by
    p itself: otherwise the modes that noise has raised would remain alone among the weak ones, and the slope
    would be too flat. Only modes below a third of the floor are left out, which F and W_p do not share.

    Args:
        p: see `noise_floor`; NaN gives no modes.

    Returns:
        Indices of p in descending order of F's eigenvalues.

    Example:
        >>> leading_modes(np.array([0.1, -0.1, 0.1, -0.1, 0.1, 1.0, 2.0, 0.0, 3.0, 4.0])).tolist()
        [9, 8, 6, 5]
    """
    p, floor = np.asarray(p, np.float64), noise_floor(p)
    descending = p[::-1]
    before, after = np.r_[descending[2], descending[:-1]], np.r_[descending[1:], -np.inf]
    above = np.median([before, descending, after], axis=0) > floor
    count = int(np.argmin(np.append(above, False)))
    return len(p) - 1 - np.flatnonzero(descending[:count] > floor / NOISE)


@dataclass(frozen=True)
class PowerLaw:
    """A line log p = slope log s + intercept with the t interval of the slope; NaN if it has no modes."""

    slope: float
    low: float
    high: float
    intercept: float
    modes: Array

    @property
    def known(self) -> bool:
        """Whether there were enough modes."""
        return bool(np.isfinite(self.slope))


def fit_power_law(s: Array, p: Array, modes: Array | None = None) -> PowerLaw:
    """Fits p_j = exp(intercept) s_j^slope by least squares in logarithms, with a 95 % t interval.

    The interval takes the deviations of the modes from the line for independent. It does not include the
    error of measured s_j, which flattens a line.

    Args:
        s, p: eigenvalues of F, or what is to replace them, and u_j^T W_p u_j, [D], ascending by F.
        modes: which ones to fit; None for `leading_modes`. Those with s_j of at most 0 are left out.

    Raises:
        InputError: SciPy is not installed.

    Example:
        >>> s = np.logspace(-4, 0, 20)
        >>> found = fit_power_law(s, 3 * s**0.5)
        >>> round(found.slope, 6), round(found.high - found.low, 6), round(float(np.exp(found.intercept)), 3)
        (0.5, 0.0, 3.0)
    """
    s, p = np.asarray(s, np.float64), np.asarray(p, np.float64)
    modes = leading_modes(p) if modes is None else modes
    modes = modes[s[modes] > 0]
    if len(modes) < LEAST_MODES:
        return PowerLaw(np.nan, np.nan, np.nan, np.nan, modes)
    try:
        from scipy.special import stdtrit
    except ImportError:
        raise InputError("the interval of a slope needs scipy; pip install scipy") from None
    x, y = np.log(s[modes]), np.log(p[modes])
    away = x - x.mean()
    slope = float(away @ y / (away @ away))
    intercept = float(y.mean() - slope * x.mean())
    freedom = len(modes) - 2
    left = y - slope * x - intercept
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.sqrt(left @ left / freedom / (away @ away)))
    return PowerLaw(slope, slope - half, slope + half, intercept, modes)


def power_laws(recorded: Dynamics, over: str = "eigenvalues") -> list[PowerLaw]:
    """Fits p_j over s_j in each recording. Where the theory's square-root law holds, the slope is 1/2.

    Args:
        recorded: R recordings of a run.
        over: "eigenvalues" of F, or "shared" for c_j, which is the theory's s; or "centred" for eigenvalues
            and eigenvectors of the covariance of z instead of those of F.

    Example:
        >>> s = np.logspace(-4, 0, 20)
        >>> moment = Dynamics.measure(1, np.diag(s**0.5), np.diag(s), [], None)
        >>> [round(law.slope, 3) for law in power_laws(moment)]
        [0.5]
    """
    p = recorded.centred_predictor if over == "centred" else recorded.predictor
    return [fit_power_law(*pair) for pair in zip(getattr(recorded, over), p, strict=True)]
