import keras
import numpy as np

from selfsup.callbacks import EpochLog


class Stub(keras.Model):
    """What the log reads of a model."""

    def predictor_weight(self):
        return np.eye(4)


def epoch_log(tmp_path):
    log = EpochLog(tmp_path, 100)
    log.set_model(Stub())
    log.on_train_begin()
    return log


def end(log, epoch, loss=-1.0, std=0.8, rank=4.0):
    log.on_epoch_begin(epoch)
    log.on_epoch_end(epoch, {"loss": loss, "embedding_std": std, "effective_rank": rank})


def test_collapse_is_warned_of_once_and_not_before_five_epochs(tmp_path, capsys):
    log = epoch_log(tmp_path)
    for epoch in range(6):
        end(log, epoch, rank=1.5)
        assert log.collapsed == (epoch >= 4)
    assert capsys.readouterr().err.count("collapsed") == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7


def test_healthy_run_is_not_warned_of(tmp_path, capsys):
    log = epoch_log(tmp_path)
    for epoch in range(6):
        end(log, epoch)
    assert not log.collapsed
    assert log.row["effective_rank"] == 4
    assert capsys.readouterr().err == ""


def test_divergence_stops_training(tmp_path):
    log = epoch_log(tmp_path)
    end(log, 0, loss=float("nan"), rank=float("nan"))
    assert log.diverged
    assert log.model.stop_training
