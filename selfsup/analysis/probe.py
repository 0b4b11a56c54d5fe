"""The evaluation of a frozen network: its features, a linear probe and a weighted k-NN on them."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup.backend.compiled import compiled
from selfsup.backend.precision import full_precision
from selfsup.data.labels import one_label_each
from selfsup.networks.softmax import EPSILON, adam_step, bias_correction
from selfsup.utils.errors import InputError

DECAY_POWER = 2.0
MOST_COSINES = 2**25
"""Cosines that `nearest` holds at a time; 500 queries to 50,000 images are fewer."""


@dataclass(frozen=True)
class Recipe:
    """How a linear probe is trained.

    Attributes:
        epochs: passes over the training features, each in a new order; the last partial batch is dropped.
        first_rate, last_rate: learning rate of Adam, which decays as a polynomial of power 2.
        weight_decay: L2 penalty of kernel and bias, added to the gradients as PyTorch's Adam does.
        epsilon: of Adam.
        standardise: whether the features get mean 0 and standard deviation 1 over the training set.
        batch_size: features per step; all features if there are fewer.
    """

    epochs: int = 100
    first_rate: float = 5e-2
    last_rate: float = 5e-4
    weight_decay: float = 0.0
    epsilon: float = EPSILON
    standardise: bool = False
    batch_size: int = 128


PAPER = Recipe()
"""The paper, section 4."""
TIAN = Recipe(50, 3e-4, 3e-4, weight_decay=1e-3, epsilon=1e-8, standardise=True)
"""Tian et al. 2021, `linear_feature_eval.py`; theirs has random initial weights and keeps the last batch."""


def normalise(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Normalises images, uint8 [N, H, W, 3], to float32: (value / 255 - mean) / std per channel.

    Raises:
        InputError: the images are not uint8.

    Example:
        >>> white = np.full((1, 32, 32, 3), 255, np.uint8)
        >>> float(normalise(white, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)).max())
        2.0
    """
    if images.dtype != np.uint8:
        raise InputError(f"images must be uint8, not {images.dtype}")
    shift, scale = (np.asarray(value, np.float32) for value in (mean, std))
    return (images.astype(np.float32) / np.float32(255) - shift) / scale


