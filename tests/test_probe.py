import inspect
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest

from selfsup.analysis import probe
from selfsup.analysis.encoder import probed_model
from selfsup.networks.heads import mlp
from selfsup.networks.resnet import resnet18
from selfsup.utils.errors import InputError


def blobs(rng, count, classes=4, dims=10, spread=1.6):
    centres = np.random.default_rng(7).normal(size=(classes, dims))
    labels = np.arange(count) % classes
    return (centres[labels] + spread * rng.normal(size=(count, dims))).astype(np.float32), labels


def test_linear_probe_separates_what_is_separable(rng):
    train, test = blobs(rng, 400, spread=0.1), blobs(rng, 100, spread=0.1)
    assert probe.linear_probe(*train, *test, epochs=20) == 100


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def test_the_recipes_are_the_papers():
    assert asdict(probe.PAPER) == {
        "epochs": 100, "first_rate": 0.05, "last_rate": 0.0005, "weight_decay": 0.0, "epsilon": 1e-7,
        "standardise": False, "batch_size": 128,
    }  # fmt: skip
    assert asdict(probe.TIAN) == {
        "epochs": 50, "first_rate": 0.0003, "last_rate": 0.0003, "weight_decay": 0.001, "epsilon": 1e-8,
        "standardise": True, "batch_size": 128,
    }  # fmt: skip
    assert defaults(probe.linear_probe) == {"epochs": 100, "batch_size": 128, "seed": 0}
    assert defaults(probe.knn) == {"k": 200, "temperature": 0.1, "batch_size": 500}


def weights_after(epoch):
    """Kernel and bias, [D + 1, C], after an epoch that `probe_epochs` yields."""
    kernel, bias = (keras.ops.convert_to_numpy(value) for value in epoch.args[0])
    return np.vstack([kernel, bias])


