import errno
import os

import numpy as np
import pytest

from selfsup import checkpoints
from selfsup.checkpoints import Checkpoint
from selfsup.config import Config
from selfsup.errors import InputError

CONFIG = Config(width=8)


def save(folder, steps, config=CONFIG):
    arrays = {"model/kernel": np.full((3, 4), steps, np.float32), "log/rows": np.arange(4.0)}
    return checkpoints.save(folder, config, Checkpoint(steps, arrays))


def test_what_is_saved_comes_back_and_the_last_two_are_kept(tmp_path):
    for steps in (5, 10, 1000):
        save(tmp_path, steps)
    assert [p.name for p in checkpoints.found(tmp_path)] == [
        "checkpoint-000001000.ckpt", "checkpoint-000000010.ckpt",
    ]  # fmt: skip
    latest = checkpoints.latest(tmp_path, CONFIG)
    assert latest.steps == 1000
    assert latest.arrays["model/kernel"].dtype == np.float32
    np.testing.assert_array_equal(latest.arrays["model/kernel"], 1000)


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.latest(tmp_path, CONFIG) is None


def test_the_one_before_serves_where_the_newest_is_damaged(tmp_path, capsys):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    newest.write_bytes(newest.read_bytes()[:-7])
    assert checkpoints.latest(tmp_path, CONFIG).steps == 1
    warning = capsys.readouterr().err
    assert str(newest) in warning
    assert warning.count("\n") == 1


def test_damaged_ones_alone_are_an_error_that_says_what_to_do(tmp_path):
    for steps in (1, 2):
        save(tmp_path, steps).write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 checkpoints .* delete .* --overwrite"):
        checkpoints.latest(tmp_path, CONFIG)


def test_a_checkpoint_of_another_run_is_not_used(tmp_path):
    for config in (Config(width=16), Config(width=8, seed=1)):
        path = save(tmp_path, 3, config)
        with pytest.raises(checkpoints.DamagedError, match="another run"):
            checkpoints.read(path, CONFIG)


def test_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch):
    save(tmp_path, 1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
