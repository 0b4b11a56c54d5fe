"""A run that is stopped and started again ends as one that was not, to the last bit."""

import dataclasses
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from selfsup import collapse
from selfsup.backend.devices import resolve_precision
from selfsup.collapse import Collapsed
from selfsup.commands import run as command
from selfsup.config import Config
from selfsup.data.load import load_dataset
from selfsup.records import checkpoints
from selfsup.records.dynamics import read_dynamics
from selfsup.records.recordings import read_eigenspaces
from selfsup.records.results import RESULT, read_result
from selfsup.records.workdir import CURVES_FIGURE, EIGENSPACE_FIGURE, ENCODER
from selfsup.training import pretrain
from selfsup.training import run as train
from selfsup.training.components import Components
from selfsup.training.resume import Checkpointer
from selfsup.training.stop import StopOnCollapse
from selfsup.utils.errors import InputError


class StoppedError(Exception):
    pass


def config_of(tiny_npz, **changed):
    fields = {
        "width": 4, "epochs": 3, "probe_epochs": 2, "batch_size": 8, "precision": "float32",
        "dataset": str(tiny_npz), "record_every": 1, "probe_untrained": True,
    }  # fmt: skip
    return Config(**{**fields, **changed})


def stop_at(monkeypatch, saves):
    """Ends the run after so many checkpoints."""
    save, left = checkpoints.save, [saves]

    def counted(*args):
        save(*args)
        left[0] -= 1
        if not left[0]:
            raise StoppedError

    monkeypatch.setattr(checkpoints, "save", counted)
    return lambda: monkeypatch.setattr(checkpoints, "save", save)


def test_stopped_within_and_after_an_epoch_it_ends_the_same(tiny_npz, tmp_path, shallow, monkeypatch, capsys):
    config = config_of(tiny_npz)
    whole = train.run(config, tmp_path / "whole")
    assert [path.stem[-3:] for path in checkpoints.found(tmp_path / "whole")] == ["036"]
    for saves in (1, 1, 2):  # in the middle of epoch 1, at its end, at the end of epoch 2
        undo = stop_at(monkeypatch, saves)
        with pytest.raises(StoppedError):
            train.run(config, tmp_path / "parts", checkpoint_minutes=0)
        undo()
    resumed = train.run(config, tmp_path / "parts", checkpoint_minutes=0)
    out = capsys.readouterr().out
    assert [f"resumed  after step {n} of 36" in out for n in (6, 12, 24)] == [True] * 3
    assert resumed.weights == whole.weights
    assert resumed.accuracy == whole.accuracy
    assert resumed.monitor == whole.monitor
    assert (tmp_path / "parts" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()
    for read in (read_eigenspaces, read_dynamics):
        ours, theirs = (read(tmp_path / name).arrays() for name in ("parts", "whole"))
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])
    assert read_dynamics(tmp_path / "parts").step.tolist() == [0, 12, 24, 30, 36]
    assert resumed.seconds["total"] == pytest.approx(
        sum(v for k, v in resumed.seconds.items() if k != "total"), abs=0.02
    )
    other = train.run(config_of(tiny_npz, seed=1), tmp_path / "other")
    assert other.weights != whole.weights
    assert (tmp_path / "other" / "log.csv").read_bytes() != (tmp_path / "whole" / "log.csv").read_bytes()


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tiny_npz, tmp_path, shallow, monkeypatch):
    executions = []

    class Diverging(Checkpointer):
        def on_train_batch_end(self, batch, logs=None):
            executions.append(batch)
            super().on_train_batch_end(batch, logs if len(executions) < 4 else {"loss": float("nan")})

    monkeypatch.setattr(pretrain, "Checkpointer", Diverging)
    config = config_of(tiny_npz)
    result = train.run(config, tmp_path, checkpoint_minutes=0)
    assert result.diverged
    assert read_result(tmp_path).diverged
    assert result.accuracy["linear"] is None
    assert [int(path.stem[-9:]) for path in checkpoints.found(tmp_path)] == [18, 12]


