import numpy as np
import pytest
from keras import ops

from selfsup import monitor


def rank(matrix):
    return float(ops.convert_to_numpy(monitor.effective_rank(np.asarray(matrix, np.float32))))


def orthogonal(rng, dims):
    return np.linalg.qr(rng.normal(size=(dims, dims)))[0]


def test_effective_rank(rng):
    u = orthogonal(rng, 6)
    assert rank(u @ np.diag([2.0, 2, 2, 0, 0, 0]) @ u.T) == pytest.approx(3, rel=1e-4)
    assert rank(np.eye(6)) == pytest.approx(6, rel=1e-4)
    p = np.array([0.7, 0.2, 0.1])
    assert rank(np.diag(9 * p)) == pytest.approx(np.prod(p**-p), rel=1e-4)
    assert rank(np.zeros((3, 3))) == 1
    assert np.isnan(rank(np.full((2, 2), np.nan)))


def test_embedding_std(rng):
    sphere = rng.normal(size=(4000, 128)).astype(np.float32)
    assert float(monitor.embedding_std(sphere, sphere)) == pytest.approx(1, abs=0.01)
    constant = np.ones((16, 128), np.float32)
    assert float(monitor.embedding_std(constant, constant)) == pytest.approx(0, abs=1e-3)
