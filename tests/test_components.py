"""Runs with a user's own backbone, loss and optimizer: their identity, their errors, resuming and export."""

import dataclasses
import functools
import os
import signal

import keras
import numpy as np
import pytest
from keras import ops

import selfsup
from selfsup import Config, InputError
from selfsup.analysis.encoder import load_encoder
from selfsup.networks.backbones import in_stock_layers
from selfsup.records import checkpoints
from selfsup.training import pretrain
from selfsup.training.identity import describe

CONFIG = Config(
    method="simsiam", precision="float32", batch_size=8, epochs=2, probe_epochs=1, evaluate_every=0,
    record_every=9,
)  # fmt: skip


@pytest.fixture
def data(rng, monkeypatch):
    monkeypatch.setattr(pretrain, "STEPS_PER_EXECUTION", 1)
    return selfsup.Dataset("mine", rng.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8))


def small(*layers, width=4):
    inputs = outputs = keras.Input((8, 8, 3))
    for layer in (*layers, keras.layers.Conv2D(width, 3)):
        outputs = layer(outputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(outputs))


def residual():
    inputs = keras.Input((8, 8, 3))
    h = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    h = ops.relu(2 * h + keras.layers.Conv2D(4, 3, padding="same")(h))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(h))


def mirrored(images, seed):
    view = ops.cast(images, "float32") / 255.0 - 0.5
    return view, view[:, :, ::-1]


