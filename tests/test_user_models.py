"""SiameseModel in a user's own script: backbones, losses and optimizers, `fit`, `evaluate` and `predict`."""

import keras
import numpy as np
import pytest
from keras import ops

import selfsup
from selfsup import Config, SiameseModel
from selfsup.networks.backbones import batch_norms, copied, set_weights
from selfsup.optimizers import CoupledSGD
from selfsup.training.components import Components
from selfsup.utils.errors import InputError

SIZE, BATCH, CLASSES = 8, 8, 3
CONFIG = Config(method="byol", image_size=SIZE)


def backbone(*layers, l2=0.0, size=SIZE):
    regularizer = keras.regularizers.L2(l2) if l2 else None
    inputs = outputs = keras.Input((size, size, 3))
    for layer in (*layers, keras.layers.Conv2D(4, 3, kernel_regularizer=regularizer)):
        outputs = layer(outputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(outputs))


def compiled(network=None, config=CONFIG, **arguments):
    keras.utils.set_random_seed(0)
    model = SiameseModel(config, backbone=network or backbone(), **arguments)
    model.compile()
    return model


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (2 * BATCH, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def views(rng):
    return tuple(rng.normal(size=(2 * BATCH, SIZE, SIZE, 3)).astype(np.float32) for _ in range(2))


@pytest.fixture
def labels(rng):
    return rng.integers(0, CLASSES, 2 * BATCH)


def numpy(value):
    return ops.convert_to_numpy(value)


def normalizing(rng):
    layer = keras.layers.Normalization()
    layer.adapt(rng.normal(3, 7, (64, SIZE, SIZE, 3)).astype(np.float32))
    return backbone(layer)


def test_copies_normalise_as_the_original_does(rng, views):
    original = normalizing(rng)
    expected = numpy(original(views[0]))
    fresh = keras.models.clone_model(original)
    set_weights(fresh, original.get_weights())
    component = Components(backbone=original).of_model()["backbone"]
    for copy in (copied(original, "copy"), fresh, component):
        np.testing.assert_allclose(numpy(copy(views[0])), expected, rtol=1e-5, atol=1e-6)
    outputs = SiameseModel(CONFIG, backbone=original)(views)
    np.testing.assert_allclose(numpy(outputs["t1"]), numpy(outputs["z1"]), atol=1e-5)


def test_batch_norms_inside_other_layers_are_found():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = keras.layers.BatchNormalization()

        def call(self, inputs, training=False):
            return self.norm(inputs, training=training)

    block = Block()
    assert list(batch_norms(backbone(block))) == [block.norm]


def test_the_losses_of_layers_count(images):
    plain, penalised = compiled(), compiled(backbone(l2=10.0))
    penalised.set_weights(plain.get_weights())
    kernel = penalised.backbone.weights[0]
    before = numpy(kernel).astype(np.float64)
    losses = [model.train_on_batch(images[:BATCH])[0] for model in (plain, penalised)]
    np.testing.assert_allclose(losses[1] - losses[0], 10 * (before**2).sum(), rtol=1e-4)
    # One step of SGD: 2 * 10 * w is added to the gradient.
    difference = numpy(kernel) - numpy(plain.backbone.weights[0])
    np.testing.assert_allclose(difference, -CONFIG.learning_rate * 20 * before, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["simsiam", "byol"])
def test_losses_of_activities_do_not_count_again_in_the_target(method, views):
    """On JAX, Keras drops those of view 1 when the backbone is called for view 2."""

    def network(factor):
        inputs = keras.Input((SIZE, SIZE, 3))
        layer = keras.layers.Conv2D(4, 3, activity_regularizer=keras.regularizers.L2(factor))
        return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(layer(inputs)))

    config = Config(method=method, image_size=SIZE)
    plain, penalised = (compiled(network(factor), config) for factor in (0.0, 2.0))
    penalised.set_weights(plain.get_weights())
    activities = [numpy(plain.backbone.layers[1](view[:BATCH])).astype(np.float64) for view in views]
    pair = tuple(view[:BATCH] for view in views)
    losses = [model.train_on_batch(pair)[0] for model in (plain, penalised)]
    counted = activities[1:] if keras.backend.backend() == "jax" else activities
    expected = 2 * sum((a**2).sum() for a in counted) / BATCH
    np.testing.assert_allclose(losses[1] - losses[0], expected, rtol=1e-4)


