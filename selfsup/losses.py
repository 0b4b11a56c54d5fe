"""The losses of siamese networks without negative pairs."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
from keras import ops

from selfsup.utils.errors import InputError

Loss: TypeAlias = Callable[..., Any]  # (p1, p2, t1, t2) -> scalar; keyword-only: further outputs by name

LOSS_SCALE = 1.0
"""The paper's scale: -cos for each direction. Tian et al.'s published code uses twice that."""
OUTPUTS = ("z1", "z2", "p1", "p2", "t1", "t2")
"""The outputs of a network for two views that a loss may use, see `SiameseModel.call`."""
VANISHING = 1e-30
"""Squared length below which a prediction counts as zero."""


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


@keras.saving.register_keras_serializable("selfsup")
def symmetric_negative_cosine(p1: Any, p2: Any, t1: Any, t2: Any) -> Any:
    """Computes the batch mean of -cos(p1, sg(t2)) - cos(p2, sg(t1)) (paper, eq. 1, both directions).

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


@keras.saving.register_keras_serializable("selfsup")
def symmetric_euclidean(p1: Any, p2: Any, t1: Any, t2: Any) -> Any:
    """Computes half the squared distance, |p1 - sg(t2)|^2 / 2, as a mean over both directions and the batch.

    It is the loss of the theory (Tian et al. 2021, arXiv:2102.06810, section 3; see `selfsup.theory`).

    Args:
        p1, p2, t1, t2: see `symmetric_negative_cosine`.

    Returns:
        A float32 scalar of at least 0.

    Example:
        >>> p, t = ops.convert_to_tensor([[3.0, 4.0]]), ops.zeros((1, 2))
        >>> float(symmetric_euclidean(p, p, t, t))
        12.5
    """
    pairs = ((ops.cast(p, "float32"), ops.cast(t, "float32")) for p, t in ((p1, t2), (p2, t1)))
    squares = [ops.sum(ops.square(p - ops.stop_gradient(t)), axis=-1) for p, t in pairs]
    return ops.mean(squares[0] + squares[1]) / 4.0


@keras.saving.register_keras_serializable("selfsup")
def isoloss(p1: Any, p2: Any, t1: Any, t2: Any, *, z1: Any, z2: Any) -> Any:
    """IsoLoss: the cosine loss with the same rate for all modes (Halvagal et al. 2023, arXiv:2212.04858).

    The gradient of the cosine loss with respect to z has a factor W_p in front, so that modes with a small
    eigenvalue learn slowly. IsoLoss has the same gradient without that factor:

        -z1.sg(t2) / sg(|p1||t2|) + 1/2 sg(cos(p1, t2) / |p1|^2) z1^T W_p z1

    per image and direction, where z^T W_p z is |W_p^(1/2) z|^2, computed as z.p. W_p must be symmetric and
    constant. The published code uses twice this loss, as for the cosine (`LOSS_SCALE`). Only the gradient has
    a meaning, not the value: that of perfect agreement with W_p = I is -1.

    Args:
        p1, p2, t1, t2: see `symmetric_negative_cosine`.
        z1, z2: projections of view 1 and view 2, [B, D].

    Returns:
        A float32 scalar.

    Example:
        >>> z = ops.convert_to_tensor([[3.0, 4.0]])
        >>> round(float(isoloss(z, z, z, z, z1=z, z2=z)), 3)
        -1.0
    """
    return -LOSS_SCALE * ops.mean(_isotropic(z1, p1, t2) + _isotropic(z2, p2, t1))


def _isotropic(z: Any, p: Any, t: Any) -> Any:
    z, p, t = (ops.cast(x, "float32") for x in (z, p, t))
    square = ops.sum(ops.square(p), axis=-1)
    positive = square > VANISHING
    inverse = ops.where(positive, 1.0 / ops.where(positive, square, 1.0), 0.0)
    agreement = ops.sum(z * ops.stop_gradient(_unit_rows(t)), axis=-1)
    size = ops.sum(z * p, axis=-1)
    return (
        ops.stop_gradient(ops.sqrt(inverse)) * agreement
        - 0.5 * ops.stop_gradient(cosine(p, t) * inverse) * size
    )


def of_outputs(loss: Loss) -> Callable[[Mapping[str, Any]], Any]:
    """Makes a loss a function of the outputs of a network, a dict of z1, z2, p1, p2, t1 and t2.

    Args:
        loss: a function `(p1, p2, t1, t2) -> scalar`. Its keyword-only parameters get further outputs by
            name, if they have no default. No gradient passes through t1 and t2.

    Raises:
        InputError: the loss takes other parameters, or it does not return a scalar.

    Example:
        >>> penalty = of_outputs(lambda p1, p2, t1, t2, *, z1: ops.mean(z1 - t1))
        >>> float(penalty(dict.fromkeys(OUTPUTS, 1.0) | {"z1": 3.0}))
        2.0
    """
    if not callable(loss):
        raise InputError(f"loss must be a function of {', '.join(OUTPUTS[2:])}, not {loss!r}")
    signature = inspect.signature(loss)
    kinds = signature.parameters.values()
    more = [p.name for p in kinds if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if unknown := sorted(set(more) - set(OUTPUTS)):
        raise InputError(f"loss: {', '.join(unknown)} is not an output; choose from {', '.join(OUTPUTS)}")
    try:
        signature.bind(*OUTPUTS[2:], **dict.fromkeys(more))
    except TypeError:
        raise InputError(f"loss must be a function of {', '.join(OUTPUTS[2:])}, not of {signature}") from None

    def applied(outputs: Mapping[str, Any]) -> Any:
        known = {**outputs, **{name: ops.stop_gradient(outputs[name]) for name in ("t1", "t2")}}
        value = loss(*(known[name] for name in OUTPUTS[2:]), **{name: known[name] for name in more})
        if len(value.shape) > 0:
            raise InputError(f"loss must return a scalar, such as ops.mean(...), not {list(value.shape)}")
        return value

    return applied
