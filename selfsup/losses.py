"""The loss of siamese networks without negative pairs."""

from typing import Any

from keras import ops

LOSS_SCALE = 1.0
"""The report's scale, -cos for each direction. Tian et al.'s published code has twice that."""


def cosine(a: Any, b: Any) -> Any:
    """Cosine of the rows of `a` and `b`, both [B, D] -> [B], in float32; 0 where a row is zero."""
    a, b = (ops.normalize(ops.cast(x, "float32"), axis=-1) for x in (a, b))
    return ops.sum(a * b, axis=-1)


def symmetric_negative_cosine(p1: Any, p2: Any, t1: Any, t2: Any) -> Any:
    """Mean over the batch of -cos(p1, sg(t2)) - cos(p2, sg(t1)) (report eq. 1, both directions).

    Args:
        p1, p2: predictions of view 1 and view 2, [B, D].
        t1, t2: target projections of view 1 and view 2, [B, D]; no gradient passes through them.

    Returns:
        A float32 scalar in [-2, 2].
    """
    similarity = cosine(p1, ops.stop_gradient(t2)) + cosine(p2, ops.stop_gradient(t1))
    return -LOSS_SCALE * ops.mean(similarity)