def test_pairs_of_views_with_labels_are_trained_on_and_predicted(views, labels):
    model = compiled(classes=CLASSES)
    model.fit((*views, labels), batch_size=BATCH, verbose=0)
    assert int(model.steps) == 2
    assert np.isfinite(model.train_on_batch((views[0][:BATCH], views[1][:BATCH], labels[:BATCH]))[0])
    batches = ((views[0][i : i + BATCH], views[1][i : i + BATCH]) for i in (0, BATCH))
    assert model.predict(batches, steps=2, verbose=0)["z1"].shape == (2 * BATCH, 128)


def test_evaluation_measures_the_online_probe_and_the_spread(images, labels):
    model = compiled(classes=CLASSES)
    model.fit(images, labels, batch_size=BATCH, verbose=0)
    weights = model.get_weights()
    found = model.evaluate(images, labels, batch_size=2 * BATCH, verbose=0, return_dict=True)
    features = model.predict(images, batch_size=2 * BATCH, verbose=0)
    kernel, bias = (numpy(v) for v in model.online_probe.state[:2])
    correct = [(features[h] @ kernel + bias).argmax(axis=1) == labels for h in ("h1", "h2")]
    np.testing.assert_allclose(found["online_linear"], 100 * np.mean(correct), rtol=1e-5)
    projections = [features[name].astype(np.float64) for name in ("z1", "z2")]
    spreads = [(z / np.linalg.norm(z, axis=1, keepdims=True)).std(axis=0).mean() for z in projections]
    np.testing.assert_allclose(found["embedding_std"], np.mean(spreads) * 128**0.5, rtol=1e-3)
    assert np.isnan(found["effective_rank"])
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_model_with_the_packages_layers_and_losses_is_loaded(tmp_path, rng):
    network = selfsup.resnet18(2, (SIZE, SIZE, 3))
    model = compiled(network, loss=selfsup.losses.symmetric_euclidean)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.config == model.config
    views = tuple(rng.normal(size=(4, SIZE, SIZE, 3)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(numpy(loaded(views)["p1"]), numpy(model(views)["p1"]), atol=1e-6)


def test_what_was_given_stays_given_when_a_model_is_loaded(tmp_path):
    model = compiled(config=Config(method="sgd", image_size=SIZE))
    model.save(tmp_path / "model.keras")
    config = keras.models.load_model(tmp_path / "model.keras").config
    assert config.predictor_learning_rate is None


def test_eager_execution_does_not_warn(images):
    model = SiameseModel(CONFIG, backbone=backbone())
    model.compile(run_eagerly=True)
    assert np.isfinite(model.train_on_batch(images[:BATCH])[0])


def per_row(p1, p2, t1, t2):
    return ops.sum((p1 - t2) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda x, y: compiled().fit(x.astype("float32"), verbose=0), "images must be uint8"),
        (lambda x, y: compiled().fit((x, x), verbose=0), "two views must be normalised float32, not uint8"),
        (lambda x, y: compiled().fit(x, y, sample_weight=y, verbose=0), "neither sample_weight nor"),
        (lambda x, y: compiled().fit(x, y, class_weight={0: 1, 1: 2, 2: 1}, verbose=0), "nor class_weight"),
        (lambda x, y: compiled(loss=per_row).fit(x, batch_size=BATCH, verbose=0), r"a scalar.*not \[8\]"),
        (lambda x, y: compiled(loss=keras.losses.MeanSquaredError()), "a function of p1, p2, t1, t2"),
        (lambda x, y: compiled("resnet"), "backbone must be a built functional keras.Model"),
        (lambda x, y: compiled(std=(0, 0, 0)), "mean and std must be three numbers"),
        (lambda x, y: compiled(mean=(125, 123, 114), std=(63, 62, 67)), "divide those of values in"),
        (lambda x, y: selfsup.Augmentation(mean=(0.5,), std=(0.5,)), "mean and std must be three numbers"),
        (lambda x, y: selfsup.Augmentation(crop_area=(0.1, 0.5, 0.9)), "crop_area must be two numbers"),
        (lambda x, y: selfsup.Encoder(backbone(), mean=(0.5,) * 3), "mean and std belong together"),
        (lambda x, y: compiled().compile(CoupledSGD(gradient_accumulation_steps=4)), "accumulate"),
        (
            lambda x, y: compiled().compile(
                CoupledSGD(groups={"projecter": {"rate_ratio": 1, "weight_decay": 0}})
            ),
            "no weight has a path that starts with 'projecter'",
        ),
        (lambda x, y: Config(method="directpred", rule_options={"w": np.eye(2)}), "make arrays lists"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_is_one_clear_line(act, message, images, labels):
    with pytest.raises(InputError, match=message) as caught:
        act(images, labels)
    assert str(caught.value).count("\n") == 0
