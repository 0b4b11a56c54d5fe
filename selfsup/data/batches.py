"""The order of the training images, and batches of images that are not on the device."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from selfsup.data.dataset import Dataset

Given = TypeVar("Given")
Made = TypeVar("Made")


def batches(
    count: int, batch_size: int, seed: int, epoch: int = 0, position: int = 0
) -> Iterator[tuple[np.ndarray]]:
    """Yields batches of image indices without end.

    Each epoch visits all images in a new random order and drops the last partial batch. Batch s of epoch e
    is a pure function of (seed, e, s), so that a resumed run sees the same batches.

    Args:
        count: number of images.
        batch_size: images per batch.
        seed: of the order, at least 0.
        epoch: the first epoch, from 0.
        position: the first batch of that epoch, from 0.

    Yields:
        One-element tuples, as `fit` expects them, of indices: int32 [batch_size], in [0, count).

    Raises:
        ValueError: `count` is smaller than `batch_size`.

    Example:
        >>> import itertools
        >>> epoch = [indices for (indices,) in itertools.islice(batches(count=9, batch_size=4, seed=0), 2)]
        >>> [indices.shape for indices in epoch]
        [(4,), (4,)]
        >>> len(set(np.concatenate(epoch).tolist()))
        8
    """
    if count < batch_size:
        raise ValueError(f"a batch of {batch_size} cannot be drawn from {count} images")
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)
        for start in range(position * batch_size, count - batch_size + 1, batch_size):
            yield (order[start : start + batch_size],)
        epoch, position = epoch + 1, 0


def gather(data: Dataset, indices: np.ndarray) -> np.ndarray:
    """Returns the training images, uint8 [B, S, S, 3], with the indices, int [B].

    The indices of `x_extra` follow those of `x_train`. They are read in ascending order, which is the fastest
    for memory-mapped arrays.
    """
    order = np.argsort(indices)
    ascending = indices[order]
    labelled = ascending < len(data.x_train)
    images = np.empty((len(indices), *data.x_train.shape[1:]), np.uint8)
    images[order[labelled]] = data.x_train[ascending[labelled]]
    if data.x_extra is not None:
        images[order[~labelled]] = data.x_extra[ascending[~labelled] - len(data.x_train)]
    return images


def labels_of(data: Dataset, indices: np.ndarray) -> np.ndarray:
    """Returns the classes, int32 [B], of the training images with the indices, int [B]; -1 if unlabelled.

    Example:
        >>> images, labels = np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1])
        >>> data = Dataset("black", images, labels, images, labels, x_extra=images)
        >>> labels_of(data, np.array([1, 2])).tolist()
        [1, -1]
    """
    assert data.y_train is not None
    known = indices < len(data.y_train)
    classes = data.y_train[np.where(known, indices, 0)].astype(np.int32)  # before the -1: uint8 has none
    return np.where(known, classes, -1)


def ahead(make: Callable[[Given], Made], inputs: Iterator[Given], depth: int = 4) -> Iterator[Made]:
    """Yields `make(x)` for each input in order. A thread computes up to `depth` of them in advance.

    Example:
        >>> list(ahead(len, iter(["a", "bc"])))
        [1, 2]
    """
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(make, x) for x in islice(inputs, depth))
        for x in inputs:
            yield pending.popleft().result()
            pending.append(pool.submit(make, x))
        while pending:
            yield pending.popleft().result()
