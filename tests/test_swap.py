"""What a researcher swaps, written as user code."""

import importlib

import keras
import numpy as np
import pytest
from keras import ops

import selfsup
from selfsup import InputError
from selfsup.records.recordings import EVALUATED

pytestmark = pytest.mark.usefixtures("shallow")
EAGER = keras.backend.backend() == "tensorflow"  # tracing takes longer than a few steps


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def data(rng):
    labels = np.arange(48) % 2
    x = (rng.integers(0, 100, (48, 32, 32, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    return selfsup.Dataset("mine", x[:32], labels[:32], x[32:], labels[32:])


def tiny_backbone():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=4)(inputs)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))


def sequential_backbone():
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 3, strides=4, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def config(**fields):
    return selfsup.Config(**{"width": 2, "precision": "float32", "batch_size": 8, **fields})


def fit(model, images, epochs=1):
    return model.fit(images, batch_size=8, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def weights(model):
    return [ops.convert_to_numpy(v) for v in model.weights]


@keras.saving.register_keras_serializable("tests")
def euclidean(p1, p2, t1, t2):
    return ops.mean(ops.square(p1 - t2)) + ops.mean(ops.square(p2 - t1))


def identical_views(images, seed):
    pixels = ops.cast(images, "float32") / 255.0
    return pixels, pixels


@pytest.mark.parametrize("given", [tiny_backbone, tiny_backbone()], ids=["factory", "model"])
def test_a_backbone(given, images):
    model = selfsup.SiameseModel(config(method="byol"), backbone=given)
    model.compile(run_eagerly=EAGER)
    assert model.projector.input_shape == (None, 4)
    for target, online in zip(model.target_backbone.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(target), ops.convert_to_numpy(online))
        assert not target.trainable
    before = model.target_backbone.get_weights()
    fit(model, images)
    assert not any("stage" in v.path for v in model.weights)
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, model.target_backbone.get_weights(), strict=True)
    ]
    assert all(moved)


def test_a_backbone_of_keras_applications(images):
    def mobilenet():
        return keras.applications.MobileNetV2(
            (32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
        )

    model = selfsup.SiameseModel(config(ema=False), backbone=mobilenet)
    assert model.projector.input_shape == (None, 1280)
    with pytest.raises(InputError, match="pooling='avg'"):
        selfsup.SiameseModel(
            config(), backbone=keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None)
        )


def test_an_augmentation(images):
    model = selfsup.SiameseModel(config(), augmentation=identical_views)
    view1, view2 = model.views(images)
    np.testing.assert_array_equal(ops.convert_to_numpy(view1), ops.convert_to_numpy(view2))
    weak = selfsup.Augmentation(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), jitter_rate=0.0, grey_rate=0.0)
    model = selfsup.SiameseModel(config(), mean=(0.5,) * 3, std=(0.25,) * 3, augmentation=weak)
    view1, _ = (ops.convert_to_numpy(view) for view in model.views(images))
    expected = (images.astype(np.float64) / 255 - 0.5) / 0.25
    for view, image in zip(view1, expected, strict=True):
        assert min(np.abs(view - image).max(), np.abs(view - image[:, ::-1]).max()) < 1e-5
    with pytest.raises(InputError, match="grey_rate"):
        selfsup.Augmentation(grey_rate=2.0)


def test_what_cannot_be_augmented_is_refused(images):
    views = selfsup.Augmentation()
    for wrong in (images / 255.0, images[:, :24], images[..., :1], images[0]):
        with pytest.raises(InputError, match=r"images must be uint8 \[B, S, S, 3\], not "):
            views(wrong, 0)
    with pytest.raises(InputError, match=r"images must be uint8 \[N, H, W, 3\], not float64"):
        selfsup.SiameseModel(config(), images / 255.0)
    model = selfsup.SiameseModel(config())
    with pytest.raises(InputError, match="two views must be normalised float32, not uint8"):
        model((images, images))
    with pytest.raises(InputError, match="augmentation: one is given, and other strengths"):
        selfsup.SiameseModel(config(grey_rate=0.0), augmentation=identical_views)


