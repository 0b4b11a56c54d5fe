"""Predictor rules: pure functions from the correlation F of the projections to the weight W_p.

A rule takes F, float32 [D, D], and keyword options, and returns W_p, float32 [D, D], acting on columns:
p = W_p z. Everything is `keras.ops`, so that every backend runs the same code.
"""

from typing import Any

from keras import ops

from selfsup.backend.precision import full_precision
from selfsup.linalg import largest_eigenvalue, square_root

SPECTRUM_FLOOR = 1e-4
"""Least eigenvalue that DirectPred gives W_p, as in Tian et al.'s published code."""


@full_precision()
def correlation(z1: Any, z2: Any) -> Any:
    """Mean of z z^T over the batch and both views, uncentred: [B, D] twice -> float32 [D, D].

    The published codes of both papers take it within each view; the report's text (under eq. 4) writes
    a product across views.
    """
    z = ops.cast(ops.concatenate([z1, z2], axis=0), "float32")
    return ops.matmul(ops.transpose(z), z) / ops.cast(ops.shape(z)[0], "float32")


def moving_average(average: Any, new: Any, rho: float, first: Any) -> Any:
    """rho * average + (1 - rho) * new (report eq. 4), or just `new` where `first` is true."""
    return ops.where(first, new, rho * average + (1.0 - rho) * new)


@full_precision()
def directpred(correlation: Any, eps: float, spectrum: str = "normalized", solver: str = "eigh") -> Any:
    """DirectPred: W_p has the eigenvectors of F, and the square roots of its eigenvalues s_j.

    With F = U diag(s) U^T, W_p = U diag(p) U^T where p_j is
      - "normalized": max(sqrt(s_j / max s) + eps, 1e-4), Tian et al. 2021 (arXiv:2102.06810) eq. 18 as
        their published code computes it;
      - "paper": sqrt(s_j) + eps * max s, the report's eq. 2.
    Negative eigenvalues count as 0, and F = 0 gives a defined W_p (a multiple of the identity).

    Args:
        correlation: F, [D, D]; its symmetric part counts.
        eps: boost of all eigenvalues, which keeps small ones from vanishing.
        spectrum: "normalized" or "paper".
        solver: "eigh" decomposes F; "newton_schulz" takes the square root of F / max s by matrix products
            alone, within 1e-3 of it, and eps of at least 1e-4.

    Raises:
        ValueError: an unknown `spectrum` or `solver`.
    """
    if spectrum not in ("normalized", "paper"):
        raise ValueError(f"spectrum must be normalized or paper, not {spectrum!r}")
    if solver not in _SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(_SOLVERS)}, not {solver!r}")
    scaled, scale = _unit_scale(symmetrize(correlation))
    return _SOLVERS[solver](scaled, scale, eps, spectrum)


def _by_eigh(scaled: Any, scale: Any, eps: float, spectrum: str) -> Any:
    s, u = ops.eigh(scaled)
    s = ops.maximum(s, 0.0)
    largest = ops.max(s)
    if spectrum == "normalized":
        p = ops.sqrt(s / ops.where(largest > 0, largest, 1.0)) + eps
        p = ops.maximum(p, SPECTRUM_FLOOR)
    else:
        p = ops.sqrt(s * scale) + eps * largest * scale
    return ops.matmul(u * p, ops.transpose(u))


def _by_newton_schulz(scaled: Any, scale: Any, eps: float, spectrum: str) -> Any:
    largest = largest_eigenvalue(scaled)
    root = square_root(scaled / ops.where(largest > 0, largest, 1.0))
    identity = ops.eye(scaled.shape[0], dtype="float32")
    if spectrum == "normalized":
        return root + max(eps, SPECTRUM_FLOOR) * identity
    return ops.sqrt(largest * scale) * root + eps * largest * scale * identity


_SOLVERS = {"eigh": _by_eigh, "newton_schulz": _by_newton_schulz}


def directcopy(correlation: Any, eps: float, norm: str = "fro") -> Any:
    """DirectCopy: W_p = F / ||F|| + eps * I (report eq. 5; Wang et al. 2021, arXiv:2110.04947).

    Args:
        correlation: F, [D, D]; its symmetric part counts.
        eps: weight of the identity.
        norm: "fro" (Frobenius) or "spectral" (the largest absolute eigenvalue).

    Raises:
        ValueError: an unknown `norm`.
    """
    if norm not in ("fro", "spectral"):
        raise ValueError(f"norm must be fro or spectral, not {norm!r}")
    scaled, _ = _unit_scale(symmetrize(correlation))
    if norm == "fro":
        size = ops.sqrt(ops.sum(ops.square(scaled)))
    else:
        size = ops.max(ops.abs(ops.eigh(scaled)[0]))
    return scaled / ops.where(size > 0, size, 1.0) + eps * ops.eye(scaled.shape[0], dtype=scaled.dtype)


def symmetrize(*weights: Any) -> Any:
    """The symmetric version of a predictor's weights.

    One weight W [D, D] becomes (W + W^T) / 2. Two, W1 [H, D] and W2 [D, H] of W_p = W2 W1, become
    W1' = (W1 + W2^T) / 2 and W2' = W1'^T, so that W2' W1' is symmetric. Keras kernels, which are the
    transposes, may be given as they are: the formula is the same.

    Returns:
        The weight, or the pair.
    """
    if len(weights) == 1:
        return (weights[0] + ops.transpose(weights[0])) / 2.0
    first, second = weights
    first = (first + ops.transpose(second)) / 2.0
    return first, ops.transpose(first)


def _unit_scale(matrix: Any) -> tuple[Any, Any]:
    """`matrix` over its largest absolute entry, and that: keeps squares of tiny F in float32's range.

    A matrix with entries that are not finite counts as 0: the loss tells of it, and `eigh` would raise.
    """
    matrix = ops.cast(matrix, "float32")
    matrix = ops.where(ops.all(ops.isfinite(matrix)), matrix, 0.0)
    scale = ops.max(ops.abs(matrix))
    return matrix / ops.where(scale > 0, scale, 1.0), scale
