"""The eigenspaces of the correlation F and the predictor W_p, in NumPy.

Weights [D, D] act on columns, W u; a Keras kernel is the transpose. All results are float64.
"""

import numpy as np

ROUNDING = 1e-12


def spectrum(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the eigenvalues and eigenvectors of the symmetric part of F.

    Args:
        correlation: F, [D, D].

    Returns:
        Eigenvalues, ascending, [D], and eigenvectors in columns, [D, D].

    Raises:
        numpy.linalg.LinAlgError: the decomposition did not converge.

    Example:
        >>> values, vectors = spectrum(np.diag([3.0, 1.0]))
        >>> values.tolist(), vectors.shape
        ([1.0, 3.0], (2, 2))
    """
    correlation = np.asarray(correlation, np.float64)
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    return values, vectors


def predictor_spectrum(weight: np.ndarray) -> np.ndarray:
    """Computes the real parts of the eigenvalues of W_p.

    Args:
        weight: W_p, [D, D], finite.

    Returns:
        Real parts, ascending, [D].

    Raises:
        numpy.linalg.LinAlgError: `weight` has entries that are not finite.

    Example:
        >>> predictor_spectrum(np.array([[2.0, 1.0], [0.0, -1.0]])).tolist()
        [-1.0, 2.0]
    """
    return np.sort(np.linalg.eigvals(np.asarray(weight, np.float64)).real)


def alignment(correlation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Computes cos(u_j, W u_j) for each eigenvector u_j of F.

    It is 1 if u_j is also an eigenvector of W with a positive eigenvalue, and 0 if W u_j vanishes (Tian et
    al. 2021, arXiv:2102.06810, section 3; paper, section 5.1).

    Args:
        correlation: F, [D, D].
        weight: W_p, [D, D].

    Returns:
        [D], in [-1, 1], in ascending order of F's eigenvalues.

    Example:
        >>> alignment(np.diag([1.0, 2.0]), np.diag([-3.0, 0.5])).tolist()
        [-1.0, 1.0]
    """
    _, u = spectrum(correlation)
    weight = np.asarray(weight, np.float64)
    images = weight @ u
    lengths = np.linalg.norm(images, axis=0)
    vanishes = lengths <= ROUNDING * np.linalg.norm(weight)
    return np.where(vanishes, 0.0, np.sum(u * images, axis=0) / np.where(vanishes, 1.0, lengths))


def asymmetry(weight: np.ndarray) -> float:
    """Computes sum |W - W^T| / sum |W|.

    Args:
        weight: W_p, [D, D].

    Returns:
        A value in [0, 2]: 0 for a symmetric or zero weight, 2 for an antisymmetric one; NaN if an entry is
        not finite.

    Example:
        >>> asymmetry(np.array([[1.0, 2.0], [0.0, 1.0]]))
        1.0
    """
    weight = np.asarray(weight, np.float64)
    total = np.abs(weight).sum()
    with np.errstate(invalid="ignore"):
        return 0.0 if total == 0 else float(np.abs(weight - weight.T).sum() / total)


def commutator_size(correlation: np.ndarray, weight: np.ndarray) -> float:
    """Computes |F W - W F| / (|F| |W|) in the Frobenius norm.

    Args:
        correlation: F, [D, D].
        weight: W_p, [D, D].

    Returns:
        A value of at least 0: 0 if F and W_p have the same eigenvectors, or if one of them is zero; NaN if an
        entry is not finite.

    Example:
        >>> commutator_size(np.diag([1.0, 2.0]), np.diag([-3.0, 0.5]))
        0.0
    """
    correlation, weight = np.asarray(correlation, np.float64), np.asarray(weight, np.float64)
    with np.errstate(invalid="ignore"):
        size = np.linalg.norm(correlation) * np.linalg.norm(weight)
        return 0.0 if size == 0 else float(np.linalg.norm(correlation @ weight - weight @ correlation) / size)


def effective_rank(eigenvalues: np.ndarray) -> float:
    """Computes exp of the entropy of F's normalised eigenvalues (Roy and Vetterli 2007).

    Args:
        eigenvalues: of F, [D]. Negative ones, which come from rounding, count as 0.

    Returns:
        A value in [1, D]; 1 if no eigenvalue is positive; NaN if one is not finite.

    Example:
        >>> round(effective_rank(np.array([0.0, 2.0, 2.0])), 3)
        2.0
    """
    positive = np.asarray(eigenvalues, np.float64)
    if not np.isfinite(positive).all():
        return np.nan
    positive = positive[positive > 0]
    p = positive / positive.sum()
    return float(np.exp(-np.sum(p * np.log(p))))
