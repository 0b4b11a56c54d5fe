"""The modes of a run as the decoupled equations predict them, beside the recorded ones."""

from dataclasses import dataclass

import numpy as np

from selfsup.analysis.theory.constants import Array, Constants
from selfsup.analysis.theory.modes import DIRECTIONS, solve_modes
from selfsup.analysis.theory.practice import leading_modes, noise_floor
from selfsup.records.dynamics import Dynamics
from selfsup.utils.errors import InputError


@dataclass(frozen=True)
class Prediction:
    """M modes at R moments of a run, the first of which is given to the equations.

    Attributes:
        step: completed training steps, int64 [R].
        p, s: predicted eigenvalues of W_p and of E[z1 z2^T], float64 [R, M].
        recorded_p, recorded_s: the recorded ones, float64 [R, M].
        reference_p, reference_s: what "nothing changes" predicts: the recorded values from which the
            equations were solved, float64 [R, M].
        floor: the noise of the recorded p, float64 [R]; smaller values count as the floor in the score.
    """

    step: Array
    p: Array
    s: Array
    recorded_p: Array
    recorded_s: Array
    reference_p: Array
    reference_s: Array
    floor: Array

    @property
    def skill_p(self) -> float:
        """The skill of p, see `skill`."""
        values = (self.p, self.recorded_p, self.reference_p)
        return skill(*(np.maximum(value, self.floor[:, None])[1:] for value in values))

    @property
    def skill_s(self) -> float:
        """The skill of s, see `skill`."""
        return skill(self.s[1:], self.recorded_s[1:], self.reference_s[1:])


def skill(predicted: Array, recorded: Array, reference: Array) -> float:
    """Returns 1 - sum (log predicted - log recorded)^2 / sum (log reference - log recorded)^2.

    1 is a perfect prediction, 0 is as good as the reference, and a negative value is worse.

    Example:
        >>> skill(np.array([4.0]), np.array([4.0]), np.array([2.0]))
        1.0
        >>> skill(np.array([1.0]), np.array([4.0]), np.array([2.0]))
        -3.0
    """
    errors, trivial = (np.sum(np.log(x / recorded) ** 2) for x in (predicted, reference))
    return float(1.0 - errors / trivial) if trivial > 0 else np.nan


def predict(
    recorded: Dynamics, constants: Constants, loss: str = "cosine", restart: bool = False
) -> Prediction:
    """Solves the equations of each mode from the first recording on, and puts the later ones beside it.

    p, s = c, sigma^2 and the gain tau of the target at the start are those recorded. A mode is known by its
    rank among the eigenvalues of F. The modes are the leading ones of the first recording (`leading_modes`)
    whose c is positive in all recordings; under the cosine loss, they alone make up the lengths.

    Args:
        recorded: recordings of a run, the first of which is the start: `recorded[k:]` starts later. In the
            first steps, momentum and the target's gain are not those of the equations.
        constants: see `Constants.from_config`.
        loss: "cosine", or "euclidean" as in Tian et al. 2021.
        restart: whether each recording is predicted from the one before it, with its p, s, sigma^2 and tau,
            rather than all from the first one. Errors then do not accumulate, and sigma^2 is up to date.

    Raises:
        InputError: fewer than two recordings, or no mode is above the noise floor.

    Example:
        >>> z = np.diag([2.0, 1.0, 0.5, 0.1])
        >>> batch = {"z1": z, "z2": z, "t1": z, "t2": z}
        >>> weight = np.diag([0.3, 0.2, 0.0, 0.0])
        >>> start, later = (Dynamics.measure(step, weight, z**2, [batch], None) for step in (0, 9))
        >>> found = predict(start + later, Constants(), loss="euclidean")
        >>> found.recorded_s[0].tolist(), bool(found.p[1, 0] > 0.3)
        ([1.0, 0.25], True)
    """
    if len(recorded) < 2:
        raise InputError(f"a prediction needs two recordings, not {len(recorded)}")
    modes = leading_modes(recorded.predictor[0])
    modes = modes[(recorded.shared[:, modes] > 0).all(axis=0)]
    if not len(modes):
        raise InputError("a prediction needs a mode above the noise floor")
    p, s, variance, gain = (
        np.asarray(values[:, modes], np.float64)
        for values in (recorded.predictor, recorded.shared, recorded.variance, recorded.gain)
    )
    times = constants.times(recorded.step)
    starts = range(len(times) - 1) if restart else [0]
    predicted_p, predicted_s = p.copy(), s.copy()
    for start in starts:
        rows = slice(start, start + 2 if restart else None)
        sigma2 = variance[start] / s[start] - 1.0
        found = solve_modes(p[start], s[start], times[rows], constants, sigma2, gain[start], loss)
        predicted_p[rows][1:], predicted_s[rows][1:] = found.p[1:], found.s[1:]
    old = np.maximum(np.arange(len(times)) - 1, 0) if restart else np.zeros(len(times), np.int64)
    floor = np.array([max(noise_floor(row), np.finfo(np.float32).tiny) for row in recorded.predictor])
    return Prediction(recorded.step, predicted_p, predicted_s, p, s, p[old], s[old], floor)