def test_weights_that_are_not_finite_are_not_saved(tiny_npz, tmp_path, shallow):
    assert train.run(config_of(tiny_npz, learning_rate=1e30), tmp_path, checkpoint_minutes=0).diverged
    assert checkpoints.found(tmp_path) == []


def test_checkpoints_of_other_code_are_refused(tiny_npz, tmp_path, shallow, monkeypatch):
    config = config_of(tiny_npz)
    identity = pretrain.identity_of(config, load_dataset(str(tiny_npz)), Components())
    checkpoints.save(tmp_path, identity, checkpoints.Checkpoint(6, {"model/000 old": np.ones(3)}))
    with pytest.raises(InputError, match="other variables"):
        train.run(config, tmp_path)
    undo = stop_at(monkeypatch, 1)
    with pytest.raises(StoppedError):
        train.run(config, tmp_path, overwrite=True)
    undo()
    saved = checkpoints.latest(tmp_path, identity)
    older = {name: array for name, array in saved.arrays.items() if not name.startswith("dynamics/")}
    checkpoints.save(tmp_path, identity, checkpoints.Checkpoint(saved.steps, older))
    with pytest.raises(InputError, match="resume with the same version of selfsup"):
        train.run(config, tmp_path)
    assert train.run(config, tmp_path, overwrite=True).accuracy["linear"] > 0


def test_training_goes_on_while_a_checkpoint_is_written(tiny_npz, tmp_path, shallow, monkeypatch):
    train.run(config_of(tiny_npz, epochs=1), tmp_path / "one")
    (path,) = checkpoints.found(tmp_path / "one")
    save, trained, saved = checkpoints.save, threading.Event(), []

    def slow(workdir, identity, checkpoint):
        assert trained.wait(timeout=60)
        saved.append(checkpoint)
        save(workdir, identity, checkpoint)

    class Training(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.steps) > 12:
                trained.set()

    monkeypatch.setattr(checkpoints, "save", slow)
    train.run(config_of(tiny_npz, epochs=2), tmp_path / "two", callbacks=[Training()])
    assert [checkpoint.steps for checkpoint in saved] == [12, 24]
    expected = checkpoints.read(path, {}).arrays
    for name in (name for name in expected if name.startswith("model/")):
        np.testing.assert_array_equal(saved[0].arrays[name], expected[name])
    assert checkpoints.found(tmp_path / "two")[0].stem.endswith("24")


class Counting(keras.callbacks.Callback):
    """A callback whose state has no arrays until it is told what to keep."""

    def __init__(self, kept=()):
        super().__init__()
        self.kept, self.restored = kept, None

    def state(self):
        return {name: np.ones(1) for name in self.kept}

    def restore(self, state):
        self.restored = dict(state)


def test_a_callback_may_have_an_empty_state(tiny_npz, tmp_path, shallow, monkeypatch):
    config = config_of(tiny_npz, width=2, epochs=1)
    undo = stop_at(monkeypatch, 1)
    with pytest.raises(StoppedError):
        train.run(config, tmp_path, checkpoint_minutes=0, callbacks=[Counting()])
    undo()
    with pytest.raises(InputError, match="other variables or callbacks"):
        train.run(config, tmp_path, callbacks=[Counting(["more"])])
    again = Counting()
    assert train.run(config, tmp_path, callbacks=[again]).accuracy["linear"] is not None
    assert again.restored == {}


@pytest.mark.parametrize(("what", "there"), [("precision", "mixed_bfloat16"), ("backend", "theano")])
def test_a_run_does_not_resume_in_other_arithmetic(what, there, tiny_npz, tmp_path, shallow):
    config = config_of(tiny_npz)
    identity = {**pretrain.identity_of(config, load_dataset(str(tiny_npz)), Components()), what: there}
    checkpoints.save(tmp_path, identity, checkpoints.Checkpoint(6, {}))
    with pytest.raises(InputError, match=f"{what} {there} there, .* here.; resume it with"):
        train.run(config, tmp_path)


