"""Measures of embeddings that need no labels."""

import numpy as np


def rankme(z: np.ndarray) -> float:
    """Computes RankMe: exp of the entropy of the normalised singular values.

    It is a smooth rank of the embeddings (Garrido et al. 2023, arXiv:2210.02885, eq. 1). The effective rank
    of F in the log is that of the squared singular values, and reads lower.

    Args:
        z: embeddings, float [N, D].

    Returns:
        A number from 1 to min(N, D), up to rounding.

    Example:
        >>> round(rankme(np.diag([2.0, 2.0, 0.0])), 3)
        2.0
    """
    return _smooth_rank(np.linalg.svd(np.asarray(z, np.float64), compute_uv=False))


def lidar(z: np.ndarray, delta: float = 1e-4) -> float:
    """Computes LiDAR: the smooth rank of the linear discriminant analysis that tells images apart.

    A class has the views of one image. With the covariance S_b of the classes' means and S_w within classes,
    it is exp of the entropy of the normalised eigenvalues of S_w^(-1/2) S_b S_w^(-1/2) (Thilak et al. 2023,
    arXiv:2312.04000, eq. 1-5).

    Args:
        z: embeddings of Q views of N images, float [N, Q, D].
        delta: added to the diagonal of S_w.

    Returns:
        A number from 1 to min(N - 1, D), up to rounding.

    Example:
        >>> images = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
        >>> round(lidar(np.stack([images, images], axis=1)), 3)
        2.0
    """
    z = np.asarray(z, np.float64)
    means = z.mean(axis=1)
    between = means - means.mean(axis=0)
    within = (z - means[:, None]).reshape(-1, z.shape[-1])
    values, vectors = np.linalg.eigh(within.T @ within / len(within))
    whitened = between @ vectors / np.sqrt(np.maximum(values, 0.0) + delta)
    return _smooth_rank(np.linalg.svd(whitened, compute_uv=False) ** 2)


def _smooth_rank(values: np.ndarray, eps: float = 1e-7) -> float:
    """Returns exp of the entropy of nonnegative values divided by their sum, with both papers' eps."""
    total = values.sum()
    p = values / (total if total > 0 else 1.0) + eps
    return float(np.exp(-np.sum(p * np.log(p))))


def view_alignment(z: np.ndarray) -> float:
    """Computes the mean squared distance of two views of an image on the unit sphere: 0 if they are equal.

    Wang and Isola 2020 (arXiv:2005.10242, section 4.1) call it the alignment loss.

    Args:
        z: embeddings of Q views of N images, float [N, Q, D], with Q at least 2; all pairs of views count.

    Returns:
        A number in [0, 4].

    Example:
        >>> view_alignment(np.array([[[2.0, 0.0], [0.0, 3.0]]]))
        2.0
    """
    z = _on_sphere(z)
    views = z.shape[1]
    spread = np.mean(np.sum((z - z.mean(axis=1, keepdims=True)) ** 2, axis=-1))
    return float(2.0 * spread * views / (views - 1))


def uniformity(z: np.ndarray, t: float = 2.0) -> float:
    """Computes log of the mean of exp(-t |z_i - z_j|^2) over pairs of images on the unit sphere.

    It is 0 for a single point; lower is more uniform (Wang and Isola 2020, arXiv:2005.10242, section 4.1).

    Args:
        z: embeddings, float [N, D], N at least 2.
        t: inverse width of the kernel, above 0.

    Returns:
        A number in [-4 t, 0].

    Example:
        >>> round(uniformity(np.array([[1.0, 0.0], [-2.0, 0.0]])), 6)
        -8.0
    """
    z = _on_sphere(z)
    squares = 2.0 - 2.0 * (z @ z.T)[np.triu_indices(len(z), 1)]
    return float(np.log(np.mean(np.exp(-t * squares))))


def _on_sphere(z: np.ndarray) -> np.ndarray:
    z = np.asarray(z, np.float64)
    return z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