@dataclass(frozen=True)
class Assumptions:
    """How far R recordings are from what the decoupled equations assume.

    Attributes:
        step: completed training steps, int64 [R].
        commutator: |F W_p - W_p F| / (|F| |W_p|): 0 if modes do not mix, float64 [R].
        spread: decades between the largest and the median eigenvalue of F, float64 [R].
        weight_spread: the same for W W^T. Inputs with X = I give F = (1 + sigma^2) W W^T, and so the same
            spread, float64 [R]; NaN if a rule sets W_p.
        growth: median of c over c at the first recording, over its modes, float64 [R].
        weight_growth: |W W^T| over |W W^T| at the first recording. With X = I, s grows only if W W^T does,
            float64 [R]; NaN if a rule sets W_p.
        sigma2: median of sigma^2 over the modes of the first recording, float64 [R].
        gain: median of the target's gain over these modes: 1 without EMA, float64 [R].
        lengths: how many modes make up |z|^2: (sum v)^2 / sum v^2 with v = u^T E[z z^T] u, float64 [R]. The
            cosine form replaces lengths by their means, which is rough for few modes.
        loss: the cosine loss of these modes with lengths replaced by their means, -2 R / sqrt(P Q) in the
            terms of `theory.modes`, float64 [R]. If the loss in `log.csv` is far below, a large part of
            sigma^2 is a variation of lengths, which the cosine does not see.
    """

    step: Array
    commutator: Array
    spread: Array
    weight_spread: Array
    growth: Array
    weight_growth: Array
    sigma2: Array
    gain: Array
    lengths: Array
    loss: Array


def assumptions(recorded: Dynamics) -> Assumptions:
    """Measures how far a run is from the assumptions of `predict`.

    Args:
        recorded: the recordings that were passed to `predict`.

    Raises:
        InputError: there is no recording, or no mode is above the noise floor.

    Example:
        >>> z = np.diag([0.1, 0.1, 1.0, 1.0])
        >>> batch = {"z1": z, "z2": z, "t1": z, "t2": z}
        >>> moment = Dynamics.measure(1, np.diag([0.0, 0.0, 1.0, 2.0]), z, [batch], None)
        >>> found = assumptions(moment)
        >>> found.commutator.tolist(), found.sigma2.tolist(), found.lengths.round(2).tolist()
        ([0.0], [0.0], [2.04])
    """
    if not len(recorded):
        raise InputError("there is no recording to measure")
    modes = leading_modes(recorded.predictor[0])
    if not len(modes):
        raise InputError("no mode is above the noise floor")
    p, variance, shared, gain = (
        np.asarray(values[:, modes], np.float64)
        for values in (recorded.predictor, recorded.variance, recorded.shared, recorded.gain)
    )
    lengths = np.asarray(recorded.variance, np.float64)
    sizes = np.linalg.norm(recorded.projector_gram, axis=1)
    prediction, target = (np.sum(x**2 * variance, axis=1) for x in (p, gain))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Assumptions(
            step=recorded.step,
            commutator=np.asarray(recorded.commutator, np.float64),
            spread=_spread(recorded.eigenvalues),
            weight_spread=_spread(recorded.projector_gram),
            growth=np.median(shared / shared[0], axis=1),
            weight_growth=sizes / sizes[0],
            sigma2=np.median(variance / shared - 1.0, axis=1),
            gain=np.median(gain, axis=1),
            lengths=lengths.sum(axis=1) ** 2 / np.sum(lengths**2, axis=1),
            loss=-DIRECTIONS * np.sum(p * gain * shared, axis=1) / np.sqrt(prediction * target),
        )


def _spread(eigenvalues: Array) -> Array:
    values = np.asarray(eigenvalues, np.float64)
    return np.log10(values[:, -1] / np.median(values, axis=1))
