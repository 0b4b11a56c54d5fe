import keras
import numpy as np
import pytest

from selfsup.callbacks import EpochLog, duration


class Stub(keras.Model):
    """What the log reads of a model."""

    def __init__(self, correlation):
        super().__init__()
        self.correlation = self.add_weight(shape=correlation.shape, trainable=False, name="correlation")
        self.correlation.assign(correlation)

    def predictor_weight(self):
        return np.eye(4)


def epoch_log(tmp_path, correlation):
    log = EpochLog(tmp_path, 100)
    log.set_model(Stub(correlation.astype(np.float32)))
    log.on_train_begin()
    return log


def end(log, epoch, loss=-1.0, std=0.8):
    log.on_epoch_begin(epoch)
    log.on_epoch_end(epoch, {"loss": loss, "embedding_std": std})


def test_collapse_is_warned_of_once_and_not_before_five_epochs(tmp_path, capsys):
    log = epoch_log(tmp_path, np.diag([1.0, 0.01, 0, 0]))
    for epoch in range(6):
        end(log, epoch)
        assert log.collapsed == (epoch >= 4)
    assert capsys.readouterr().err.count("collapsed") == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7


def test_healthy_run_is_not_warned_of(tmp_path, capsys):
    log = epoch_log(tmp_path, np.eye(4))
    for epoch in range(6):
        end(log, epoch)
    assert not log.collapsed
    assert log.row["effective_rank"] == pytest.approx(4)
    assert capsys.readouterr().err == ""


def test_divergence_stops_training(tmp_path):
    log = epoch_log(tmp_path, np.full((4, 4), np.nan))
    end(log, 0, loss=float("nan"))
    assert log.diverged
    assert log.model.stop_training


def test_duration():
    assert [duration(s) for s in (5, 600, 12_000)] == ["5 s", "10 min", "3 h 20 min"]
