"""Two numbers that tell a collapse while a network trains."""

from typing import Any

from keras import ops


def embedding_std(z1: Any, z2: Any) -> Any:
    """Std over the batch of the l2-normalised z [B, D], mean over D, times sqrt(D), mean over both views.

    1 for a uniform sphere, 0 for a constant (Chen & He 2020, arXiv:2011.10566, section 4.1).
    """
    stds = [ops.mean(ops.std(ops.normalize(z, axis=-1), axis=0)) for z in (z1, z2)]
    return (stds[0] + stds[1]) / 2.0 * z1.shape[-1] ** 0.5


def effective_rank(correlation: Any) -> Any:
    """exp of the entropy of the normalised eigenvalues of F [D, D] (Roy and Vetterli 2007), in [1, D].

    The number of directions that the projections really use. A zero F has none and gives 1; one with
    entries that are not finite gives NaN.
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
