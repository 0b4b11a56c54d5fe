import errno
import os

import numpy as np
import pytest

from selfsup.records import checkpoints
from selfsup.records.checkpoints import Checkpoint
from selfsup.utils.errors import InputError

IDENTITY = {"config": "1234abcd", "seed": 0, "data": "ffff"}


def save(folder, steps, identity=IDENTITY):
    arrays = {"model/kernel": np.full((3, 4), steps, np.float32), "log/rows": np.arange(4.0)}
    return checkpoints.save(folder, identity, Checkpoint(steps, arrays))


def test_a_checkpoint_is_read_back_and_the_last_two_are_kept(tmp_path):
    for steps in (5, 10, 1000):
        save(tmp_path, steps)
    assert [p.name for p in checkpoints.found(tmp_path)] == [
        "checkpoint-000001000.ckpt", "checkpoint-000000010.ckpt",
    ]  # fmt: skip
    latest = checkpoints.latest(tmp_path, IDENTITY)
    assert latest.steps == 1000
    assert latest.arrays["model/kernel"].dtype == np.float32
    np.testing.assert_array_equal(latest.arrays["model/kernel"], 1000)


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.latest(tmp_path, IDENTITY) is None


def test_the_previous_checkpoint_replaces_a_damaged_one(tmp_path, capsys):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    newest.write_bytes(newest.read_bytes()[:-7])
    assert checkpoints.latest(tmp_path, IDENTITY).steps == 1
    warning = capsys.readouterr().err
    assert str(newest) in warning
    assert warning.count("\n") == 1


def test_checkpoints_of_later_steps_are_deleted(tmp_path):
    for steps in (10, 20, 15):
        save(tmp_path, steps)
    assert [path.stem[-2:] for path in checkpoints.found(tmp_path)] == ["15", "10"]


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    for steps in (1, 2):
        save(tmp_path, steps).write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 checkpoints .* --overwrite"):
        checkpoints.latest(tmp_path, IDENTITY)


def test_a_checkpoint_of_another_run_is_not_used(tmp_path):
    path = save(tmp_path, 3, {**IDENTITY, "seed": 1, "data": "0000"})
    with pytest.raises(InputError, match=r"seed 1 there, 0 here; data 0000 there, ffff here.*--overwrite"):
        checkpoints.read(path, IDENTITY)


def test_a_component_that_is_missing_here_counts_and_no_identity_is_any(tmp_path):
    path = save(tmp_path, 3, {**IDENTITY, "loss": "module.mine"})
    with pytest.raises(InputError, match=r"another run \(loss module.mine there, the default here\)"):
        checkpoints.read(path, IDENTITY)
    assert checkpoints.read(path, {}).identity["loss"] == "module.mine"


@pytest.mark.parametrize(
    ("what", "there", "advice"),
    [("backend", "jax", "KERAS_BACKEND=jax"), ("precision", "float32", "--precision=float32")],
)
def test_a_run_in_other_arithmetic_is_not_to_be_deleted(what, there, advice, tmp_path):
    identity = {**IDENTITY, "backend": "tensorflow", "precision": "mixed_bfloat16"}
    save(tmp_path, 3, {**identity, what: there})
    with pytest.raises(InputError, match=advice) as caught:
        checkpoints.latest(tmp_path, identity)
    assert "delete" not in str(caught.value)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_every_flipped_bit_and_lost_byte_is_detected(tmp_path):
    path = save(tmp_path, 3)
    content = path.read_bytes()
    places = range(len(content))
    flipped = (
        content[:i] + bytes([content[i] ^ 1 << bit]) + content[i + 1 :] for i in places for bit in range(8)
    )
    cut = (content[:length] for length in places)
    for changed in (*flipped, *cut):
        path.write_bytes(changed)
        with pytest.raises(checkpoints.DamagedError):
            checkpoints.read(path, IDENTITY)