def test_the_precision_of_auto_may_be_given_when_it_resumes(tiny_npz, tmp_path, shallow, monkeypatch):
    config = config_of(tiny_npz, width=2, epochs=2, precision="auto")
    whole = train.run(config, tmp_path / "whole")
    undo = stop_at(monkeypatch, 1)
    with pytest.raises(StoppedError):
        train.run(config, tmp_path / "parts")
    undo()
    same = dataclasses.replace(config, precision=resolve_precision("auto"))
    assert train.run(same, tmp_path / "parts").weights == whole.weights


def mean_square(p1, p2, t1, t2):
    return keras.ops.mean(keras.ops.square(p1 - t2) + keras.ops.square(p2 - t1))


def test_a_run_with_its_own_loss_does_not_resume_without_it(tiny_npz, tmp_path, shallow, monkeypatch):
    config = config_of(tiny_npz, width=2, epochs=2)
    undo = stop_at(monkeypatch, 1)
    with pytest.raises(StoppedError):
        train.run(config, tmp_path, loss=mean_square)
    undo()
    with pytest.raises(InputError, match=r"loss .*mean_square there, the default here"):
        train.run(config, tmp_path)
    assert train.run(config, tmp_path, loss=mean_square).accuracy["linear"] > 0


def with_dropout():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.AveragePooling2D(8)(inputs)
    x = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dropout(0.5, seed=3)(x))


def test_the_masks_of_dropout_continue(tiny_npz, tmp_path, monkeypatch):
    config = config_of(tiny_npz, epochs=2, method="simsiam")
    whole = train.run(config, tmp_path / "whole", backbone=with_dropout)
    undo = stop_at(monkeypatch, 1)
    with pytest.raises(StoppedError):
        train.run(config, tmp_path / "parts", backbone=with_dropout, checkpoint_minutes=0)
    undo()
    resumed = train.run(config, tmp_path / "parts", backbone=with_dropout)
    assert (resumed.accuracy, resumed.monitor) == (whole.accuracy, whole.monitor)  # names in `weights` differ


def test_the_state_of_a_callback_must_fit_into_a_checkpoint(tiny_npz, tmp_path, shallow):
    class Best(keras.callbacks.Callback):
        def state(self):
            return {"best": self.best}

        def restore(self, state): ...

    callback = Best()
    for callback.best in (None, [[1.0], [1.0, 2.0]]):
        with pytest.raises(
            InputError, match=r"callback 0 Best/best: state\(\) must return arrays of numbers"
        ):
            train.run(config_of(tiny_npz, width=2), tmp_path, callbacks=[callback])
    assert not checkpoints.found(tmp_path)


def test_a_backbone_of_bfloat16_resumes_and_ends_the_same(tiny_npz, tmp_path, monkeypatch):
    def backbone():
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(inputs))
        return keras.Model(inputs, keras.layers.Dense(8, dtype="bfloat16", name="features")(x), name="small")

    config = config_of(tiny_npz, epochs=2, method="simsiam")
    whole = train.run(config, tmp_path / "whole", backbone=backbone)
    undo = stop_at(monkeypatch, 1)
    with pytest.raises(StoppedError):
        train.run(config, tmp_path / "parts", backbone=backbone)
    undo()
    resumed = train.run(config, tmp_path / "parts", backbone=backbone)
    assert (resumed.accuracy, resumed.monitor) == (whole.accuracy, whole.monitor)


@pytest.fixture
def collapsing(monkeypatch):
    """Every run has collapsed by the end of its second epoch."""
    monkeypatch.setattr(collapse, "MIN_EPOCHS", 2)
    monkeypatch.setattr(collapse, "RANK", 129.0)


