"""The speed of a training and the estimate of its time, whole and resumed."""

import re
import time

import pytest

from selfsup.training.progress import Progress

LOGS = {"loss": -1.0, "embedding_std": 0.8, "effective_rank": 5.0}


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def train(shown, clock, executions, steps=5, seconds=2.0):
    """Executions of `steps` steps each; the first compiles and takes a minute."""
    shown.on_train_begin()
    shown.on_epoch_begin(0)
    for index in range(executions):
        clock[0] += 60.0 if index == 0 else seconds
        shown.on_train_batch_begin(index * steps)
        shown.on_train_batch_end((index + 1) * steps - 1, LOGS)


def estimate(capsys):
    return re.findall("time     (.*)", capsys.readouterr().out)


def test_the_first_execution_does_not_count(clock, capsys):
    shown = Progress(epochs=10, steps=50, batch_size=16)
    train(shown, clock, 3)
    assert shown.images_per_second == pytest.approx(5 / 2 * 16)
    assert shown.pace.compile_seconds == pytest.approx(58.0)
    assert estimate(capsys) == ["about 3 min of training, estimated from the first 10 steps"]


def test_one_execution_alone_has_no_speed(clock, capsys):
    shown = Progress(epochs=1, steps=5, batch_size=16)
    train(shown, clock, 1)
    shown.on_epoch_end(0, LOGS)
    assert shown.images_per_second is None
    out = capsys.readouterr().out
    assert "images/s" not in out
    assert out.startswith("epoch 1/1")


def test_after_a_resume_the_estimate_tells_its_source(clock, capsys):
    first = Progress(epochs=10, steps=50, batch_size=16)
    train(first, clock, 2)
    estimate(capsys)
    second = Progress(epochs=10, steps=50, batch_size=16)
    second.restore(first.state())
    train(second, clock, 1)
    left = "about 3 min of training left, estimated from "
    assert estimate(capsys) == [left + "the steps before the interruption"]
    unmeasured = Progress(epochs=10, steps=50, batch_size=16)
    train(unmeasured, clock, 1)
    third = Progress(epochs=10, steps=50, batch_size=16)
    third.restore(unmeasured.state())
    train(third, clock, 2)
    assert estimate(capsys) == [left + "the next 10 steps"]


def test_pauses_between_epochs_do_not_count(clock):
    shown = Progress(epochs=10, steps=15, batch_size=16)
    train(shown, clock, 3)
    clock[0] += 500.0  # an evaluation
    shown.on_epoch_end(0, LOGS)
    clock[0] += 20.0
    shown.on_epoch_begin(1)
    clock[0] += 2.0
    shown.on_train_batch_begin(0)
    shown.on_train_batch_end(4, LOGS)
    assert shown.images_per_second == pytest.approx(5 / 2 * 16)
    assert shown.pace.compile_seconds == pytest.approx(58.0)
