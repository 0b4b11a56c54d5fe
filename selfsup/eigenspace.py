"""What the eigenspaces of the correlation F and of the predictor W_p say. NumPy in, NumPy out.

Weights [D, D] act on columns, W u; a Keras kernel is the transpose of that. All results are float64.
"""

import numpy as np

ROUNDING = 1e-12


def spectrum(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [D], ascending, and eigenvectors [D, D], in columns, of the symmetric part of F."""
    correlation = np.asarray(correlation, np.float64)
    return np.linalg.eigh((correlation + correlation.T) / 2)


def predictor_spectrum(weight: np.ndarray) -> np.ndarray:
    """Real parts of the eigenvalues of W_p [D, D], ascending, [D]."""
    return np.sort(np.linalg.eigvals(np.asarray(weight, np.float64)).real)


def alignment(correlation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """cos(u_j, W u_j) for every eigenvector u_j of F, in ascending order of its eigenvalues.

    1 where u_j is an eigenvector of W as well (with a positive eigenvalue), 0 where W u_j vanishes
    (Tian et al. 2021, arXiv:2102.06810, section 3; report section 5.1).

    Args:
        correlation: F, [D, D].
        weight: W_p, [D, D].

    Returns:
        [D], in [-1, 1].
    """
    _, u = spectrum(correlation)
    weight = np.asarray(weight, np.float64)
    images = weight @ u
    lengths = np.linalg.norm(images, axis=0)
    vanishes = lengths <= ROUNDING * np.linalg.norm(weight)
    return np.where(vanishes, 0.0, np.sum(u * images, axis=0) / np.where(vanishes, 1.0, lengths))


def asymmetry(weight: np.ndarray) -> float:
    """sum |W - W^T| / sum |W|: 0 for a symmetric [D, D] weight, at most 2; 0 for a zero weight."""
    weight = np.asarray(weight, np.float64)
    total = np.abs(weight).sum()
    return float(np.abs(weight - weight.T).sum() / total) if total > 0 else 0.0


def effective_rank(eigenvalues: np.ndarray) -> float:
    """exp of the entropy of F's normalised eigenvalues [D] (Roy and Vetterli 2007), in [1, D].

    Negative ones, which only rounding makes, count as 0; if all are 0, so do the directions used: 1.
    """
    positive = np.asarray(eigenvalues, np.float64)
    positive = positive[positive > 0]
    p = positive / positive.sum()
    return float(np.exp(-np.sum(p * np.log(p))))
