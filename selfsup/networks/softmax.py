"""Softmax regression: one step of Adam as a pure function, and a classifier that trains beside a network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from selfsup.backend import replicas
from selfsup.backend.precision import full_precision
from selfsup.monitor import SampleMean
from selfsup.utils.errors import InputError

BETA1, BETA2 = 0.9, 0.999
EPSILON = 1e-7


def bias_correction(step: Any) -> Any:
    """Returns the factor of the learning rate that corrects the means of Adam, which start at 0.

    Args:
        step: number of the step, from 1; a float32 scalar or array, of NumPy or the backend.

    Example:
        >>> round(bias_correction(1.0), 4)
        0.3162
    """
    return (1.0 - BETA2**step) ** 0.5 / (1.0 - BETA1**step)


def adam_step(
    state: tuple, features: Any, targets: Any, rate: Any, weight_decay: float = 0.0, epsilon: float = EPSILON
) -> tuple:
    """Takes a step of Adam (Kingma and Ba 2014, arXiv:1412.6980) on a linear classifier's cross-entropy.

    Args:
        state: kernel [D, K] and bias [K], then their means and their squares' means, shaped alike.
        features: float32 [B, D].
        targets: one-hot classes, float32 [B, K]; a row of zeros has no part in the loss.
        rate: the learning rate times `bias_correction`, a scalar.
        weight_decay: L2 penalty of kernel and bias, added to the gradients as PyTorch's Adam does.
        epsilon: added to the denominator.

    Returns:
        The next state.
    """
    kernel, bias, *moments = state
    count = ops.maximum(ops.sum(targets), 1.0)
    labelled = ops.sum(targets, axis=1, keepdims=True)
    error = (ops.softmax(ops.matmul(features, kernel) + bias) * labelled - targets) / count
    gradients = (ops.matmul(ops.transpose(features), error), ops.sum(error, axis=0))
    if weight_decay:
        gradients = tuple(g + weight_decay * v for g, v in zip(gradients, (kernel, bias), strict=True))
    means = [BETA1 * m + (1.0 - BETA1) * g for m, g in zip(moments[:2], gradients, strict=True)]
    squares = [BETA2 * v + (1.0 - BETA2) * g * g for v, g in zip(moments[2:], gradients, strict=True)]
    kernel, bias = (
        value - rate * m / (ops.sqrt(v) + epsilon)
        for value, m, v in zip((kernel, bias), means, squares, strict=True)
    )
    return (kernel, bias, *means, *squares)


class OnlineProbe(keras.layers.Layer):
    """A linear classifier on the features of a network that is being trained, without influence on it.

    Args:
        features: length D of a feature vector.
        classes: number K of classes.

    Attributes:
        accuracy: the accuracy in percent on all labelled features so far, each classified before the step
            that learned from it.
    """

    RATE = 1e-2

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(name="online_probe", trainable=False, dtype="float32")
        shapes = {"kernel": (features, classes), "bias": (classes,)}
        self.state = [
            self.add_weight(shape=shape, initializer="zeros", trainable=False, name=f"{name}{moment}")
            for moment in ("", "_mean", "_square")
            for name, shape in shapes.items()
        ]
        self.accuracy = SampleMean(name="online_linear")
        self.built = True

    @full_precision()
    def score(self, views: Sequence[Any], labels: Any) -> tuple[Any, Any, Any]:
        """Adds a batch to the accuracy.

        Args:
            views: features of views of the same images, float [B, D] each; no gradient flows back.
            labels: classes of the images, int [B] or [B, 1], negative where unknown.

        Returns:
            For all V views: features, float32 [V B, D]; labels, int32 [V B]; and 1 where they are known,
            else 0, float32 [V B].

        Raises:
            InputError: there are no labels, or they have another shape.
        """
        if labels is None:
            raise InputError("labels are missing; the online probe needs them")
        if tuple(labels.shape[1:]) not in ((), (1,)):
            raise InputError(f"labels must be whole numbers [B], not {['B', *labels.shape[1:]]}")
        labels = ops.reshape(labels, (-1,))
        features = ops.cast(replicas.gather(ops.stop_gradient(ops.concatenate(views))), "float32")
        labels = ops.cast(replicas.gather(ops.concatenate([labels] * len(views))), "int32")
        known = ops.cast(labels >= 0, "float32")
        kernel, bias = self.state[:2]
        scores = ops.matmul(features, kernel) + bias
        correct = ops.equal(ops.cast(ops.argmax(scores, axis=1), "int32"), labels)  # `==` loses the rank
        self.accuracy.update_state(100.0 * ops.cast(correct, "float32"), sample_weight=known)
        return features, labels, known

    @full_precision()
    def learn(self, views: Sequence[Any], labels: Any, step: Any) -> None:
        """Adds a batch to the accuracy, and then learns from it.

        Args:
            views, labels: see `score`.
            step: the number of this step, from 1, a scalar.
        """
        features, labels, known = self.score(views, labels)
        corrected = self.RATE * bias_correction(ops.cast(step, "float32"))
        targets = ops.one_hot(labels, self.state[1].shape[0], dtype="float32") * known[:, None]
        new = adam_step(tuple(ops.convert_to_tensor(v) for v in self.state), features, targets, corrected)
        for variable, value in zip(self.state, new, strict=True):
            variable.assign(value)