def embed(
    model: keras.Model,
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 500,
) -> Any:
    """Computes the features of images in inference mode, without augmentation.

    Args:
        model: a model from normalised images [B, H, W, 3] to features [B, D], or to a dict of them.
        images: uint8 [N, H, W, 3].
        mean, std: per channel, in [0, 1], to normalise the images by.
        batch_size: images per batch.

    Returns:
        Features, float32 [N, D], or a dict of them.
    """
    chunks = [
        model.predict_on_batch(normalise(images[start : start + batch_size], mean, std))
        for start in range(0, len(images), batch_size)
    ]
    return keras.tree.map_structure(
        lambda *arrays: np.concatenate([np.asarray(a, np.float32) for a in arrays]), *chunks
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
    """Trains a linear classifier on features and returns its test accuracy (paper, section 4).

    It is softmax regression with Adam, whose learning rate decays from 5e-2 to 5e-4 as a polynomial of power
    2. Each epoch is one compiled loop.

    Args:
        x_train, x_test: features, float32 [N, D].
        y_train, y_test: classes, int [N], from 0.
        epochs, batch_size: see `Recipe`.
        seed: seed of the order.

    Returns:
        The accuracy in percent after the last epoch, even if an earlier one was better.

    Example:
        >>> x, y = np.repeat(np.eye(2, dtype=np.float32), 8, axis=0), np.repeat([0, 1], 8)
        >>> linear_probe(x, y, x, y, epochs=5)
        100.0
    """
    recipe = Recipe(epochs, batch_size=batch_size)
    return last_accuracy(probe_epochs(x_train, y_train, x_test, y_test, recipe, seed))


def last_accuracy(epochs: Iterator[Callable[[], float]]) -> float:
    """Returns the accuracy after the last epoch of `probe_epochs`, without those of the epochs before."""
    (last,) = deque(epochs, maxlen=1)
    return last()


def probe_epochs(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    recipe: Recipe,
    seed: int = 0,
) -> Iterator[Callable[[], float]]:
    """Trains a linear classifier by a recipe; see `linear_probe` for the other arguments.

    Yields:
        After each epoch, a function that returns its test accuracy in percent.
    """
    y_train = one_label_each(y_train, len(x_train), "y_train")
    y_test = one_label_each(y_test, len(x_test), "y_test")
    if recipe.standardise:
        mean, std = x_train.mean(axis=0), x_train.std(axis=0)
        x_train, x_test = ((x - mean) / np.where(std > 0, std, 1) for x in (x_train, x_test))
    batch_size, epochs = min(recipe.batch_size, len(x_train)), recipe.epochs
    steps = len(x_train) // batch_size
    classes = int(max(y_train.max(), y_test.max())) + 1
    features, labels = ops.convert_to_tensor(x_train, "float32"), ops.convert_to_tensor(y_train, "int32")
    shapes = ((x_train.shape[1], classes), (classes,))
    state = tuple(ops.zeros(shape, "float32") for shape in 3 * shapes)
    epoch = compiled(functools.partial(_probe_epoch, recipe))

    def accuracy(weights: tuple) -> float:
        kernel, bias = (ops.convert_to_numpy(value) for value in weights)
        return float(np.mean(np.argmax(x_test @ kernel + bias, axis=1) == y_test) * 100.0)

    for index in range(epochs):
        order = np.random.default_rng([seed, index]).permutation(len(x_train))[: steps * batch_size]
        done = np.arange(index * steps, (index + 1) * steps, dtype=np.float32)
        rates = recipe.last_rate + (recipe.first_rate - recipe.last_rate) * (
            1.0 - done / (epochs * steps)
        ) ** np.float32(DECAY_POWER)
        scaled = (rates * bias_correction(done + 1.0)).astype(np.float32)
        batches = order.reshape(steps, batch_size).astype(np.int32)
        state = epoch(features, labels, state, *(ops.convert_to_tensor(x) for x in (batches, scaled)))
        yield functools.partial(accuracy, state[:2])


@full_precision()
def _probe_epoch(recipe: Recipe, features: Any, labels: Any, state: tuple, batches: Any, rates: Any) -> tuple:
    """Trains over index batches [S, B]."""

    def step(index: Any, state: tuple) -> tuple:
        indices, rate = batches[index], rates[index]
        x = ops.take(features, indices, axis=0)
        targets = ops.one_hot(ops.take(labels, indices, axis=0), state[1].shape[0])
        return adam_step(state, x, targets, rate, recipe.weight_decay, recipe.epsilon)

    return ops.fori_loop(0, batches.shape[0], step, state)


def knn(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    k: int = 200,
    temperature: float = 0.1,
    batch_size: int = 500,
) -> float:
    """Computes the test accuracy of a weighted k-NN (Wu et al. 2018, arXiv:1805.01978, section 3.4).

    The k training features with the largest cosines vote for their classes with weights exp(cosine / T).

    Args:
        x_train, x_test: features, float32 [N, D].
        y_train, y_test: classes, int [N], from 0.
        k: number of neighbours; all training features if there are fewer.
        temperature: T, above 0.
        batch_size: test features per batch.

    Returns:
        The accuracy in percent.

    Example:
        >>> knn(np.eye(2), np.array([0, 1]), np.array([[3.0, 1.0]]), np.array([0]), k=1)
        100.0
    """
    y_train = one_label_each(y_train, len(x_train), "y_train")
    y_test = one_label_each(y_test, len(x_test), "y_test")
    indices, cosines = nearest(x_train, x_test, k, batch_size)
    weights = np.exp((cosines - cosines[:, :1]) / temperature)
    votes = np.zeros((len(x_test), int(max(y_train.max(), y_test.max())) + 1))
    for rank in range(indices.shape[1]):
        votes[np.arange(len(x_test)), y_train[indices[:, rank]]] += weights[:, rank]
    return float(np.mean(np.argmax(votes, axis=1) == y_test) * 100.0)


def nearest(
    bank: np.ndarray, queries: np.ndarray, k: int, batch_size: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k features with the largest cosine to each query.

    Args:
        bank: features to search, float32 [N, D].
        queries: features, float32 [Q, D].
        k: number of neighbours; N if it is larger.
        batch_size: queries per batch; fewer if they had more than `MOST_COSINES` cosines.

    Returns:
        Indices into `bank`, int64 [Q, k], and cosines, float32 [Q, k], the nearest first.

    Example:
        >>> indices, cosines = nearest(np.eye(3), np.array([[1.0, 2.0, 0.0]]), k=2)
        >>> indices.tolist(), cosines.round(2).tolist()
        ([[1, 0]], [[0.89, 0.45]])
    """
    k = min(k, len(bank))
    batch_size = max(1, min(batch_size, MOST_COSINES // len(bank)))
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
