"""The loss of siamese networks without negative pairs."""

from typing import Any

from keras import ops

LOSS_SCALE = 1.0
"""The report's scale: -cos for each direction. Tian et al.'s published code uses twice that."""


def cosine(a: Any, b: Any) -> Any:
    """Computes the cosine of each pair of rows in float32.

    Args:
        a, b: [B, D], of any float dtype.

    Returns:
        float32 [B] in [-1, 1]; 0 if either row is zero.

    Example:
        >>> a = ops.convert_to_tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
        >>> b = ops.convert_to_tensor([[2.0, 0.0], [4.0, 3.0], [1.0, 1.0]])
        >>> [round(float(similarity), 2) for similarity in cosine(a, b)]
        [1.0, 0.96, 0.0]
    """
    return ops.sum(_unit_rows(a) * _unit_rows(b), axis=-1)


def _unit_rows(x: Any) -> Any:
    """Divides each row by its norm. A zero row stays zero, with a zero gradient (JAX's own is NaN)."""
    x = ops.cast(x, "float32")
    positive = ops.sum(ops.square(x), axis=-1, keepdims=True) > 0
    return ops.where(positive, ops.normalize(ops.where(positive, x, 1.0), axis=-1), 0.0)


def symmetric_negative_cosine(p1: Any, p2: Any, t1: Any, t2: Any) -> Any:
    """Computes the batch mean of -cos(p1, sg(t2)) - cos(p2, sg(t1)) (report eq. 1, both directions).

    Args:
        p1, p2: predictions of view 1 and view 2, [B, D].
        t1, t2: target projections of view 1 and view 2, [B, D]. No gradient passes through them.

    Returns:
        A float32 scalar in [-2, 2].

    Example:
        >>> z = ops.convert_to_tensor([[3.0, 4.0]])
        >>> round(float(symmetric_negative_cosine(z, z, z, z)), 3)
        -2.0
    """
    similarity = cosine(p1, ops.stop_gradient(t2)) + cosine(p2, ops.stop_gradient(t1))
    return -LOSS_SCALE * ops.mean(similarity)
