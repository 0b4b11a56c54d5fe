"""Predictor rules: pure functions from the correlation F of the projections to the weight W_p.

A rule takes F, float32 [D, D], and keyword options. It returns W_p, float32 [D, D], which acts on columns:
p = W_p z. All functions use `keras.ops`, so that every backend runs the same code.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from keras import ops

from selfsup.backend.precision import full_precision
from selfsup.linalg import largest_eigenvalue, square_root
from selfsup.methods import METHODS
from selfsup.resolved import Resolved

RESIDUAL = 1e-3
"""Largest entry of root^2 - F up to which the root of the Newton-Schulz iteration is used."""
SPECTRUM_FLOOR = 1e-4
"""Lower bound of DirectPred's eigenvalues of W_p, as in Tian et al.'s published code."""


def rule_of(resolved: Resolved) -> Callable[[Any], Any] | None:
    """Returns the rule of a config's method, from F to W_p, with its options; None if it has none.

    Args:
        resolved: `config.resolved`.

    Example:
        >>> from selfsup.config import Config
        >>> rule_of(Config(method="byol").resolved) is None
        True
        >>> rule_of(Config(method="directcopy", eps=0.2).resolved).keywords
        {'eps': 0.2, 'norm': 'fro'}
    """
    rule = METHODS[resolved.method].rule
    function = globals()[rule] if isinstance(rule, str) else rule
    return None if function is None else partial(function, **resolved.rule_options)


@full_precision()
def correlation(z1: Any, z2: Any) -> Any:
    """Computes the correlation of a batch: the mean of z z^T over the batch and both views, uncentred.

    The published code of both papers uses products within each view, as here; the paper's text (under
    eq. 4) has a product across views.

    Args:
        z1, z2: projections of view 1 and view 2, [B, D].

    Returns:
        float32 [D, D], symmetric.

    Example:
        >>> matrix = correlation(ops.convert_to_tensor([[2.0, 0.0]]), ops.convert_to_tensor([[0.0, 4.0]]))
        >>> [[float(entry) for entry in row] for row in matrix]
        [[2.0, 0.0], [0.0, 8.0]]
    """
    z = ops.cast(ops.concatenate([z1, z2], axis=0), "float32")
    return ops.matmul(ops.transpose(z), z) / ops.cast(ops.shape(z)[0], "float32")


def moving_average(average: Any, new: Any, rho: float, first: Any) -> Any:
    """Updates a moving average: rho * average + (1 - rho) * new (paper, eq. 4).

    Args:
        average: the average so far, of any shape.
        new: the new value, of the same shape.
        rho: decay, in [0, 1).
        first: boolean scalar; if true, the result is `new`, so that the average does not start from zero.

    Returns:
        The updated average, of the same shape.

    Example:
        >>> float(moving_average(1.0, 2.0, rho=0.75, first=False))
        1.25
        >>> float(moving_average(1.0, 2.0, rho=0.75, first=True))
        2.0
    """
    return ops.where(first, new, rho * average + (1.0 - rho) * new)


@full_precision()
def directpred(correlation: Any, eps: float, spectrum: str = "normalized", solver: str = "eigh") -> Any:
    """DirectPred: W_p has the eigenvectors of F and the square roots of its eigenvalues s_j.

    With F = U diag(s) U^T, W_p = U diag(p) U^T where p_j is
      - "normalized": max(sqrt(s_j / max s) + eps, 1e-4), Tian et al. 2021 (arXiv:2102.06810) eq. 18 as
        their published code computes it;
      - "paper": sqrt(s_j) + eps * max s, the paper's eq. 2.
    Negative eigenvalues count as 0. With "normalized", F = 0 gives a multiple of the identity. An F with
    entries that are not finite counts as 0.

    Args:
        correlation: F, [D, D]; only its symmetric part is used.
        eps: boost of all eigenvalues, at least 0, which keeps small ones from vanishing.
        spectrum: "normalized" or "paper".
        solver: "eigh" decomposes F. "newton_schulz" uses only matrix products: its W_p differs by at most
            1e-3 in the spectral norm (relative to W_p for "paper") if no eigenvalue is below -1e-6 max s,
            and "normalized" raises eps to at least 1e-4. An F with clearly negative eigenvalues is
            decomposed.

    Returns:
        W_p, float32 [D, D], symmetric.

    Raises:
        ValueError: `spectrum` or `solver` is unknown.

    Example:
        >>> weight = directpred(ops.diag([4.0, 1.0]), eps=0.1)
        >>> [round(float(entry), 2) for entry in ops.diagonal(weight)]
        [1.1, 0.6]
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
    unit = scaled / ops.where(largest > 0, largest, 1.0)
    root = square_root(unit)
    identity = ops.eye(scaled.shape[0], dtype="float32")

    def weight() -> Any:
        if spectrum == "normalized":
            return root + max(eps, SPECTRUM_FLOOR) * identity
        return ops.sqrt(largest * scale) * root + eps * largest * scale * identity

    # The iteration diverges for negative eigenvalues, which rounding alone does not make.
    converged = ops.max(ops.abs(ops.matmul(root, root) - unit)) < RESIDUAL
    return ops.cond(converged, weight, lambda: _by_eigh(scaled, scale, eps, spectrum))


