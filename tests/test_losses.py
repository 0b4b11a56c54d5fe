import numpy as np
import pytest
from keras import ops

from selfsup import losses


def test_equals_numpy(rng):
    p1, p2, t1, t2 = rng.normal(size=(4, 6, 5)).astype(np.float32)

    def cosine(a, b):
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    expected = np.mean(-cosine(p1, t2) - cosine(p2, t1))
    assert float(losses.symmetric_negative_cosine(p1, p2, t1, t2)) == pytest.approx(expected, rel=1e-5)


def test_perfect_agreement_is_minus_two_and_scale_does_not_matter(rng):
    z = rng.normal(size=(4, 5)).astype(np.float32)
    assert float(losses.symmetric_negative_cosine(z, 3 * z, 7 * z, z)) == pytest.approx(-2, abs=1e-6)


def test_zero_rows_are_defined():
    zero = np.zeros((2, 3), np.float32)
    assert float(losses.symmetric_negative_cosine(zero, zero, zero, zero)) == 0.0


def test_bfloat16_is_computed_in_float32(rng):
    z = ops.cast(rng.normal(size=(4, 5)), "bfloat16")
    assert losses.cosine(z, z).dtype == "float32" or "float32" in str(losses.cosine(z, z).dtype)
