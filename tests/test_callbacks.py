import errno
import os
import sys
import time

import keras
import numpy as np
import pytest

from selfsup.config import Config
from selfsup.records.recordings import read_eigenspaces, read_log
from selfsup.training.callbacks import EigenspaceLog, EpochLog, TensorBoardLog
from selfsup.utils.errors import InputError


class Stub(keras.Model):
    """What the logs read of a model."""

    correlation = np.diag([1.0, 2.0, 3.0, 4.0])

    def predictor_weight(self):
        return np.eye(4)


def epoch_log(tmp_path):
    log = EpochLog(tmp_path, Config(batch_size=100))
    log.set_model(Stub())
    log.on_train_begin()
    return log


def end(log, epoch, loss=-1.0, std=0.8, rank=4.0):
    log.on_epoch_begin(epoch)
    log.on_train_batch_end(0)
    log.on_epoch_end(epoch, {"loss": loss, "embedding_std": std, "effective_rank": rank})


def test_collapse_is_warned_of_once_and_not_before_five_epochs(tmp_path, capsys):
    log = epoch_log(tmp_path)
    for epoch in range(6):
        end(log, epoch, rank=1.5)
        assert log.collapsed == (epoch >= 4)
    warning, *advice = capsys.readouterr().err.splitlines()
    assert "collapsed: effective rank 1.50, embedding std 0.80" in warning
    assert not any("collapsed" in line for line in advice)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7


def test_healthy_run_is_not_warned_of(tmp_path, capsys):
    log = epoch_log(tmp_path)
    for epoch in range(6):
        end(log, epoch)
    assert not log.collapsed
    assert log.row["effective_rank"] == 4
    assert capsys.readouterr().err == ""


def test_a_log_continues_from_its_state(tmp_path):
    whole = epoch_log(tmp_path)
    end(whole, 0, loss=-1 / 3)
    state = whole.state()
    end(whole, 1, rank=1.25)
    expected = (tmp_path / "log.csv").read_bytes()
    log = EpochLog(tmp_path, Config(batch_size=100))
    log.set_model(Stub())
    log.restore(state)
    log.on_train_begin()
    assert expected.startswith((tmp_path / "log.csv").read_bytes())
    end(log, 1, rank=1.25)
    assert (tmp_path / "log.csv").read_bytes() == expected


def test_a_full_disk_is_warned_of(tmp_path, capsys, monkeypatch):
    log = epoch_log(tmp_path)
    before = (tmp_path / "log.csv").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    end(log, 0)
    assert "No space left" in capsys.readouterr().err
    assert (tmp_path / "log.csv").read_bytes() == before
    monkeypatch.undo()
    end(log, 1)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def record(tmp_path, epochs, every):
    log = EigenspaceLog(tmp_path, every, epochs)
    log.set_model(Stub())
    log.on_train_begin()
    for epoch in range(epochs):
        log.on_epoch_end(epoch)
    return log


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [(12, 5, [0, 1, 6, 11, 12]), (11, 5, [0, 1, 6, 11]), (3, 1, [0, 1, 2, 3]), (1, 5, [0, 1])],
)
def test_eigenspaces_are_recorded_untrained_first_every_few_and_last(tmp_path, epochs, every, expected):
    record(tmp_path, epochs, every)
    found = read_eigenspaces(tmp_path)
    assert found.epoch.tolist() == expected
    np.testing.assert_allclose(found.correlation_eigenvalues[-1], [1, 2, 3, 4], rtol=1e-6)


def test_a_new_training_starts_a_new_recording(tmp_path):
    record(tmp_path, 6, 1)
    record(tmp_path, 2, 1)
    assert read_eigenspaces(tmp_path).epoch.tolist() == [0, 1, 2]


def test_tensorboard_has_the_same_scalars(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tensor_util = pytest.importorskip("tensorboard.util.tensor_util")
    log = epoch_log(tmp_path)
    eigenspaces = record(tmp_path, 1, 5)
    board = TensorBoardLog(tmp_path, log, eigenspaces)
    board.on_train_begin()
    end(log, 0, loss=-1.5, rank=3.0)
    board.on_epoch_end(0)
    board.on_train_end()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    def last(name):
        event = events.Tensors(name)[-1]
        return event.step, float(tensor_util.make_ndarray(event.tensor_proto))

    assert last("training/loss") == (1, -1.5)
    assert last("training/effective_rank") == (1, 3.0)
    assert last("eigenspace/F/largest_eigenvalue") == (1, 4.0)
    assert last("eigenspace/alignment/mean") == (1, pytest.approx(1.0))
    assert last("eigenspace/W_p/asymmetry") == (1, 0.0)


def test_tensorboard_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path, epoch_log(tmp_path), record(tmp_path, 1, 1))


def test_the_time_of_an_epoch_is_that_of_its_steps_and_counts_once(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def epoch(log, index, steps, pause):
        log.on_epoch_begin(index)
        now[0] += steps
        log.on_train_batch_end(0)
        now[0] += pause
        log.on_epoch_end(index, {"loss": -1.0, "embedding_std": 0.8, "effective_rank": 4.0})

    log = epoch_log(tmp_path)
    epoch(log, 0, steps=2.0, pause=7.0)
    now[0] += 6.0  # of other callbacks
    state = log.state()
    now[0] += 5.0
    resumed = epoch_log(tmp_path)
    now[0] += 3.0
    resumed.restore(state)
    epoch(resumed, 1, steps=4.0, pause=1.0)
    rows = (tmp_path / "timing.csv").read_text().splitlines()
    assert rows == ["epoch,seconds,images_per_second", "1,2.000,50.0", "2,4.000,25.0"]


def test_other_recording_settings_keep_what_was_recorded(tmp_path):
    log, spaces = epoch_log(tmp_path), EigenspaceLog(tmp_path, every=1, epochs=9)
    spaces.set_model(Stub())
    spaces.on_train_begin()
    for epoch in range(3):
        log.on_epoch_begin(epoch)
        log.on_train_batch_end(0)
        log.on_epoch_end(epoch, {"loss": -1.0, "embedding_std": 0.8, "effective_rank": 4.0, "knn": 50.0})
        spaces.on_epoch_end(epoch)
    rarer = EpochLog(tmp_path, Config(batch_size=100), evaluated=lambda epoch: False)
    rarer.restore(log.state())
    rarer.on_train_begin()
    np.testing.assert_array_equal(read_log(tmp_path)["knn"], [50, 50, 50])
    fewer = EigenspaceLog(tmp_path, every=9, epochs=9)
    fewer.restore(spaces.state())
    assert fewer.recorded.epoch.tolist() == [0, 1, 2, 3]
    ended, longer = EigenspaceLog(tmp_path, every=9, epochs=3), EigenspaceLog(tmp_path, every=9, epochs=9)
    ended.restore(spaces.state())
    longer.restore(ended.state())
    assert longer.recorded.epoch.tolist() == [0, 1, 2]
