"""The evaluation while a run trains: what it measures, when, and that it changes nothing."""

import keras
import numpy as np
import pytest
from keras import ops

from selfsup.analysis.encoder import probed_model
from selfsup.analysis.probe import normalise
from selfsup.config import Config
from selfsup.data.load import load_dataset
from selfsup.model import SiameseModel
from selfsup.networks.softmax import OnlineProbe
from selfsup.records import checkpoints
from selfsup.records.checkpoints import Checkpoint
from selfsup.records.recordings import EVALUATED, read_log
from selfsup.training import early, pretrain
from selfsup.training import run as train
from selfsup.training.early import EarlyEvaluation
from selfsup.utils.errors import InputError

EAGER = keras.backend.backend() == "tensorflow"  # tracing takes longer than a few steps


def config_of(tiny_npz, **changed):
    fields = {
        "width": 2, "epochs": 4, "probe_epochs": 2, "batch_size": 16, "precision": "float32",
        "dataset": str(tiny_npz), "evaluate_every": 2,
    }  # fmt: skip
    return Config(**{**fields, **changed})


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_the_online_probe_is_softmax_regression_by_adam(rng):
    """Against Adam in float64; the last two rows have no label and no part."""
    probe = OnlineProbe(5, 3)
    kernel, bias, moments = np.zeros((5, 3)), np.zeros(3), [0.0, 0.0, 0.0, 0.0]
    right = seen = 0
    for step in range(1, 6):
        h, y = rng.normal(size=(10, 5)).astype(np.float32), rng.integers(0, 3, 10).astype(np.int32)
        y[-2:] = -1
        scores = h[:8] @ kernel + bias
        right, seen = right + (scores.argmax(axis=1) == y[:8]).sum(), seen + 8
        error = (softmax(scores) - np.eye(3)[y[:8]]) / 8
        for i, (value, gradient) in enumerate(((kernel, h[:8].T @ error), (bias, error.sum(axis=0)))):
            moments[i] = 0.9 * moments[i] + 0.1 * gradient
            moments[2 + i] = 0.999 * moments[2 + i] + 0.001 * gradient**2
            mean, square = moments[i] / (1 - 0.9**step), moments[2 + i] / (1 - 0.999**step)
            value -= 1e-2 * mean / (np.sqrt(square) + 1e-7)
        probe.learn([ops.convert_to_tensor(h)], ops.convert_to_tensor(y), step)
        np.testing.assert_allclose(ops.convert_to_numpy(probe.state[0]), kernel, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(ops.convert_to_numpy(probe.state[1]), bias, rtol=2e-3, atol=2e-4)
    assert float(probe.accuracy.result()) == pytest.approx(100 * right / seen)


@pytest.mark.usefixtures("shallow")
def test_fit_trains_the_probe_on_labels(rng):
    images, labels = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8), np.arange(16) % 2
    model = SiameseModel(Config(width=2, precision="float32"), classes=2)
    model.compile(run_eagerly=EAGER)
    history = model.fit(images, labels, batch_size=8, verbose=0).history
    assert 0 <= history["online_linear"][0] <= 100
    assert np.abs(ops.convert_to_numpy(model.online_probe.state[0])).max() > 0
    with pytest.raises(InputError, match="labels are missing"):
        model.fit(images, batch_size=8, verbose=0)


@pytest.mark.usefixtures("shallow")
def test_neither_probe_nor_evaluation_changes_the_training(tiny_npz, tmp_path, monkeypatch):
    watched = train.run(config_of(tiny_npz, method="byol"), tmp_path / "watched")

    def without(*args, classes=None, **kwargs):
        return SiameseModel(*args, **kwargs)

    monkeypatch.setattr(pretrain, "SiameseModel", without)
    monkeypatch.setattr(pretrain, "labels_of", lambda data, indices: None)
    blind = train.run(config_of(tiny_npz, method="byol", evaluate_every=0), tmp_path / "blind")
    assert watched.weights == blind.weights
    assert watched.accuracy == blind.accuracy
    assert np.isfinite(read_log(tmp_path / "watched")["online_linear"]).all()
    assert np.isnan(read_log(tmp_path / "blind")["online_linear"]).all()


@pytest.mark.usefixtures("shallow")
def test_a_run_is_evaluated_first_every_few_and_last(tiny_npz, tmp_path, capsys):
    seen = []
    noting = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    result = train.run(config_of(tiny_npz), tmp_path, callbacks=[noting])
    log = read_log(tmp_path)
    for name in (*EVALUATED, "online_linear", "loss"):
        assert seen[-1][name] == pytest.approx(log[name][-1], rel=1e-6), "callbacks find it in their logs"
    for name in EVALUATED:
        assert np.isfinite(log[name]).tolist() == [True, False, True, True], name
    assert log["online_linear"][1:].mean() > 75, "dark and light images, whose labels are those of the probe"
    assert result.monitor["knn"] == log["knn"][-1]
    assert result.seconds["evaluations"] > 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["k-NN" in line for line in lines] == [True, False, True, True]
    assert all("probe" in line for line in lines)


