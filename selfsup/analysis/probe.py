"""What a frozen encoder knows: its features, a linear probe and a weighted k-NN on them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup.backend.precision import full_precision

LEARNING_RATE = (5e-2, 5e-4)
DECAY_POWER = 2.0
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7


def normalise(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 [N, H, W, 3] -> float32, (value in [0, 1] - mean) / std per channel."""
    shift, scale = (np.asarray(value, np.float32) for value in (mean, std))
    return (images.astype(np.float32) / np.float32(255) - shift) / scale


def embed(
    encoder: keras.Model,
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 500,
) -> Any:
    """Features of all images by the encoder in inference mode, without augmentation.

    Args:
        encoder: normalised images -> [B, D], or a dict of such.
        images: uint8 [N, H, W, 3].
        mean, std: per channel, in [0, 1].
        batch_size: images at a time.

    Returns:
        float32 [N, D], or a dict of such.
    """
    parts = [
        encoder.predict_on_batch(normalise(images[start : start + batch_size], mean, std))
        for start in range(0, len(images), batch_size)
    ]
    return keras.tree.map_structure(
        lambda *chunks: np.concatenate([np.asarray(c, np.float32) for c in chunks]), *parts
    )


def linear_probe(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    epochs: int = 100,
    batch_size: int = 128,
    seed: int = 0,
) -> float:
    """Test accuracy in percent of a linear classifier after the LAST epoch (report section 4).

    Softmax regression by Adam on cached features, its learning rate falling from 5e-2 to 5e-4 by a
    polynomial of power 2. An epoch is one compiled loop over features that stay in memory.

    Args:
        x_train, x_test: features float32 [N, D].
        y_train, y_test: classes int [N], from 0.
        epochs: passes over the training features, each in a new order; a partial batch is dropped.
        batch_size: features a step, at most N.
        seed: of the order.
    """
    batch_size = min(batch_size, len(x_train))
    steps = len(x_train) // batch_size
    classes = int(max(y_train.max(), y_test.max())) + 1
    features, labels = ops.convert_to_tensor(x_train, "float32"), ops.convert_to_tensor(y_train, "int32")
    shapes = ((x_train.shape[1], classes), (classes,))
    state = tuple(ops.zeros(shape, "float32") for shape in 3 * shapes)
    epoch = _compiled(_probe_epoch)
    for index in range(epochs):
        order = np.random.default_rng([seed, index]).permutation(len(x_train))[: steps * batch_size]
        done = np.arange(index * steps, (index + 1) * steps, dtype=np.float32)
        rates = LEARNING_RATE[1] + (LEARNING_RATE[0] - LEARNING_RATE[1]) * (
            1.0 - done / (epochs * steps)
        ) ** np.float32(DECAY_POWER)
        correction = np.sqrt(1.0 - BETA2 ** (done + 1.0)) / (1.0 - BETA1 ** (done + 1.0))
        scaled = (rates * correction).astype(np.float32)
        batches = order.reshape(steps, batch_size).astype(np.int32)
        state = epoch(features, labels, state, *(ops.convert_to_tensor(x) for x in (batches, scaled)))
    weight, bias = (ops.convert_to_numpy(value) for value in state[:2])
    return float(np.mean(np.argmax(x_test @ weight + bias, axis=1) == y_test) * 100.0)


@full_precision()
def _probe_epoch(features: Any, labels: Any, state: tuple, batches: Any, rates: Any) -> tuple:
    """Adam steps (Kingma & Ba 2014, arXiv:1412.6980) of softmax regression over batches [S, B]."""

    def step(index: Any, state: tuple) -> tuple:
        indices, rate = batches[index], rates[index]
        weight, bias, *moments = state
        x = ops.take(features, indices, axis=0)
        target = ops.one_hot(ops.take(labels, indices, axis=0), bias.shape[0])
        error = (ops.softmax(ops.matmul(x, weight) + bias) - target) / ops.cast(ops.shape(x)[0], "float32")
        gradients = (ops.matmul(ops.transpose(x), error), ops.sum(error, axis=0))
        means = [BETA1 * m + (1.0 - BETA1) * g for m, g in zip(moments[:2], gradients, strict=True)]
        squares = [BETA2 * v + (1.0 - BETA2) * g * g for v, g in zip(moments[2:], gradients, strict=True)]
        weight, bias = (
            value - rate * m / (ops.sqrt(v) + EPSILON)
            for value, m, v in zip((weight, bias), means, squares, strict=True)
        )
        return (weight, bias, *means, *squares)

    return ops.fori_loop(0, batches.shape[0], step, state)


def _compiled(function: Callable) -> Callable:
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, autograph=False)


def knn(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    k: int = 200,
    temperature: float = 0.1,
    batch_size: int = 500,
) -> float:
    """Test accuracy in percent of a weighted k-NN (Wu et al. 2018, arXiv:1805.01978, section 3.4).

    The k training features of the largest cosine vote for their class with weight exp(cosine / T).

    Args:
        x_train, x_test: features float32 [N, D].
        y_train, y_test: classes int [N], from 0.
        k: neighbours.
        temperature: T.
        batch_size: test features at a time.
    """
    indices, cosines = nearest(x_train, x_test, k, batch_size)
    weights = np.exp(cosines / temperature)
    votes = np.zeros((len(x_test), int(max(y_train.max(), y_test.max())) + 1))
    for rank in range(indices.shape[1]):
        votes[np.arange(len(x_test)), y_train[indices[:, rank]]] += weights[:, rank]
    return float(np.mean(np.argmax(votes, axis=1) == y_test) * 100.0)


def nearest(
    bank: np.ndarray, queries: np.ndarray, k: int, batch_size: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """The k features of largest cosine with each query, the nearest first.

    Args:
        bank, queries: features float32 [N, D] and [Q, D].
        k: neighbours, at most N.
        batch_size: queries at a time.

    Returns:
        Their indices into the bank, int [Q, k], and cosines [Q, k].
    """
    k = min(k, len(bank))
    bank, queries = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (bank, queries))
    found = []
    for start in range(0, len(queries), batch_size):
        cosines = queries[start : start + batch_size] @ bank.T
        indices = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosines, indices, axis=1), axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
        found.append((indices, np.take_along_axis(cosines, indices, axis=1)))
    indices, cosines = (np.concatenate(chunks) for chunks in zip(*found, strict=True))
    return indices, cosines
