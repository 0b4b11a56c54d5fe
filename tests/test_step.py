"""One whole training step against NumPy: forward, loss, gradients, optimizer, statistics, F, W_p, target."""

import keras
import numpy as np
import pytest
import reference
from reference import Network, weights_of

from selfsup.config import Config
from selfsup.model import SiameseModel

BATCH, SIZE, RATE, DECAY = 12, 16, 0.5, 1e-2
METHODS = {
    "directpred": {"method": "directpred"},
    "directcopy": {"method": "directcopy", "ema": False, "projector_layers": 3},
    "byol": {"method": "byol", "predictor_learning_rate": 0.2, "predictor_weight_decay": 0.1},
    "simsiam": {"method": "simsiam", "predictor_weight_decay": 0.0},
    "sgd": {"method": "sgd"},
}


@pytest.fixture
def views(rng):
    return tuple(rng.normal(size=(BATCH, SIZE, SIZE, 3)) for _ in range(2))


def build(rng, **fields):
    """A model whose target differs from the online network, as it does after some steps."""
    keras.utils.set_random_seed(0)
    common = {"width": 4, "precision": "float32", "image_size": SIZE, "stem": "small"}
    model = SiameseModel(Config(**common, learning_rate=RATE, weight_decay=DECAY, **fields))
    for target in filter(None, (model.target_backbone, model.target_projector)):
        target.set_weights(
            [w + 0.1 * rng.normal(size=w.shape) * np.abs(w).mean() for w in target.get_weights()]
        )
    model.compile(run_eagerly=keras.backend.backend() == "tensorflow")
    return model


def outputs(online, target, views):
    """z, p and t of both views, and the statistics of the online network in each view."""
    projected = [online.project(view) for view in views]
    predicted = [online.head(z, "predictor") for z in projected]
    return projected, predicted, projected if target is None else [target.project(view) for view in views]


def networks(model):
    online = {**weights_of(model.backbone), **weights_of(model.projector), **weights_of(model.predictor)}
    if model.target_backbone is None:
        return online, None
    return online, {**weights_of(model.target_backbone), **weights_of(model.target_projector)}


def test_the_whole_resnet_and_heads_equal_numpy(rng, views):
    model = build(rng, projector_layers=3)
    online, target = networks(model)
    z, p, t = outputs(Network(online), Network(target), views)
    found = model(tuple(v.astype(np.float32) for v in views), training=True)
    for name, expected in {"z1": z[0], "z2": z[1], "p1": p[0], "p2": p[1], "t1": t[0], "t2": t[1]}.items():
        error = np.abs(keras.ops.convert_to_numpy(found[name]) - expected).max()
        assert error < 1e-4 * np.abs(expected).max(), name


@pytest.mark.parametrize("name", METHODS)
def test_a_step_equals_numpy(name, rng, views, shallow):
    model = build(rng, **METHODS[name])
    online, target = networks(model)
    loss = model.train_on_batch(tuple(v.astype(np.float32) for v in views), return_dict=True)["loss"]
    after, target_after = networks(model)
    network = Network(online)
    z, p, t = outputs(network, target and Network(target), views)
    assert float(loss) == pytest.approx(reference.cosine_loss(*p, *t), abs=1e-5)

    correlation = np.concatenate(z).T @ np.concatenate(z) / (2 * BATCH)
    found = keras.ops.convert_to_numpy(model.correlation)
    np.testing.assert_allclose(found, correlation, atol=1e-4 * np.abs(correlation).max())
    kernel = "predictor/output/kernel"
    if name == "directpred":
        expected = reference.directpred(correlation, 0.1).T
        np.testing.assert_allclose(after[kernel], expected, atol=2e-3)
    elif name == "directcopy":
        expected = correlation / np.linalg.norm(correlation) + 0.3 * np.eye(len(correlation))
        np.testing.assert_allclose(after[kernel], expected, atol=1e-4)

    check_gradients(model, online, after, views, t, rng)
    check_statistics(online, after, views)
    if target is not None:
        for path, value in target.items():
            expected = 0.996 * value + 0.004 * after[path]
            np.testing.assert_allclose(target_after[path], expected, rtol=1e-4, atol=1e-6, err_msg=path)


def check_gradients(model, before, after, views, t, rng):
    """The gradients that the optimizer saw, along random directions, against differences of the loss.

    The first step of SGD with momentum moves a weight w by -rate * (gradient + decay * w).
    """
    resolved = model.resolved
    trained = sorted({v.path for v in model.trainable_variables})
    assert len(trained) > 20

    def loss_at(path, moved):
        network = Network({**before, path: moved})
        _, p, _ = outputs(network, network, views)
        return reference.cosine_loss(*p, *t)

    for path in trained:
        own = path.startswith("predictor/")
        rate = resolved.predictor_learning_rate if own else RATE
        decay = resolved.predictor_weight_decay if own else DECAY
        decay = 0.0 if path.endswith("/bias") else decay
        gradient = (before[path] - after[path]) / rate - decay * before[path]
        direction = rng.normal(size=gradient.shape)
        step = 1e-8 * direction  # so short that no ReLU switches in between
        expected = (loss_at(path, before[path] + step) - loss_at(path, before[path] - step)) / 2e-8
        size = np.linalg.norm(gradient)
        assert np.sum(gradient * direction) == pytest.approx(expected, abs=2e-3 * size + 1e-5), path
        batch_norm_follows = "/hidden" in path and path.endswith("bias")  # and takes a bias out again
        assert batch_norm_follows or size > 1e-5, path


def check_statistics(before, after, views):
    """The moving statistics take a tenth of each view's."""
    networks = [Network(before) for _ in views]
    for network, view in zip(networks, views, strict=True):
        network.head(network.project(view), "predictor")
    assert len(networks[0].statistics) >= 7
    for layer in networks[0].statistics:
        for index, name in enumerate(("moving_mean", "moving_variance")):
            expected = before[f"{layer}/{name}"]
            for network in networks:
                expected = 0.9 * expected + 0.1 * network.statistics[layer][index]
            np.testing.assert_allclose(
                after[f"{layer}/{name}"], expected, rtol=1e-3, atol=1e-5, err_msg=layer
            )


def test_the_metrics_of_an_epoch_equal_numpy(rng, shallow):
    """Of an epoch of one step: the rank is that of F, the deviation that of the projections."""
    model = build(rng)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    online, _ = networks(model)
    views = [keras.ops.convert_to_numpy(view) for view in model.views(images)]
    history = model.fit(images, batch_size=BATCH, epochs=1, shuffle=False, verbose=0).history
    correlation = keras.ops.convert_to_numpy(model.correlation)
    rank = reference.effective_rank(correlation)
    assert 1 < rank < 2 * BATCH
    assert history["effective_rank"] == [pytest.approx(rank, rel=1e-3)]
    z = [Network(online).project(view.astype(np.float64)) for view in views]
    assert history["embedding_std"] == [pytest.approx(reference.embedding_std(*z), rel=1e-3)]
