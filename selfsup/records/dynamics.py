"""The recordings that the theory is compared with: `dynamics.npz`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from selfsup import eigenspace
from selfsup.records.moments import Moments

DYNAMICS = "dynamics.npz"


@dataclass(frozen=True)
class Dynamics(Moments):
    """The quantities of Tian et al. 2021 (arXiv:2102.06810) at R moments of a run, in order. D is 128.

    u_j are the eigenvectors of F, in ascending order of its eigenvalues; before training, F is that of the
    batches below. Expectations are means over a few fixed batches of training images in new views, with the
    statistics of each batch. W is the projector's last Dense and V the predictor's first one (W_p itself, if
    it has one layer), and alpha_p the learning rate of the predictor relative to that of the network.

    Values are NaN if they do not exist: for matrices that are no longer finite, for expectations in runs on
    several devices, and for `imbalance` and the two grams if a rule sets W_p. Norms and traces
    follow from eigenvalues.

    Attributes:
        step: completed training steps, int64 [R].
        eigenvalues: eigenvalues of F, float32 [R, D].
        predictor: u_j^T W_p u_j, float32 [R, D].
        variance: u_j^T E[z z^T] u_j, float32 [R, D].
        shared: c_j = u_j^T E[z1 z2^T] u_j, float32 [R, D]; 1 + sigma_j^2 = variance / shared.
        gain: the target's u_j^T E[t z^T] u_j / c_j across the views, float32 [R, D]; 1 without EMA.
        commutator: |F W_p - W_p F| / (|F| |W_p|) in the Frobenius norm, float32 [R].
        imbalance: eigenvalues of C = W W^T - V^T V / alpha_p (Theorem 1), ascending, float32 [R, D].
        projector_gram, predictor_gram: those of W W^T and V^T V / alpha_p, float32 [R, D].
        centred: eigenvalues of the covariance E[z z^T] - E[z] E[z]^T, ascending, float32 [R, D].
        centred_predictor: v_j^T W_p v_j for its eigenvectors v_j, float32 [R, D]. The first eigenvector of F
            is largely the mean of z, which the batch norm of a two-layer predictor removes. Both are NaN in
            recordings of older versions.
    """

    FILE: ClassVar[str] = DYNAMICS
    KIND: ClassVar[str] = "dynamics"

    step: np.ndarray
    eigenvalues: np.ndarray
    predictor: np.ndarray
    variance: np.ndarray
    shared: np.ndarray
    gain: np.ndarray
    commutator: np.ndarray
    imbalance: np.ndarray
    projector_gram: np.ndarray
    predictor_gram: np.ndarray
    centred: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    centred_predictor: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def __post_init__(self) -> None:
        for name in ("centred", "centred_predictor"):
            if not getattr(self, name).size:
                object.__setattr__(self, name, np.full_like(self.predictor, np.nan))

    @classmethod
    def measure(
        cls,
        step: int,
        weight: np.ndarray,
        correlation: np.ndarray | None,
        batches: Sequence[Mapping[str, np.ndarray]],
        layers: tuple[np.ndarray, np.ndarray] | None,
    ) -> "Dynamics":
        """Measures one moment.

        Args:
            step: completed training steps.
            weight: W_p, [D, D], acting on columns.
            correlation: F, [D, D]; None before training.
            batches: z1, z2, t1 and t2 of fixed batches, [B, D] each; none if they are unknown.
            layers: W [D, N] and V / sqrt(alpha_p) [H, D]; None if a rule sets W_p.

        Returns:
            A recording with R = 1.

        Example:
            >>> z = np.eye(2)
            >>> batch = {"z1": z, "z2": z, "t1": 0.5 * z, "t2": 0.5 * z}
            >>> moment = Dynamics.measure(1, np.diag([3.0, 4.0]), np.diag([1.0, 2.0]), [batch], None)
            >>> moment.predictor.tolist(), moment.shared.tolist(), moment.gain.tolist()
            ([[3.0, 4.0]], [[0.5, 0.5]], [[0.5, 0.5]])
        """
        variance, shared, target, mean = _expectations(batches, len(weight))
        correlation = variance if correlation is None else correlation
        unknown = np.full(len(weight), np.nan)
        modes, centred = [unknown] * 5, [unknown] * 2
        alignment = np.nan
        if np.isfinite(correlation).all() and np.isfinite(weight).all():
            s, u = eigenspace.spectrum(correlation)
            p, v, c, t = (np.sum(u * (matrix @ u), axis=0) for matrix in (weight, variance, shared, target))
            with np.errstate(divide="ignore", invalid="ignore"):
                modes = [s, p, v, c, t / c]
            alignment = eigenspace.commutator_size(correlation, weight)
            if np.isfinite(variance).all():
                s, v = eigenspace.spectrum(variance - np.outer(mean, mean))
                centred = [s, np.sum(v * (weight @ v), axis=0)]
        row = (*modes, alignment, *_imbalance(layers, len(weight)), *centred)
        with np.errstate(over="ignore"):  # of a run that diverges
            return cls(np.array([step], np.int64), *(np.array([value], np.float32) for value in row))


def _expectations(
    batches: Sequence[Mapping[str, np.ndarray]], dims: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns E[z z^T], E[z1 z2^T] and E[t z^T], means over both directions, [D, D] each, and E[z], [D]."""
    if not batches:
        unknown = np.full((dims, dims), np.nan)
        return unknown, unknown, unknown, unknown[0]
    z1, z2, t1, t2 = (
        np.concatenate([np.asarray(batch[name], np.float64) for batch in batches])
        for name in ("z1", "z2", "t1", "t2")
    )
    pairs = (((z1, z1), (z2, z2)), ((z1, z2), (z2, z1)), ((t2, z1), (t1, z2)))
    within, across, target = (sum(a.T @ b for a, b in group) / (2 * len(z1)) for group in pairs)
    return within, across, target, (z1.mean(axis=0) + z2.mean(axis=0)) / 2.0


def _imbalance(layers: tuple[np.ndarray, np.ndarray] | None, dims: int) -> list[np.ndarray]:
    """Returns the eigenvalues of C and of its two parts, [D] each."""
    if layers is None or not all(np.isfinite(layer).all() for layer in layers):
        return [np.full(dims, np.nan)] * 3
    weight, first = (np.asarray(layer, np.float64) for layer in layers)
    parts = weight @ weight.T, first.T @ first
    return [np.linalg.eigvalsh(matrix) for matrix in (parts[0] - parts[1], *parts)]


def read_dynamics(workdir: str | Path) -> Dynamics:
    """Reads `dynamics.npz` from a run's folder.

    Raises:
        InputError: the file is missing or damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as workdir:
        ...     Dynamics.measure(0, np.eye(3), np.eye(3), [], None).write(Path(workdir))
        ...     recorded = read_dynamics(workdir)
        >>> recorded.predictor.tolist()
        [[1.0, 1.0, 1.0]]
    """
    return Dynamics.read(workdir)
