"""Schedules of the learning rate and of tau, in functions, in the optimizer, and in a run."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from selfsup import schedules, theory
from selfsup.config import Config
from selfsup.model import SiameseModel
from selfsup.optimizers import CoupledSGD, Group, from_config
from selfsup.records import checkpoints, workdir
from selfsup.records.checkpoints import Checkpoint
from selfsup.training import run as train
from selfsup.utils.errors import InputError

EAGER = keras.backend.backend() == "tensorflow"  # tracing takes longer than a few steps


def rates(config, steps_per_epoch, count):
    schedule = schedules.learning_rate(config, steps_per_epoch)
    return [float(schedule(step)) for step in range(count)]


def by_hand(config, steps_per_epoch, count):
    warmup, steps = config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch
    found = []
    for step in range(count):
        share = (step - warmup) / (steps - warmup)
        cosine = (1 + math.cos(math.pi * share)) / 2 if config.schedule == "cosine" else 1
        found.append(config.learning_rate * (step / warmup if step < warmup else cosine))
    return found


@pytest.mark.parametrize(
    "fields",
    [{"schedule": "cosine"}, {"warmup_epochs": 2}, {"schedule": "cosine", "warmup_epochs": 1}],
    ids=str,
)
def test_learning_rates(fields):
    config = Config(epochs=4, learning_rate=0.5, **fields)
    np.testing.assert_allclose(rates(config, 5, 20), by_hand(config, 5, 20), rtol=1e-5, atol=1e-8)


def test_a_constant_rate_is_a_number():
    assert schedules.learning_rate(Config(learning_rate=0.2)) == 0.2


def test_after_a_warm_up_the_rate_is_exactly_the_same_in_a_longer_run():
    short, long = (Config(epochs=n, warmup_epochs=1) for n in (2, 4))
    assert rates(short, 3, 6) == rates(long, 3, 6)
    assert short.training == long.training


def test_tau_rises_to_one_by_a_cosine():
    for step, expected in (
        (0, 0.99),
        (25, 1 - 0.01 * (math.cos(math.pi / 4) + 1) / 2),
        (100, 1.0),
        (150, 1.0),
    ):
        assert float(schedules.cosine_tau(0.99, step, 100)) == pytest.approx(expected, abs=1e-7)


def test_the_optimizer_follows_a_schedule_in_all_groups(rng):
    """The velocity holds the rate: v <- m v - rate ratio (g + l2 w), w <- w + v."""
    config = Config(
        method="byol", epochs=2, schedule="cosine", learning_rate=0.5, predictor_learning_rate=2.0,
        weight_decay=0.1, predictor_weight_decay=0.2,
    )  # fmt: skip
    optimizer = from_config(config, steps_per_epoch=3)
    assert optimizer.groups == {"predictor": Group(4.0, 0.2)}
    start = rng.normal(size=(2, 3)).astype(np.float32)
    variables = []
    for scope in ("backbone", "predictor"):
        with keras.name_scope(scope):
            variables.append(keras.Variable(start, name="kernel"))
    weights, velocity = [start.astype(np.float64)] * 2, [0.0, 0.0]
    for rate in by_hand(config, 3, 6):
        gradient = rng.normal(size=(2, 3)).astype(np.float32)
        optimizer.apply([ops.convert_to_tensor(gradient)] * 2, variables)
        for i, (ratio, decay) in enumerate(((1, 0.1), (4, 0.2))):
            velocity[i] = 0.9 * velocity[i] - rate * ratio * (gradient + decay * weights[i])
            weights[i] = weights[i] + velocity[i]
    for variable, expected in zip(variables, weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, rtol=1e-4, atol=1e-5)


def test_a_changing_rate_differs_from_torch_as_documented(rng):
    """With a rate that is cut by ten after two steps, PyTorch scales the old velocity, too."""
    torch = pytest.importorskip("torch")
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])  # from the fourth step on
    weight = keras.Variable(np.ones(3, np.float32), name="kernel")
    optimizer = CoupledSGD(schedule, 0.9)
    theirs = torch.ones(3, requires_grad=True)
    reference = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(reference, [3])
    distances = []
    for _ in range(5):
        gradient = rng.normal(size=3).astype(np.float32)
        optimizer.apply([ops.convert_to_tensor(gradient)], [weight])
        theirs.grad = torch.tensor(gradient)
        reference.step()
        scheduler.step()
        distances.append(float(np.abs(ops.convert_to_numpy(weight) - theirs.detach().numpy()).max()))
    assert max(distances[:3]) < 1e-6
    assert min(distances[3:]) > 0.01


@pytest.mark.usefixtures("shallow")
def test_the_model_raises_tau(rng):
    config = Config(method="byol", width=2, precision="float32", epochs=2, tau=0.5, tau_schedule="cosine")
    with pytest.raises(InputError, match="steps_per_epoch is missing"):
        SiameseModel(config)
    model = SiameseModel(config, steps_per_epoch=2)
    model.compile(run_eagerly=EAGER)
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for step in range(4):
        before = ops.convert_to_numpy(model.target_projector.weights[0])
        model.train_on_batch(images)
        online, after = (
            ops.convert_to_numpy(network.weights[0]) for network in (model.projector, model.target_projector)
        )
        tau = 1 - 0.5 * (math.cos(math.pi * step / 4) + 1) / 2
        np.testing.assert_allclose(after, tau * before + (1 - tau) * online, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"schedule": "linear"}, "schedule must be one of constant, cosine"),
        ({"warmup_epochs": 100}, r"warmup_epochs must be below the number of epochs \(100\)"),
        ({"warmup_epochs": -1}, "warmup_epochs must be"),
        ({"ema": False, "tau_schedule": "cosine"}, "tau_schedule does not apply: there is no EMA target"),
    ],
)
def test_refused_settings(fields, named):
    with pytest.raises(InputError, match=named):
        Config(**fields)


def test_the_theory_has_constant_rates():
    with pytest.raises(InputError, match="constant rates"):
        theory.Constants.from_config(Config(schedule="cosine"))


def test_old_records_lack_schedules_and_keep_their_fingerprint():
    plain = Config()
    assert (
        Config(schedule="constant", warmup_epochs=0, tau_schedule="constant").fingerprint == plain.fingerprint
    )
    found = {Config(**{k: v}).fingerprint for k, v in (("schedule", "cosine"), ("warmup_epochs", 5))}
    found.add(Config(tau_schedule="cosine").fingerprint)
    assert len(found | {plain.fingerprint}) == 4


def config_of(tiny_npz, **changed):
    fields = {
        "method": "byol", "width": 2, "epochs": 2, "probe_epochs": 2, "batch_size": 16,
        "precision": "float32", "dataset": str(tiny_npz),
    }  # fmt: skip
    return Config(**{**fields, **changed})


@pytest.mark.parametrize("fields", [{"schedule": "cosine"}, {"tau_schedule": "cosine"}], ids=str)
def test_a_run_under_a_cosine_is_not_extended(tmp_path, fields):
    config = Config(method="byol", epochs=2, **fields)
    with workdir.owned(tmp_path, config):
        workdir.write_config(tmp_path, config)
        checkpoints.save(tmp_path, {}, Checkpoint(6, {}))
    refused = "epochs 2 there, 4 here; under a cosine schedule a run keeps its length"
    with pytest.raises(InputError, match=refused), workdir.owned(tmp_path, replace(config, epochs=4)):
        pass
    with workdir.owned(tmp_path, replace(config, probe_epochs=3)):  # only evaluates again
        pass


@pytest.mark.usefixtures("shallow")
def test_an_interrupted_schedule_resumes_to_the_same_bits(tiny_npz, tmp_path):
    fields = {"schedule": "cosine", "warmup_epochs": 1, "tau_schedule": "cosine", "epochs": 3}
    whole = train.run(config_of(tiny_npz, **fields), tmp_path / "whole")

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(config_of(tiny_npz, **fields), tmp_path / "parts", callbacks=[Stop()])
    assert train.run(config_of(tiny_npz, **fields), tmp_path / "parts").weights == whole.weights


@pytest.mark.usefixtures("shallow")
def test_a_run_takes_an_optimizer(tiny_npz, tmp_path, capsys):
    ours = train.run(config_of(tiny_npz), tmp_path / "ours")
    equal = CoupledSGD(0.03, 0.9, 4e-4, {"predictor": Group(1.0, 4e-4)})
    same = train.run(config_of(tiny_npz), tmp_path / "same", optimizer=equal)
    assert same.weights == ours.weights
    capsys.readouterr()
    adam = train.run(config_of(tiny_npz), tmp_path / "adam", optimizer=keras.optimizers.Adam(1e-3))
    assert "optim    Adam " in capsys.readouterr().out
    assert adam.weights != ours.weights
    assert adam.swapped["optimizer"].startswith("Adam ")
    with pytest.raises(InputError, match=r"optimizer Adam .* there, the default here"):
        train.run(config_of(tiny_npz), tmp_path / "adam")
    with pytest.raises(InputError, match=r"optimizer Adam .* there, Adam .* here"):
        train.run(config_of(tiny_npz), tmp_path / "adam", optimizer=keras.optimizers.Adam(2e-3))
    with pytest.raises(InputError, match="has been used before"):
        train.run(config_of(tiny_npz), tmp_path / "again", optimizer=equal)
    with pytest.raises(InputError, match="must be a Keras optimizer, not 'adam'"):
        train.run(config_of(tiny_npz), tmp_path / "again", optimizer="adam")


@pytest.mark.usefixtures("shallow")
def test_a_run_starts_from_the_weights_of_another(tiny_npz, tmp_path, capsys):
    train.run(config_of(tiny_npz), tmp_path / "first")
    kernels = []

    class Start(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            networks = (self.model.backbone, self.model.target_backbone, self.model.predictor)
            kernels.append([ops.convert_to_numpy(n.weights[0]) for n in networks if n is not None])
            assert int(ops.convert_to_numpy(self.model.steps)) == 0

    source = tmp_path / "first"
    train.run(config_of(tiny_npz, learning_rate=0.1), tmp_path / "on", callbacks=[Start()], init_from=source)
    saved = list(checkpoints.latest(source, {}).arrays.items())
    start = next(i for i, (name, _) in enumerate(saved) if name.endswith("stem_conv/kernel"))
    predictor = next(array for name, array in saved if " predictor/" in name)
    for found, expected in zip(kernels.pop(), (saved[start][1], saved[start][1], predictor), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert "start    weights " in capsys.readouterr().out
    other = train.run(config_of(tiny_npz, method="sgd", ema=False), tmp_path / "sgd", init_from=source)
    assert other.swapped["init_from"].startswith("weights ")
    with pytest.raises(InputError, match=r"init_from weights .* there, the default here"):
        train.run(config_of(tiny_npz, learning_rate=0.1), tmp_path / "on")
    with pytest.raises(InputError, match="has another backbone or projector"):
        train.run(config_of(tiny_npz, width=4), tmp_path / "wide", init_from=source)
    with pytest.raises(InputError, match="there is no checkpoint in"):
        train.run(config_of(tiny_npz), tmp_path / "none", init_from=tmp_path / "missing")
    assert not (tmp_path / "wide").exists()


def test_a_schedule_needs_the_length_of_an_epoch():
    with pytest.raises(InputError, match="steps_per_epoch is missing"):
        from_config(Config(warmup_epochs=1))
