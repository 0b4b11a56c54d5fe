"""Two metrics that show a collapse during training."""

from typing import Any

import keras
from keras import ops


def embedding_std(z1: Any, z2: Any) -> Any:
    """Computes the standard deviation of the l2-normalised projections over the batch.

    The deviations are averaged over D and both views and multiplied by sqrt(D): 1 for a uniform distribution
    on the sphere, 0 for constant projections (Chen & He 2020, arXiv:2011.10566, section 4.1).

    Args:
        z1, z2: projections of view 1 and view 2, float [B, D].

    Returns:
        A scalar in [0, 1], of the projections' dtype.

    Example:
        >>> z = ops.convert_to_tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(float(embedding_std(z, z)), 3)
        1.0
        >>> round(float(embedding_std(ops.ones((4, 2)), ops.ones((4, 2)))), 3)
        0.0
    """
    stds = [ops.mean(ops.std(ops.normalize(z, axis=-1), axis=0)) for z in (z1, z2)]
    return (stds[0] + stds[1]) / 2.0 * z1.shape[-1] ** 0.5


def effective_rank(correlation: Any) -> Any:
    """Computes the effective rank of F: exp of the entropy of its normalised eigenvalues.

    It is the number of directions that the projections use (Roy and Vetterli 2007).

    Args:
        correlation: F, [D, D]; only its symmetric part is used, and negative eigenvalues count as 0.

    Returns:
        A float32 scalar in [1, D]: 1 for a zero F, NaN for an F with entries that are not finite.

    Example:
        >>> round(float(effective_rank(ops.diag([2.0, 2.0, 0.0]))), 3)
        2.0
    """
    correlation = ops.cast(correlation, "float32")
    finite = ops.all(ops.isfinite(correlation))
    correlation = ops.where(finite, (correlation + ops.transpose(correlation)) / 2.0, 0.0)
    scale = ops.max(ops.abs(correlation))
    s = ops.maximum(ops.eigh(correlation / ops.where(scale > 0, scale, 1.0))[0], 0.0)
    total = ops.sum(s)
    p = s / ops.where(total > 0, total, 1.0)
    entropy = -ops.sum(p * ops.log(ops.where(p > 0, p, 1.0)))
    return ops.where(finite, ops.exp(entropy), float("nan"))


class SampleMean(keras.metrics.Mean):
    """The mean of what was sampled, NaN where nothing was; Keras' own gives 0 there."""

    def result(self) -> Any:
        return ops.where(self.count > 0, super().result(), float("nan"))