class Scaled(keras.layers.Layer):
    """A layer whose config has its own arguments only."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {"factor": self.factor}


class Unknown(Scaled):
    """A layer that cannot be made from its config."""

    def get_config(self):
        return {}


class Forgetful(keras.layers.Dense):
    """A layer whose config lacks an argument that changes a shape."""

    def get_config(self):
        return {**super().get_config(), "units": 8}


class Interrupting(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def run(data, workdir, config=CONFIG, **given):
    given = {"backbone": small, "augmentation": mirrored, **given}
    return selfsup.run(config, workdir, data=data, checkpoint_minutes=0, **given)


def last_weights(workdir):
    return checkpoints.latest(workdir, {}).variables()


def test_operations_and_own_layers_are_exported(data, tmp_path):
    result = run(data, tmp_path, backbone=residual)
    assert result.monitor["epoch"] == 2
    encoder = load_encoder(tmp_path)
    assert encoder(data.x_train).shape == (32, 4)
    x = np.linspace(-1, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    rounded = keras.Model(i := keras.Input((8, 8, 3)), ops.cast(ops.cast(5 * i, "int32"), "float32"))
    for model in (residual(), small(Scaled(3.0)), rounded):
        np.testing.assert_allclose(in_stock_layers(model)(x), model(x), rtol=1e-6)


@pytest.mark.parametrize("method", ["simsiam", "byol"])
@pytest.mark.parametrize(
    "given", [lambda: small(Unknown(2.0)), small(Unknown(2.0))], ids=["function", "model"]
)
def test_a_backbone_that_cannot_be_exported_is_refused_before_the_training(method, given, data, tmp_path):
    with pytest.raises(InputError, match=r"cannot be copied .*get_config that returns") as caught:
        run(
            data,
            tmp_path / "run",
            Config(**{**CONFIG.to_dict(), "method": method, "ema": None}),
            backbone=given,
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_is_no_component_is_refused(data, tmp_path):
    keras_stop = keras.callbacks.EarlyStopping("loss")
    for wrong, message in (
        ({"callbacks": keras_stop}, "callbacks must be a list of Keras callbacks"),
        ({"callbacks": ["stop"]}, "callbacks must be a list of Keras callbacks"),
        ({"loss": "euclidean"}, "loss must be a function of p1, p2, t1, t2, not 'euclidean'"),
        ({"backbone": keras.Model(i := keras.Input((8, 8, 3), dtype="uint8"), i)}, "features"),
    ):
        with pytest.raises(InputError, match=message):
            run(data, tmp_path / "run", **wrong)
        assert not (tmp_path / "run").exists()


def test_views_are_not_cut_to_integers(data, tmp_path):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    with pytest.raises(InputError, match="must take normalised views, which are float32; its input is uint8"):
        run(data, tmp_path / "run", backbone=keras.Model(inputs, outputs))


@pytest.mark.parametrize("use_ema", [False, True])
def test_an_optimizer_that_averages_weights_resumes_to_the_same_bits(use_ema, data, tmp_path):
    def optimizer():
        return keras.optimizers.SGD(0.1, use_ema=use_ema, ema_momentum=0.5)

    whole = run(data, tmp_path / "whole", optimizer=optimizer())
    with pytest.raises(selfsup.Interrupted):
        run(data, tmp_path / "parts", optimizer=optimizer(), callbacks=[Interrupting()])
    parts = run(data, tmp_path / "parts", optimizer=optimizer())
    assert parts.weights == whole.weights  # although Keras numbered the layers of this process
    assert parts.swapped == whole.swapped
    ours, theirs = last_weights(tmp_path / "parts"), last_weights(tmp_path / "whole")
    for found, expected in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert use_ema == any("average" in name for name in ours)


def test_the_encoder_of_an_interrupted_run_stays_until_the_next(data, tmp_path):
    with pytest.raises(selfsup.Interrupted):
        run(data, tmp_path, callbacks=[Interrupting()])
    (tmp_path / "encoder.keras").write_bytes(b"exported")

    class Failing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyError

    with pytest.raises(KeyError):
        run(data, tmp_path, callbacks=[Failing()])
    assert (tmp_path / "encoder.keras").read_bytes() == b"exported"
    run(data, tmp_path)
    load_encoder(tmp_path)


def test_initial_weights_bring_their_statistics(data, rng, tmp_path):
    def normalizing(shift):
        layer = keras.layers.Normalization()
        layer.adapt(rng.normal(shift, 1 + shift, (64, 8, 8, 3)).astype(np.float32))
        return small(layer)

    run(data, tmp_path / "source", backbone=normalizing(3.0))
    features = []

    class Features(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            view = (data.x_train / np.float32(255) - data.mean) / data.std
            features.append(ops.convert_to_numpy(self.model.backbone(view.astype(np.float32))))

    source = tmp_path / "source"
    run(data, tmp_path / "on", backbone=normalizing(0.0), init_from=source, callbacks=[Features()])
    np.testing.assert_allclose(load_encoder(tmp_path / "on")(data.x_train), features[0], rtol=1e-4, atol=1e-5)


def factory(scale):
    def loss(p1, p2, t1, t2):
        return scale * ops.mean(p1 - t2)

    return loss


class Weighted:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, p1, p2, t1, t2):
        return self.scale * ops.mean(p1 - t2)

    def method(self, p1, p2, t1, t2):
        return self(p1, p2, t1, t2)


def with_default(p1, p2, t1, t2, scale=1.0, *, table=(1, 2)):
    return scale * ops.mean(p1 - t2)


def copy_of(model, copy=None):
    copy = copy or keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


@dataclasses.dataclass(frozen=True)
class Held:
    values: np.ndarray

    def __call__(self, images, seed):
        return images, images


def decaying(schedule):
    return keras.optimizers.SGD(getattr(keras.optimizers.schedules, schedule)(0.1, 10, 0.9))


def activated(name):
    """A model whose layer has the name of its activation."""
    inputs = keras.Input((8,))
    return keras.Model(inputs, keras.layers.Activation(name, name=name)(inputs))


def policed(policy):
    inputs = keras.Input((8,))
    return keras.Model(inputs, keras.layers.ReLU(dtype=policy)(inputs))


MODEL, RESIDUAL, FULL = small(), residual(), selfsup.Augmentation()
TABLE = np.arange(6.0)


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        (factory(1.0), factory(1.0), factory(2.0)),
        (factory(TABLE), factory(TABLE.copy()), factory(TABLE + 1)),
        (factory([1, {"a": 2}]), factory([1, {"a": 2}]), factory([1, {"a": 3}])),
        (functools.partial(with_default, scale=2), functools.partial(with_default, scale=2), with_default),
        (functools.partial(small, width=2), functools.partial(small, width=2), functools.partial(small)),
        (Weighted(1.0), Weighted(1.0), Weighted(2.0)),
        (Weighted(1.0).method, Weighted(1.0).method, Weighted(2.0).method),
        (lambda a, b: a + b, lambda a, b: a + b, lambda a, b: a - b),
        (lambda a: a + 1, lambda a: a + 1, lambda a: a + 2),
        (lambda a: [i + 1 for i in a], lambda a: [i + 1 for i in a], lambda a: [i + 2 for i in a]),
        (functools.partial(small, run), functools.partial(small, run), functools.partial(small, mirrored)),
        (factory(mirrored), factory(mirrored), factory(run)),
        (factory(lambda: 1), factory(lambda: 1), factory(lambda: 2)),
        (Weighted(mirrored), Weighted(mirrored), Weighted(run)),
        (factory(ops.ones(2)), factory(ops.ones(2)), factory(ops.zeros(2))),
        (factory(FULL), factory(selfsup.Augmentation()), factory(selfsup.Augmentation(grey_rate=0.5))),
        (Held(np.arange(2000.0)), Held(np.arange(2000.0)), Held(np.arange(2000.0) != 1000.0)),
        (factory(np.array([{}, "a"])), factory(np.array([{}, "a"])), factory(np.array([{}, "b"]))),
        (keras.layers.RandomFlip(seed=1), keras.layers.RandomFlip(seed=1), keras.layers.RandomFlip(seed=2)),
        (decaying("ExponentialDecay"), decaying("ExponentialDecay"), decaying("InverseTimeDecay")),
        (activated("relu"), activated("relu"), activated("gelu")),
        (policed("mixed_bfloat16"), policed("mixed_bfloat16"), policed("mixed_float16")),
        (keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.2)),
        (keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1, name="mine"), keras.optimizers.Adam(0.1)),
        (MODEL, copy_of(MODEL), small()),
        (MODEL, copy_of(MODEL, small()), residual()),
        (RESIDUAL, copy_of(RESIDUAL, residual()), residual()),
        (MODEL, copy_of(MODEL), keras.Sequential([*copy_of(MODEL).layers, keras.layers.ReLU()])),
    ],
)  # fmt: skip
def test_equal_components_have_one_identity_and_others_another(first, same, other):
    assert describe(first) == describe(same)
    assert describe(first) != describe(other)
    assert " at 0x" not in describe(first)


def test_a_function_without_values_is_known_by_its_name():
    assert describe(mirrored) == f"{__name__}.mirrored"
    assert describe(small) == describe(small)
    assert describe(with_default) != f"{__name__}.with_default"


def test_the_order_of_layers_counts_although_names_do_not():
    def two(turned):
        inputs = keras.Input((8,))
        layers = [keras.layers.ReLU(), keras.layers.Softmax()]
        first, second = layers[::-1] if turned else layers
        return keras.Model(inputs, second(first(inputs)))

    def sums(which):
        inputs = keras.Input((8,))
        a, b = keras.layers.ReLU()(inputs), keras.layers.ReLU()(inputs)
        return keras.Model(inputs, keras.layers.Add()([a, (a, b)[which]]))

    assert describe(two(False)) == describe(two(False)) != describe(two(True))
    assert describe(sums(0)) == describe(sums(0)) != describe(sums(1))
