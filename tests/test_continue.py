"""Finished runs that are trained longer, or only evaluated again."""

import signal
from dataclasses import asdict

import keras
import numpy as np
import pytest

from selfsup.config import Config
from selfsup.data.dataset import Dataset
from selfsup.records import checkpoints
from selfsup.records.dynamics import read_dynamics
from selfsup.records.recordings import read_eigenspaces
from selfsup.records.results import RESULT, read_result, write_json
from selfsup.training import pretrain
from selfsup.training import run as train
from selfsup.training.initial import InitialWeights
from selfsup.utils.errors import InputError
from selfsup.utils.interrupts import Interrupted

pytestmark = pytest.mark.usefixtures("shallow")


def config_of(tiny_npz, **changed):
    fields = {
        "width": 2, "epochs": 2, "probe_epochs": 2, "batch_size": 16, "precision": "float32",
        "dataset": str(tiny_npz), "record_every": 2, "probe_untrained": True,
    }  # fmt: skip
    return Config(**{**fields, **changed})


def records(workdir):
    """All that two runs with the same bits have in common."""
    result = read_result(workdir)
    arrays = {**read_eigenspaces(workdir).arrays(), **read_dynamics(workdir).arrays()}
    same = (result.weights, result.accuracy, result.monitor, result.config, (workdir / "log.csv").read_text())
    return same, arrays


def assert_same(workdir, other):
    (ours, arrays), (theirs, expected) = records(workdir), records(other)
    assert ours == theirs
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