def test_two_views_are_one_input_with_and_without_labels(images):
    view1, view2 = (images.astype(np.float32) / 127.5 - 1, images[::-1].astype(np.float32) / 127.5 - 1)
    model = selfsup.SiameseModel(config(method="sgd"), backbone=tiny_backbone)
    model.compile(run_eagerly=EAGER)
    out = model((view1, view2))
    expected = float(
        selfsup.losses.symmetric_negative_cosine(*(out[name] for name in ("p1", "p2", "t1", "t2")))
    )
    assert model.evaluate(view1, view2, batch_size=16, verbose=0, return_dict=True)["loss"] == pytest.approx(
        expected, rel=1e-4
    )
    labels = np.arange(16)[:, None] % 2
    probed = selfsup.SiameseModel(config(method="sgd"), backbone=tiny_backbone, classes=2)
    probed.compile(run_eagerly=EAGER)
    probed.fit(view1, view2, sample_weight=labels, batch_size=16, verbose=0)
    assert ops.convert_to_numpy(probed.online_probe.state[0]).any()
    with pytest.raises(InputError, match=r"labels must be whole numbers \[B\], not \['B', 2\]"):
        probed.fit(images, np.eye(2)[labels[:, 0]], batch_size=16, verbose=0)


def test_a_subclassed_backbone_is_refused(images):
    class Own(keras.Model):
        def call(self, inputs):
            return keras.ops.mean(inputs, axis=(1, 2))

    own = Own()
    own(images.astype(np.float32))
    with pytest.raises(InputError, match="built functional"):
        selfsup.SiameseModel(config(), backbone=own)


def test_a_loss(images):
    model = selfsup.SiameseModel(config(method="sgd"), loss=euclidean)
    model.compile(run_eagerly=EAGER)
    views = model.views(images[:8])
    out = {name: ops.convert_to_numpy(value) for name, value in model(views, training=True).items()}
    expected = np.mean((out["p1"] - out["t2"]) ** 2) + np.mean((out["p2"] - out["t1"]) ** 2)
    assert fit(model, images[:8])[0] == pytest.approx(expected, rel=1e-3)


def test_a_loss_that_asks_for_projections(images):
    def spread(p1, p2, t1, t2, *, z1):
        return euclidean(p1, p2, t1, t2) - ops.mean(ops.square(z1))

    model = selfsup.SiameseModel(config(method="sgd"), loss=spread)
    model.compile(run_eagerly=EAGER)
    out = {n: ops.convert_to_numpy(v) for n, v in model(model.views(images[:8]), training=True).items()}
    expected = np.mean((out["p1"] - out["t2"]) ** 2) + np.mean((out["p2"] - out["t1"]) ** 2)
    assert fit(model, images[:8])[0] == pytest.approx(expected - np.mean(out["z1"] ** 2), rel=1e-3)
    with pytest.raises(InputError, match="drop one"):
        selfsup.SiameseModel(config(loss="isoloss"), loss=spread)


def test_compile_takes_no_loss():
    with pytest.raises(InputError, match="SiameseModel"):
        selfsup.SiameseModel(config()).compile(loss="mse")


def test_a_dataset_of_pairs_of_views(rng):
    """Keras takes the second of a pair for labels; the model trains on both."""
    views = [rng.normal(size=(16, 32, 32, 3)).astype(np.float32) for _ in range(2)]
    losses = []
    for batch in ((tuple(views),), tuple(views)):
        keras.utils.set_random_seed(0)
        model = selfsup.SiameseModel(config())
        model.compile(run_eagerly=EAGER)
        losses.append(float(model.train_on_batch(*batch, return_dict=True)["loss"]))
    assert losses[0] == losses[1]


def test_float_images_are_refused(images):
    model = selfsup.SiameseModel(config())
    with pytest.raises(InputError, match="uint8"):
        model.views(images / np.float32(255))


