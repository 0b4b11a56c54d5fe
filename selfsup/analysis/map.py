"""Maps of features in two dimensions: principal components, and t-SNE."""

from collections.abc import Callable

import numpy as np

PERPLEXITY = 30.0
EARLY, STEPS = 80, 320
"""Steps of t-SNE with exaggerated affinities, and all steps."""
EXAGGERATION = 12.0


def pca(features: np.ndarray, dimensions: int = 2) -> np.ndarray:
    """Scales features to length 1 and projects them onto their first principal components.

    The sign of each component is such that its largest value is positive.

    Args:
        features: float [N, D].
        dimensions: number of components.

    Returns:
        float64 [N, dimensions]; zeros where there are fewer components.

    Example:
        >>> pca(np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 5.0]]), dimensions=1).round(2).tolist()
        [[0.94], [-0.47], [-0.47]]
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features.astype(np.float64) / np.maximum(norms, 1e-12)
    centred = unit - unit.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    points = centred @ axes[:, ::-1][:, :dimensions]
    extreme = np.take_along_axis(points, np.abs(points).argmax(axis=0)[None], axis=0)
    points *= np.where(extreme < 0, -1.0, 1.0)
    return np.pad(points, ((0, 0), (0, dimensions - points.shape[1])))


def tsne(features: np.ndarray, progress: Callable[[float], None] = lambda share: None) -> np.ndarray:
    """Places features in a plane by t-SNE (van der Maaten and Hinton 2008), with cosine distances.

    It computes all N^2 pairs and starts from the principal components, so that it is deterministic. For a few
    thousand features.

    Args:
        features: float [N, D].
        progress: called with the completed share.

    Returns:
        float64 [N, 2], centred. With fewer than 8 features these are the principal components.
    """
    start = pca(features)
    if len(features) < 8 or start[:, 0].std() == 0:
        return start
    reduced = pca(features, min(50, features.shape[1]))
    shared = affinities(_squared_distances(reduced), min(PERPLEXITY, (len(features) - 1) / 3))
    points = (1e-4 * start / start[:, 0].std()).astype(np.float32)
    velocity, gains = np.zeros_like(points), np.ones_like(points)
    rate = max(len(points) / EXAGGERATION / 4.0, 50.0)
    for step in range(STEPS):
        early = step < EARLY
        gradient = _gradient(points, shared, EXAGGERATION if early else 1.0)
        agrees = np.sign(gradient) != np.sign(velocity)
        gains = np.maximum(np.where(agrees, gains + 0.2, gains * 0.8), 0.01)
        velocity = (0.5 if early else 0.8) * velocity - rate * gains * gradient
        points = points + velocity
        progress((step + 1) / STEPS)
    return (points - points.mean(axis=0)).astype(np.float64)


def affinities(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Computes the symmetric affinities of t-SNE by bisection of each row's bandwidth.

    Args:
        distances: squared distances, float [N, N].
        perplexity: exp(entropy) of each row.

    Returns:
        float32 [N, N] with a zero diagonal and sum 1.
    """
    count = len(distances)
    others = distances.astype(np.float32)
    np.fill_diagonal(others, np.inf)
    others -= others.min(axis=1, keepdims=True)  # the nearest has weight 1, so no row is all zeros
    finite = np.where(np.isfinite(others), others, np.float32(0.0))
    low, high = np.zeros((count, 1), np.float32), np.full((count, 1), np.inf, np.float32)
    beta = 1.0 / np.maximum(finite.sum(axis=1, keepdims=True) / count, 1e-12)
    for _ in range(30):
        weights = np.exp(others * -beta)
        total = weights.sum(axis=1, keepdims=True)
        entropy = np.log(total) + beta * np.einsum("ij,ij->i", finite, weights)[:, None] / total
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        beta = np.where(np.isinf(high), 2.0 * beta, (low + np.where(np.isinf(high), low, high)) / 2.0)
    rows = weights / total
    return ((rows + rows.T) / (2.0 * count)).astype(np.float32)


def _squared_distances(x: np.ndarray) -> np.ndarray:
    squares = np.sum(x * x, axis=1)
    return np.maximum(squares[:, None] + squares[None] - 2.0 * (x @ x.T), 0.0)


def _gradient(points: np.ndarray, shared: np.ndarray, exaggeration: float) -> np.ndarray:
    """Gradient of the Kullback-Leibler divergence, float32 [N, 2], with few passes over [N, N]."""
    squares = np.sum(points * points, axis=1, keepdims=True)
    ones = np.ones_like(squares)
    kernel = np.hstack([points, squares + 1.0, ones]) @ np.hstack([-2.0 * points, ones, squares]).T
    np.reciprocal(kernel, out=kernel)  # 1 / (1 + squared distance)
    np.fill_diagonal(kernel, 0.0)
    pull = kernel * np.float32(-1.0 / kernel.sum() / exaggeration)
    pull += shared
    pull *= kernel
    sums = pull @ np.hstack([points, ones])
    return np.float32(4.0 * exaggeration) * (sums[:, 2:] * points - sums[:, :2])
