"""The order of the training images."""

from collections.abc import Iterator

import numpy as np


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