def test_linear_probe_equals_keras_adam_on_the_same_batches(rng, monkeypatch):
    x, y = blobs(rng, 256)
    x_test, y_test = blobs(rng, 400)
    epochs, batch, steps = 3, 64, 4
    schedule = keras.optimizers.schedules.PolynomialDecay(5e-2, epochs * steps, 5e-4, power=2.0)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(4, kernel_initializer="zeros")])
    model.compile(
        keras.optimizers.Adam(schedule), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    for epoch in range(epochs):
        order = np.random.default_rng([5, epoch]).permutation(256).reshape(steps, batch)
        for indices in order:
            model.train_on_batch(x[indices], y[indices])
    logits = model.predict(x_test, verbose=0)
    expected = 100 * np.mean(np.argmax(logits, 1) == y_test)
    assert probe.linear_probe(x, y, x_test, y_test, epochs, batch, seed=5) == pytest.approx(expected, abs=0.3)
    monkeypatch.setattr(probe, "last_accuracy", lambda epochs: weights_after(list(epochs)[-1]))
    found = probe.linear_probe(x, y, x_test, y_test, epochs, batch, seed=5)
    np.testing.assert_allclose(found, np.vstack(model.get_weights()), rtol=1e-3, atol=1e-4)


def test_tian_probe_equals_a_numpy_loop(rng):
    x, y = blobs(rng, 256)
    x_test, y_test = blobs(rng, 200)
    x, x_test = 5 * x + 3, 5 * x_test + 3
    recipe = replace(probe.TIAN, epochs=4, first_rate=0.02, last_rate=0.02, weight_decay=0.05, batch_size=64)
    trained = list(probe.probe_epochs(x, y, x_test, y_test, recipe, seed=3))
    found = [accuracy() for accuracy in trained]
    mean, std = x.mean(0, np.float64), x.std(0, np.float64)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    w, m, v, expected = np.zeros((11, 4)), np.zeros((11, 4)), np.zeros((11, 4)), []
    ones, step = np.ones((len(x), 1)), 0
    x = np.hstack([x, ones])
    for epoch in range(4):
        for indices in np.random.default_rng([3, epoch]).permutation(256).reshape(4, 64):
            step += 1
            p = np.exp(x[indices] @ w)
            error = p / p.sum(1, keepdims=True) - np.eye(4)[y[indices]]
            gradient = x[indices].T @ error / 64 + 0.05 * w  # coupled, of the bias, too
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            w = w - 0.02 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        logits = x_test @ w[:10] + w[10]
        expected.append(100 * np.mean(np.argmax(logits, axis=1) == y_test))
        np.testing.assert_allclose(weights_after(trained[epoch]), w, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found, expected, atol=0.51)  # one image whose classes are level
    assert len(set(expected)) > 1


def test_a_constant_feature_is_no_nan(rng):
    x, y = blobs(rng, 64, spread=0.01)
    x[:, 0] = 7
    *_, last = probe.probe_epochs(x, y, x, y, replace(probe.TIAN, epochs=2, first_rate=0.1, last_rate=0.1))
    assert last() == 100


def test_knn_equals_a_loop(rng):
    (x, y), (x_test, y_test) = blobs(rng, 90), blobs(rng, 30)
    correct = 0
    for query, label in zip(x_test, y_test, strict=True):
        cosines = x @ query / np.linalg.norm(x, axis=1) / np.linalg.norm(query)
        votes = np.zeros(4)
        for n in np.argsort(-cosines)[:20]:
            votes[y[n]] += np.exp(cosines[n] / 0.1)
        correct += np.argmax(votes) == label
    assert probe.knn(x, y, x_test, y_test, k=20, batch_size=7) == pytest.approx(100 * correct / 30)


def test_nearest_are_in_order(rng):
    bank, queries = rng.normal(size=(30, 5)), rng.normal(size=(8, 5))
    indices, cosines = probe.nearest(bank, queries, k=4, batch_size=3)
    every = queries @ bank.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(bank, axis=1)
    np.testing.assert_array_equal(indices, np.argsort(-every, axis=1)[:, :4])
    np.testing.assert_allclose(cosines, -np.sort(-every, axis=1)[:, :4])


def test_many_neighbours_are_found_in_little_memory(rng, monkeypatch):
    x = rng.normal(size=(40, 5))
    expected = probe.nearest(x, x, k=3)
    monkeypatch.setattr(probe, "MOST_COSINES", 50)  # one query at a time
    for found, wanted in zip(probe.nearest(x, x, k=3), expected, strict=True):
        np.testing.assert_allclose(found, wanted)


def test_knn_at_a_low_temperature_is_the_nearest_neighbours_class(rng):
    (x, y), (x_test, y_test) = blobs(rng, 90), blobs(rng, 30)
    nearest, _ = probe.nearest(x, x_test, k=1)
    expected = 100 * np.mean(y[nearest[:, 0]] == y_test)
    assert probe.knn(x, y, x_test, y_test, k=20, temperature=1e-4) == pytest.approx(expected)


def test_knn_with_fewer_images_than_neighbours(rng):
    x, y = blobs(rng, 12, spread=0.01)
    assert probe.knn(x, y, x, y) == 100


def test_embedding_is_in_inference_mode_and_changes_nothing(rng):
    backbone, projector = resnet18(2), mlp(16, 3, "projector")
    probed = probed_model(backbone, projector, reuse=True)
    images = rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    before = [w.copy() for w in (*backbone.get_weights(), *projector.get_weights())]
    features = probe.embed(probed, images, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), batch_size=4)
    assert features["linear"].shape == (10, 16)
    assert features["linear_reused"].shape == (10, 512)
    alone = probe.embed(probed, images[3:4], (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    np.testing.assert_allclose(features["linear"][3], alone["linear"][0], atol=1e-4)
    probe.linear_probe(features["linear"], np.arange(10) % 2, features["linear"], np.arange(10) % 2, epochs=2)
    for a, b in zip(before, (*backbone.get_weights(), *projector.get_weights()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_may_have_an_axis_more_and_images_are_uint8(rng):
    (x, y), (x_test, y_test) = blobs(rng, 90), blobs(rng, 30)
    expected = probe.knn(x, y, x_test, y_test, k=5)
    assert expected > 50
    assert probe.knn(x, y[:, None], x_test, y_test[:, None], k=5) == expected
    assert probe.linear_probe(x, y[:, None], x_test, y_test[:, None], epochs=1) > 50
    with pytest.raises(InputError, match="one label for each of the 90 images"):
        probe.knn(x, y[:-1], x_test, y_test)
    with pytest.raises(InputError, match="images must be uint8, not float64"):
        probe.normalise(rng.random((2, 4, 4, 3)), (0.5,) * 3, (0.2,) * 3)