_SOLVERS = {"eigh": _by_eigh, "newton_schulz": _by_newton_schulz}


def directcopy(correlation: Any, eps: float, norm: str = "fro") -> Any:
    """DirectCopy: W_p = F / ||F|| + eps * I (paper, eq. 5; Wang et al. 2021, arXiv:2110.04947).

    Args:
        correlation: F, [D, D]; only its symmetric part is used. An F with entries that are not finite counts
            as 0, for which W_p is eps * I.
        eps: weight of the identity.
        norm: "fro" (Frobenius) or "spectral" (the largest absolute eigenvalue).

    Returns:
        W_p, float32 [D, D], symmetric.

    Raises:
        ValueError: `norm` is unknown.

    Example:
        >>> weight = directcopy(ops.diag([4.0, 3.0]), eps=0.3)
        >>> [round(float(entry), 2) for entry in ops.diagonal(weight)]
        [1.1, 0.9]
    """
    if norm not in ("fro", "spectral"):
        raise ValueError(f"norm must be fro or spectral, not {norm!r}")
    scaled, _ = _unit_scale(symmetrize(correlation))
    if norm == "fro":
        size = ops.sqrt(ops.sum(ops.square(scaled)))
    else:
        size = ops.max(ops.abs(ops.eigh(scaled)[0]))
    return scaled / ops.where(size > 0, size, 1.0) + eps * ops.eye(scaled.shape[0], dtype=scaled.dtype)


@full_precision()
def directset(correlation: Any, alpha: float, eps: float) -> Any:
    """DirectSet: W_p is a power of F (Wang et al. 2021, arXiv:2110.04947).

    With F = U diag(s) U^T, W_p = U diag(p) U^T where p_j = (max(s_j, 0) / max s + eps)^alpha. DirectPred has
    eps outside of the power, with alpha = 1/2.

    Args:
        correlation: F, [D, D]; only its symmetric part is used. An F with entries that are not finite counts
            as 0, for which W_p is eps^alpha * I.
        alpha: the power, above 0.
        eps: boost of all eigenvalues, at least 0.

    Returns:
        W_p, float32 [D, D], symmetric.

    Example:
        >>> weight = directset(ops.diag([4.0, 1.0]), alpha=0.5, eps=0.11)
        >>> [round(float(entry), 2) for entry in ops.diagonal(weight)]
        [1.05, 0.6]
    """
    scaled, _ = _unit_scale(symmetrize(correlation))
    s, u = ops.eigh(scaled)
    s = ops.maximum(s, 0.0)
    largest = ops.max(s)
    p = ops.power(s / ops.where(largest > 0, largest, 1.0) + eps, alpha)
    return ops.matmul(u * p, ops.transpose(u))


def symmetrize(*weights: Any) -> Any:
    """Makes a predictor symmetric.

    One weight W becomes (W + W^T) / 2. Two weights of W_p = W2 W1 become W1' = (W1 + W2^T) / 2 and
    W2' = W1'^T, so that W2' W1' is symmetric. The formulas also hold for Keras kernels, which are the
    transposes of the weights.

    Args:
        *weights: W [D, D], or W1 [H, D] and W2 [D, H].

    Returns:
        The symmetric weight, or the pair of weights.

    Example:
        >>> weight = symmetrize(ops.convert_to_tensor([[1.0, 2.0], [0.0, 1.0]]))
        >>> [[float(entry) for entry in row] for row in weight]
        [[1.0, 1.0], [1.0, 1.0]]
    """
    if len(weights) == 1:
        return (weights[0] + ops.transpose(weights[0])) / 2.0
    first, second = weights
    first = (first + ops.transpose(second)) / 2.0
    return first, ops.transpose(first)


def _unit_scale(matrix: Any) -> tuple[Any, Any]:
    """Returns a matrix divided by its largest absolute entry, and that entry.

    The scaling keeps squares of a tiny F in float32's range. A matrix with entries that are not finite counts
    as 0, because `eigh` would raise an error; the loss reveals the divergence.
    """
    matrix = ops.cast(matrix, "float32")
    matrix = ops.where(ops.all(ops.isfinite(matrix)), matrix, 0.0)
    scale = ops.max(ops.abs(matrix))
    return matrix / ops.where(scale > 0, scale, 1.0), scale
