"""Measures of embeddings, against values worked out by hand and independent computations."""

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import pdist

from selfsup import quality


def entropy_rank(values):
    p = np.asarray(values) / np.sum(values)
    p = p[p > 0]
    return np.exp(-(p * np.log(p)).sum())


def rotation(rng, dims):
    return np.linalg.qr(rng.normal(size=(dims, dims)))[0]


def test_rankme_is_the_smooth_rank_of_singular_values(rng):
    values = np.array([5.0, 3.0, 1.0, 0.5])
    z = rotation(rng, 20)[:, :4] * values @ rotation(rng, 4)
    assert quality.rankme(z) == pytest.approx(entropy_rank(values), rel=1e-4)
    assert quality.rankme(7.0 * z) == pytest.approx(quality.rankme(z), rel=1e-9)
    assert quality.rankme(np.eye(64)) == pytest.approx(64, rel=1e-3)
    assert quality.rankme(np.ones((50, 8))) == pytest.approx(1, abs=1e-4)
    squares = entropy_rank(values**2)
    assert squares < quality.rankme(z)  # the effective rank of F reads lower


def test_lidar_equals_generalised_eigenvalues(rng):
    images, views, dims = 40, 6, 5
    means = rng.normal(size=(images, dims)) * [3.0, 2.0, 1.0, 0.3, 0.0]
    z = means[:, None] + rng.normal(size=(images, views, dims)) * [1.0, 0.2, 0.5, 1.0, 0.1]
    centres = z.mean(axis=1)
    between = np.cov(centres.T, bias=True)
    within = np.mean([np.cov(group.T, bias=True) for group in z], axis=0) + 1e-4 * np.eye(dims)
    expected = entropy_rank(scipy.linalg.eigh(between, within, eigvals_only=True))
    assert quality.lidar(z) == pytest.approx(expected, rel=1e-4)


def test_lidar_ignores_directions_in_which_views_differ_as_much_as_images(rng):
    z = rng.normal(size=(500, 2, 3)) * [0.01, 0.01, 1.0]
    z[..., :2] += rng.normal(size=(500, 1, 2))
    assert quality.lidar(z) == pytest.approx(2.0, abs=0.05)


def test_view_alignment_is_the_mean_over_pairs(rng):
    z = rng.normal(size=(7, 4, 5))
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    expected = np.mean([pdist(group, "sqeuclidean").mean() for group in unit])
    assert quality.view_alignment(z) == pytest.approx(expected)
    assert quality.view_alignment(np.repeat(z[:, :1], 3, axis=1)) == pytest.approx(0, abs=1e-12)


def test_uniformity_is_the_log_of_the_mean_kernel(rng):
    z = rng.normal(size=(30, 5))
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    expected = np.log(np.exp(-2 * pdist(unit, "sqeuclidean")).mean())
    assert quality.uniformity(z) == pytest.approx(expected)
    assert quality.uniformity(np.ones((5, 3))) == pytest.approx(0, abs=1e-12)


def test_collapsed_embeddings_have_finite_measures():
    zeros = np.zeros((6, 4, 3))
    found = [quality.lidar(zeros), quality.view_alignment(zeros)]
    found += [quality.rankme(zeros[:, 0]), quality.uniformity(zeros[:, 0])]
    assert np.isfinite(found).all()