@pytest.mark.parametrize(
    "swapped", [{}, {"backbone": tiny_backbone, "loss": euclidean}], ids=["default", "swapped"]
)
def test_a_saved_model_trains_on_to_the_same_numbers(swapped, images, tmp_path):
    keras.utils.set_random_seed(0)
    swapped = {**swapped, **({"augmentation": selfsup.Augmentation(grey_rate=0.5)} if swapped else {})}
    model = selfsup.SiameseModel(config(freq=2), **swapped)
    model.compile(run_eagerly=EAGER)
    fit(model, images)
    model.save(tmp_path / "x.keras")
    loaded = keras.models.load_model(tmp_path / "x.keras")
    loaded.run_eagerly = EAGER
    for a, b in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    assert fit(model, images) == fit(loaded, images)
    for a, b in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_keras_checkpoints_and_backups(images, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise RuntimeError("power cut")

    def train(callbacks):
        keras.utils.set_random_seed(0)
        model = selfsup.SiameseModel(config())
        model.compile(run_eagerly=EAGER)
        model.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    whole = train([keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")])
    saved = keras.models.load_model(tmp_path / "2.keras")
    with pytest.raises(RuntimeError):
        train([keras.callbacks.BackupAndRestore(tmp_path / "backup"), Stop()])
    resumed = train([keras.callbacks.BackupAndRestore(tmp_path / "backup")])
    for a, b, c in zip(weights(whole), weights(saved), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


class Watching(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []
        self.epochs_seen = 0

    def on_train_begin(self, logs=None):
        self.seen.append("begin")

    def on_epoch_end(self, epoch, logs=None):
        self.epochs_seen += 1
        self.seen.append((epoch, self.epochs_seen, sorted(logs)))

    def on_train_end(self, logs=None):
        self.seen.append("end")

    def state(self):
        return {"epochs_seen": np.int64(self.epochs_seen)}

    def restore(self, state):
        self.epochs_seen = int(state["epochs_seen"])


class Interrupting(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_run_with_own_parts_and_callbacks(data, tmp_path):
    settings = config(method="sgd", ema=False, epochs=2, probe_epochs=1)
    parts = {"data": data, "backbone": sequential_backbone, "loss": euclidean}
    with pytest.raises(KeyboardInterrupt):
        selfsup.run(settings, tmp_path, **parts, callbacks=[Watching(), Interrupting()], checkpoint_minutes=0)
    with pytest.raises(InputError, match=r"backbone .* there, the default here; loss .* --overwrite"):
        selfsup.run(settings, tmp_path, data=data, callbacks=[Watching()])
    watching = Watching()
    result = selfsup.run(settings, tmp_path, **parts, callbacks=[watching])
    names = sorted(["effective_rank", "embedding_std", "loss", "online_linear", *EVALUATED])
    assert watching.seen == ["begin", (1, 2, names), "end"]
    assert result.swapped == {"backbone": f"{__name__}.sequential_backbone", "loss": f"{__name__}.euclidean"}
    assert result.dataset["name"] == result.config["dataset"] == "mine"
    assert (tmp_path / "curves.png").exists()
    assert selfsup.load_encoder(tmp_path)(data.x_test).shape == (16, 4)
    assert selfsup.run(settings, tmp_path, **parts).weights == result.weights
    with pytest.raises(InputError, match="loss"):
        selfsup.run(settings, tmp_path, data=data, backbone=sequential_backbone)


def test_runs_do_not_train_a_backbone_that_is_given_as_a_model(data, tmp_path):
    given = tiny_backbone()
    before = given.get_weights()
    settings = config(epochs=1, probe_epochs=1, probe_untrained=True)
    first, second = (selfsup.run(settings, tmp_path / name, data=data, backbone=given) for name in "ab")
    for weight, expected in zip(given.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert (first.accuracy, first.swapped) == (second.accuracy, second.swapped)
    given.set_weights([weight + 1 for weight in before])
    with pytest.raises(InputError, match=r"backbone .* there, .* here.; .* or give a function"):
        selfsup.run(settings, tmp_path / "a", data=data, backbone=given)


def test_names_that_moved_are_still_there():
    from selfsup.devices import describe_device
    from selfsup.plots import eigenspaces
    from selfsup.probe import knn

    assert eigenspaces is selfsup.plots.eigenspaces
    assert knn is selfsup.probe.knn
    assert describe_device is selfsup.devices.describe_device
    assert importlib.import_module("selfsup.theory.modes").solve_modes is selfsup.theory.solve_modes
    for name in selfsup.__all__:
        assert getattr(selfsup, name) is not None