class Raises(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise InputError("stop here")


def test_more_epochs_give_the_bits_of_a_run_that_was_never_shorter(tiny_npz, tmp_path, capsys):
    longer = config_of(tiny_npz, epochs=4)
    train.run(longer, tmp_path / "whole")
    short = train.run(config_of(tiny_npz), tmp_path / "parts")
    assert read_eigenspaces(tmp_path / "parts").epoch.tolist() == [0, 1, 2]
    assert [int(path.stem[-9:]) for path in checkpoints.found(tmp_path / "parts")] == [12]
    capsys.readouterr()
    train.run(longer, tmp_path / "parts")
    assert "resumed  after step 12 of 24" in capsys.readouterr().out
    assert read_eigenspaces(tmp_path / "parts").epoch.tolist() == [0, 1, 3, 4]
    assert_same(tmp_path / "parts", tmp_path / "whole")
    assert read_result(tmp_path / "parts").weights != short.weights
    train.run(longer, tmp_path / "parts")
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(InputError, match="epochs 4 there, 2 here"):
        train.run(config_of(tiny_npz), tmp_path / "parts")


def test_the_encoder_of_the_shorter_run_is_gone_while_a_run_continues(tiny_npz, tmp_path):
    train.run(config_of(tiny_npz), tmp_path)
    assert (tmp_path / "encoder.keras").exists()
    with pytest.raises(InputError, match="stop here"):
        train.run(config_of(tiny_npz, epochs=4), tmp_path, callbacks=[Raises()])
    assert not (tmp_path / "encoder.keras").exists()
    assert not (tmp_path / "result.json").exists()


def test_another_evaluation_does_not_train(tiny_npz, tmp_path, monkeypatch):
    first = train.run(config_of(tiny_npz, probe_untrained=False), tmp_path / "run")
    expected = train.run(config_of(tiny_npz, probe_epochs=9), tmp_path / "other")
    monkeypatch.setattr(train.keras.Model, "fit", lambda *_, **__: pytest.fail("trained"))
    for changed in ({}, {"probe_epochs": 9}):
        found = train.run(config_of(tiny_npz, **changed), tmp_path / "run")
        assert "untrained_linear" in found.accuracy
        assert found.weights == first.weights
    assert found.accuracy == expected.accuracy
    assert_same(tmp_path / "run", tmp_path / "other")


def test_without_its_checkpoint_a_finished_run_stays_as_it_is(tiny_npz, tmp_path):
    train.run(config_of(tiny_npz, probe_untrained=False), tmp_path, keep_checkpoint=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert not checkpoints.found(tmp_path)
    for changed, named in (
        ({"epochs": 4}, "epochs 2 there, 4 here"),
        ({"probe_epochs": 3}, "probe_epochs 2 there, 3 here"),
        ({}, "without a checkpoint"),
    ):
        with pytest.raises(InputError, match=named):
            train.run(config_of(tiny_npz, **changed), tmp_path)
    before.pop(".lock")
    assert before == {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file() and path.name != ".lock"
    }


def test_only_checkpoints_up_to_a_size_are_kept(tiny_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "KEPT_BYTES", 1000)
    train.run(config_of(tiny_npz), tmp_path)
    assert not checkpoints.found(tmp_path)


class StopsEarly(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_a_run_that_a_callback_ended_is_only_evaluated_again(tiny_npz, tmp_path, monkeypatch):
    first = train.run(config_of(tiny_npz, epochs=3), tmp_path, callbacks=[StopsEarly()])
    assert (first.config["epochs"], first.monitor["epoch"]) == (3, 1)
    with monkeypatch.context() as patched:
        patched.setattr(train.keras.Model, "fit", lambda *_, **__: pytest.fail("trained"))
        again = train.run(config_of(tiny_npz, epochs=3, probe_epochs=9), tmp_path)
    assert (again.weights, again.monitor) == (first.weights, first.monitor)
    assert again.config["probe_epochs"] == 9
    longer = train.run(config_of(tiny_npz, epochs=4, probe_epochs=9), tmp_path)
    assert longer.monitor["epoch"] == 4


def test_a_run_that_a_callback_ended_stays_ended_after_an_interruption(tiny_npz, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run(config_of(tiny_npz, epochs=3), tmp_path, callbacks=[StopsEarly()])
    assert read_result(tmp_path) is None
    with monkeypatch.context() as patched:
        patched.setattr(train.keras.Model, "fit", lambda *_, **__: pytest.fail("trained"))
        assert train.run(config_of(tiny_npz, epochs=3), tmp_path).monitor["epoch"] == 1


class Worse(keras.callbacks.Callback):
    """A measure that is best after the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        logs["worse"] = epoch


@pytest.mark.parametrize(("patience", "epochs"), [(1, 2), (2, 3), (9, 4)])
def test_the_best_weights_are_evaluated_and_the_last_ones_trained_on(patience, epochs, tiny_npz, tmp_path):
    one = train.run(config_of(tiny_npz, epochs=1), tmp_path / "one")
    best = keras.callbacks.EarlyStopping("worse", mode="min", patience=patience, restore_best_weights=True)
    first = train.run(config_of(tiny_npz, epochs=4), tmp_path / "parts", callbacks=[Worse(), best])
    assert (first.monitor["epoch"], first.accuracy) == (epochs, one.accuracy)
    ends = (InitialWeights.read(tmp_path / name).networks for name in ("one", "parts"))
    np.testing.assert_array_equal(*(networks[0] for networks in ends))
    again = train.run(config_of(tiny_npz, epochs=4, probe_epochs=3), tmp_path / "parts")
    assert (again.weights, again.accuracy["knn"]) == (first.weights, first.accuracy["knn"])
    train.run(config_of(tiny_npz, epochs=5), tmp_path / "whole")
    train.run(config_of(tiny_npz, epochs=5), tmp_path / "parts")
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_a_signal_in_the_last_epoch_does_not_change_how_it_ends(tiny_npz, tmp_path):
    class Signal(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                signal.raise_signal(signal.SIGTERM)

    config = config_of(tiny_npz, epochs=4)
    best = keras.callbacks.EarlyStopping("worse", mode="min", patience=1, restore_best_weights=True)
    first = train.run(config, tmp_path / "whole", callbacks=[Worse(), best])
    best = keras.callbacks.EarlyStopping("worse", mode="min", patience=1, restore_best_weights=True)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "parts", callbacks=[Worse(), best, Signal()])
    assert read_result(tmp_path / "parts") is None
    assert train.run(config, tmp_path / "parts").weights == first.weights
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_an_epoch_that_a_callback_cut_short_is_completed(tiny_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "STEPS_PER_EXECUTION", 3)

    class StopsAt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = int(keras.ops.convert_to_numpy(self.model.steps)) == 15

    fields = {"record_every": 1, "epochs": 3, "evaluate_every": 0}
    train.run(config_of(tiny_npz, **fields), tmp_path / "whole")
    config = config_of(tiny_npz, **{**fields, "epochs": 4})
    part = train.run(config_of(tiny_npz, **fields), tmp_path / "parts", callbacks=[StopsAt()])
    assert part.monitor["epoch"] == 3
    assert read_dynamics(tmp_path / "parts").step.tolist() == [0, 6, 12, 15]
    seconds, rates = np.loadtxt(tmp_path / "parts" / "timing.csv", delimiter=",", skiprows=1)[:, 1:].T
    np.testing.assert_allclose(seconds * rates, [96, 96, 48], rtol=0.1)
    train.run(config, tmp_path / "parts")
    assert read_eigenspaces(tmp_path / "parts").epoch.tolist() == [0, 1, 2, 3, 4]
    log, whole = ((tmp_path / name / "log.csv").read_text().splitlines() for name in ("parts", "whole"))
    assert log[:4] == whole
    assert len(log) == 5


@pytest.mark.parametrize(("what", "there"), [("precision", "mixed_bfloat16"), ("backend", "theano")])
def test_a_finished_run_in_other_arithmetic_is_another_run(what, there, tiny_npz, tmp_path):
    config = config_of(tiny_npz, epochs=1)
    found = train.run(config, tmp_path)
    write_json(tmp_path / RESULT, {**asdict(found), "environment": {**found.environment, what: there}})
    with pytest.raises(InputError, match=f"{what} {there} there, .* here.; resume it with"):
        train.run(config, tmp_path)


def test_given_images_must_fill_a_batch(tmp_path):
    images = np.zeros((12, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="batch_size 16 is larger than the 12 training images"):
        train.run(Config(batch_size=16, epochs=1, width=2), tmp_path / "new", data=Dataset("few", images))
    assert not (tmp_path / "new").exists()