@pytest.mark.usefixtures("shallow")
def test_checkpoints_from_before_the_evaluations_resume(tiny_npz, tmp_path):
    whole = train.run(config_of(tiny_npz, epochs=3), tmp_path / "whole")
    train.run(config_of(tiny_npz, epochs=2), tmp_path / "old")
    last = checkpoints.latest(tmp_path / "old", {})
    arrays = {name: a for name, a in last.arrays.items() if not name.startswith("online_probe/")}
    assert len(last.arrays) - len(arrays) == 6
    arrays["log/rows"] = arrays["log/rows"][:, :5]
    checkpoints.save(tmp_path / "old", last.identity, Checkpoint(last.steps, arrays))
    assert train.run(config_of(tiny_npz, epochs=3), tmp_path / "old").weights == whole.weights
    log = read_log(tmp_path / "old")
    assert np.isfinite(log["online_linear"]).tolist() == [False, False, True]
    assert np.isfinite(log["knn"]).tolist() == [False, False, True]
    np.testing.assert_array_equal(log["loss"], read_log(tmp_path / "whole")["loss"])


@pytest.mark.parametrize(
    ("count", "bounds", "size"),
    [
        (50_000, early.TRAIN, 5000),
        (10_000, early.TEST, 2000),
        (50_000, early.VIEWED, 500),
        (1000, early.TRAIN, 250),
        (1000, early.TEST, 500),
        (12_000, early.VIEWED, 300),
        (600, early.TRAIN, 200),
        (96, early.TRAIN, 96),
        (96, early.VIEWED, 96),
    ],
)
def test_samples_have_at_most_their_size_and_share_and_at_least_200_images(count, bounds, size):
    found = early._sample(count, *bounds)
    assert len(np.unique(found)) == len(found) == size
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < count
    assert found[-1] > 0.9 * count, "they are spread over the dataset"


def views_of(model, images, pair):
    """The two views of images that an evaluation with seed 3 takes for its PAIRth pair."""
    return model.augmentation(images, [3, 2**31 - 1 - pair])


def z_of(model, images):
    z = model.projector(model.backbone(images, training=False), training=False)
    return ops.convert_to_numpy(z).astype(np.float64)


@pytest.mark.usefixtures("shallow")
def test_measures_are_those_of_the_network_and_do_not_depend_on_the_step(tiny_npz, monkeypatch):
    data = load_dataset(str(tiny_npz))
    monkeypatch.setattr(early, "TRAIN", (40, 4))
    model = SiameseModel(Config(width=2, precision="float32"), mean=data.mean, std=data.std)
    probed = probed_model(model.backbone, model.projector, reuse=False)
    evaluation = EarlyEvaluation(probed, data, 1, 1, seed=3)
    found = evaluation.measure(model)
    model.steps.assign(17)
    assert evaluation.measure(model) == found
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.x_train))[:40])
    images = normalise(data.x_train[chosen], data.mean, data.std)
    h = model.backbone(images, training=False)
    z = ops.convert_to_numpy(model.projector(h, training=False))
    values = np.linalg.svd(z.astype(np.float64), compute_uv=False)
    p = values / values.sum() + 1e-7
    viewed = np.stack([z_of(model, view) for i in range(5) for view in views_of(model, data.x_train, i)], 1)
    viewed /= np.linalg.norm(viewed, axis=-1, keepdims=True)
    squares = ((viewed[:, :, None] - viewed[:, None]) ** 2).sum(-1)  # [N, 10, 10], 0 on the diagonal
    assert found["view_alignment"] == pytest.approx(squares.sum() / (len(viewed) * 90), rel=1e-3)
    assert found["rankme"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-3)
    h, tested = ops.convert_to_numpy(h), normalise(data.x_test, data.mean, data.std)
    test = ops.convert_to_numpy(model.backbone(tested, training=False))
    cosines = (test / np.linalg.norm(test, axis=1)[:, None]) @ (h / np.linalg.norm(h, axis=1)[:, None]).T
    votes = np.zeros((len(test), data.classes))
    for i, row in enumerate(cosines):
        for j in np.argsort(-row)[:20]:
            votes[i, data.y_train[chosen][j]] += np.exp(row[j] / 0.1)
    assert found["knn"] == pytest.approx(100 * np.mean(votes.argmax(axis=1) == data.y_test))
