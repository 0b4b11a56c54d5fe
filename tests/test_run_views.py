"""What a run trains and probes on: its own data, views that differ, and weights from before and after."""

import keras
import numpy as np
import pytest

import selfsup
from selfsup.analysis import probe
from selfsup.analysis.encoder import probed_model
from selfsup.augment import Augmentation

EPOCHS, BATCH, IMAGES = 3, 8, 40


class Observer(keras.callbacks.Callback):
    """Keeps the weights before the first step, and the views of a batch before each epoch."""

    def on_train_begin(self, logs=None):
        self.untrained = self.model.backbone.get_weights()

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:
            self.views = []
        steps = int(keras.ops.convert_to_numpy(self.model.steps))
        found = self.model.views(np.arange(BATCH))
        self.views.append((steps, [keras.ops.convert_to_numpy(view) for view in found]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on dark, blueish images, its data, and what was seen of it."""
    from selfsup.networks import resnet

    patch = pytest.MonkeyPatch()
    patch.setattr(resnet, "STAGES", 2)
    patch.setattr(resnet, "BLOCKS_PER_STAGE", 1)
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES + 400) % 4
    noise = rng.integers(0, 90, (len(labels), 16, 16, 3))
    x = (noise * np.array([0.2, 0.5, 1.0]) + 12 * labels[:, None, None, None]).astype(np.uint8)
    data = selfsup.Dataset("dark", x[:IMAGES], labels[:IMAGES], x[IMAGES:], labels[IMAGES:])
    fields = {"width": 4, "batch_size": BATCH, "epochs": EPOCHS, "probe_epochs": 20, "precision": "float32"}
    config = selfsup.Config(**fields, seed=5, probe_untrained=True, learning_rate=0.3)
    observer = Observer()
    result = selfsup.run(config, tmp_path_factory.mktemp("run"), data=data, callbacks=[observer])
    patch.undo()
    return config, data, observer, result


def test_views_are_those_of_the_seed_and_step_normalised_by_the_data(finished):
    config, data, observer, _ = finished
    pixels = data.x_train.astype(np.float64) / 255
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    np.testing.assert_allclose(data.mean, mean, atol=6e-5)  # rounded, as they are in the records
    np.testing.assert_allclose(data.std, std, atol=6e-5)
    assert [steps for steps, _ in observer.views] == [0, IMAGES // BATCH, 2 * IMAGES // BATCH]
    for steps, found in observer.views:
        expected = Augmentation(mean=mean, std=std)(data.x_train[:BATCH], [config.seed, steps])
        for view, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(view, keras.ops.convert_to_numpy(wanted), atol=5e-3)
            assert np.abs(view.mean((0, 1, 2))).max() < 2


def test_views_differ_between_views_images_and_steps(finished):
    """Of one image repeated, no two views of any step are the same."""
    config, data, *_ = finished
    same = np.repeat(data.x_train[:1], BATCH, axis=0)
    views = [
        keras.ops.convert_to_numpy(view)
        for steps in range(3)
        for view in Augmentation(mean=data.mean, std=data.std)(same, [config.seed, steps])
    ]
    flat = np.concatenate(views).reshape(len(views) * BATCH, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    assert distances[~np.eye(len(flat), dtype=bool)].min() > 1e-3


def test_a_seed_has_its_own_views(finished):
    _, data, observer, _ = finished
    other = Augmentation(mean=data.mean, std=data.std)(data.x_train[:BATCH], [6, 0])
    for view, wanted in zip(observer.views[0][1], other, strict=True):
        assert np.abs(view - keras.ops.convert_to_numpy(wanted)).mean() > 0.1


def test_probes_stand_on_the_weights_before_and_after(finished):
    config, data, observer, result = finished
    model = observer.model

    def linear(weights):
        model.backbone.set_weights(weights)
        probed = probed_model(model.backbone, model.projector, reuse=False)
        train, test = (
            probe.embed(probed, x, data.mean, data.std)["linear"] for x in (data.x_train, data.x_test)
        )
        return probe.linear_probe(
            train, data.y_train, test, data.y_test, config.probe_epochs, seed=config.seed
        )

    trained = model.backbone.get_weights()
    expected = {"linear": linear(trained), "untrained_linear": linear(observer.untrained)}
    model.backbone.set_weights(trained)
    for name, value in expected.items():
        assert result.accuracy[name] == pytest.approx(value, abs=0.006)
    assert abs(expected["linear"] - expected["untrained_linear"]) > 1


@pytest.mark.parametrize("method", ["directpred", "simsiam"])
def test_an_exactly_constant_representation_is_a_collapse(method, tmp_path, shallow):
    black = selfsup.Dataset("black", np.zeros((16, 16, 16, 3), np.uint8))
    config = selfsup.Config(method=method, width=2, batch_size=8, epochs=6, precision="float32")
    result = selfsup.run(config, tmp_path, data=black)
    assert result.collapsed
    assert not result.diverged
    assert result.monitor["loss"] == 0
    assert result.monitor["effective_rank"] == 1