def test_a_collapsed_run_stops_and_continues_to_the_same_end(tiny_npz, tmp_path, shallow, collapsing, capsys):
    config = config_of(tiny_npz, width=2, epochs=4)
    whole = train.run(config, tmp_path / "whole")
    assert whole.collapsed
    workdir, runs = tmp_path / "parts", []

    class Epochs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            runs.append(epoch + 1)

    def stopped():
        with pytest.raises(Collapsed) as stop:
            train.run(config, workdir, callbacks=[Epochs()], stop_on_collapse=True)
        assert stop.value.epoch == 2
        assert 1 <= stop.value.rank < 129
        assert 0 <= stop.value.std <= 1
        assert [int(path.stem[-9:]) for path in checkpoints.found(workdir)] == [24, 12]
        assert read_result(workdir) is None
        assert not (workdir / ENCODER).exists()
        assert {EIGENSPACE_FIGURE, CURVES_FIGURE} <= {path.name for path in workdir.iterdir()}

    stopped()
    assert runs == [1, 2]
    stopped()  # before another epoch
    assert runs == [1, 2]
    resumed = train.run(config, workdir)
    assert "resumed  after step 24 of 48" in capsys.readouterr().out
    assert resumed.weights == whole.weights
    assert resumed.accuracy == whole.accuracy
    assert resumed.monitor == whole.monitor
    assert (workdir / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()
    assert train.run(config, workdir, stop_on_collapse=True).weights == whole.weights  # already finished


def test_a_finished_run_that_had_collapsed_keeps_its_result(tiny_npz, tmp_path, shallow, collapsing):
    config = config_of(tiny_npz, width=2, epochs=2)
    train.run(config, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Collapsed, match="after epoch 2"):
        train.run(dataclasses.replace(config, epochs=4), tmp_path, stop_on_collapse=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_diverged_run_is_not_called_collapsed(tiny_npz, tmp_path, shallow, monkeypatch):
    monkeypatch.setattr(collapse, "MIN_EPOCHS", 1)
    monkeypatch.setattr(collapse, "RANK", 129.0)
    config = config_of(tiny_npz, width=2, learning_rate=1e30)
    assert train.run(config, tmp_path, stop_on_collapse=True).diverged


def test_a_collapse_on_one_machine_stops_all(tmp_path):
    class Log:
        collapsed, row = False, {"epoch": 7.0, "effective_rank": 2.0, "embedding_std": 0.5}

    for largest, expected in ((1, pytest.raises(Collapsed, match="after epoch 7")), (0, nullcontext())):
        machines = SimpleNamespace(largest=lambda own, found=largest: (max(own, found),))
        with expected:
            StopOnCollapse(Log(), SimpleNamespace(machines=machines, diverged=False)).on_epoch_end(6)


def test_the_command_of_a_collapsed_run(tiny_npz, tmp_path, shallow, collapsing, capsys):
    workdir = tmp_path / "run"
    flags = ["--method=simsiam", "--width=2", "--epochs=3", "--probe_epochs=1", "--batch_size=16"]
    flags += ["--precision=float32", f"--dataset={tiny_npz}", f"--workdir={workdir}"]
    assert command.main(["run.py", *flags, "--stop_on_collapse"]) == 4
    *warning, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: collapsed after epoch 2: effective rank ")
    assert error.endswith(f"without --stop_on_collapse continues from the checkpoint in {workdir}")
    assert warning[0].startswith("warning: the representation has collapsed")
    assert any("--method=byol --ema" in line for line in warning)
    assert command.main(["run.py", *flags, "--stop_on_collapse", "--overwrite"]) == 4
    assert "the same command without --overwrite and --stop_on_collapse continues" in capsys.readouterr().err
    assert len(checkpoints.found(workdir)) == 2
    assert not (workdir / RESULT).exists()
    assert command.main(["run.py", *flags]) == 0
    out = capsys.readouterr().out
    assert "resumed  after step 12 of 18" in out
    assert out.index("COLLAPSED") < out.index("--method=byol --ema")
