import itertools

import numpy as np
import pytest

from selfsup.data.batches import batches, labels_of
from selfsup.data.dataset import Dataset


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int64"])
def test_images_without_a_label_are_minus_one_whatever_the_dtype(dtype):
    images, labels = np.zeros((3, 8, 8, 3), np.uint8), np.array([0, 2, 1], dtype)
    data = Dataset("black", images, labels, images, labels, x_extra=images)
    assert labels_of(data, np.arange(6)).tolist() == [0, 2, 1, -1, -1, -1]


def test_batches_are_a_pure_function_of_seed_and_epoch():
    def epoch(seed, start):
        return [b[0].tolist() for b in itertools.islice(batches(10, 4, seed, start), 2)]

    assert epoch(0, 1) == epoch(0, 1) != epoch(0, 0)
    assert epoch(1, 0) != epoch(0, 0)
    two = [b[0].tolist() for b in itertools.islice(batches(10, 4, 0), 4)]
    assert two == epoch(0, 0) + epoch(0, 1)
    assert len({i for b in epoch(0, 0) for i in b}) == 8
    assert next(batches(10, 4, 0, epoch=1, position=1))[0].tolist() == epoch(0, 1)[1]
    with pytest.raises(ValueError, match="a batch of 4 cannot be drawn from 3 images"):
        next(batches(3, 4, 0))
