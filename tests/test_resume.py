"""A run that is stopped and started again ends as one that was not, to the last bit."""

import keras
import numpy as np
import pytest

from selfsup.config import Config
from selfsup.data.load import load_dataset
from selfsup.records import checkpoints
from selfsup.records.dynamics import read_dynamics
from selfsup.records.recordings import read_eigenspaces
from selfsup.records.results import read_result
from selfsup.training import pretrain
from selfsup.training import run as train
from selfsup.training.resume import Checkpointer
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


def test_checkpoints_of_other_code_are_refused(tiny_npz, tmp_path, shallow):
    config = config_of(tiny_npz)
    identity = pretrain.identity_of(config, load_dataset(str(tiny_npz)))
    checkpoints.save(tmp_path, identity, checkpoints.Checkpoint(6, {"model/000 old": np.ones(3)}))
    with pytest.raises(InputError, match="other variables"):
        train.run(config, tmp_path)
    assert train.run(config, tmp_path, overwrite=True).accuracy["linear"] > 0


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
    identity = {**pretrain.identity_of(config, load_dataset(str(tiny_npz))), what: there}
    checkpoints.save(tmp_path, identity, checkpoints.Checkpoint(6, {}))
    with pytest.raises(InputError, match=f"{what} {there} there, .* here.; resume it with"):
        train.run(config, tmp_path)
