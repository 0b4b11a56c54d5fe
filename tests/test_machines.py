"""Two machines, as two processes on the loopback interface, that make one run with one set of records."""

import json
import signal
import time
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from test_parallel import RUN, STEPS, assert_same, finish, start
from test_rendezvous import free_port

from selfsup.backend import machines
from selfsup.backend.machines import Machines
from selfsup.records import checkpoints
from selfsup.records.results import read_result
from selfsup.utils.errors import InputError

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")


def both(script, *arguments, own=((), ())):
    """Starts the script on two machines; `own` holds the extra arguments of each."""
    address = f"127.0.0.1:{free_port()}"
    if script == "shallow_run.py":
        where = [(f"--machine={i}/2", f"--coordinator={address}") for i in (1, 2)]
    else:
        where = [(f"{i}/2", address) for i in (1, 2)]
    return [start(script, *arguments, *w, *o, backend="jax") for w, o in zip(where, own, strict=True)]


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Where the steps of one process are, on one and on two devices."""
    target = tmp_path_factory.mktemp("taken") / "steps"
    finish(start("device_steps.py", STEPS["byol"], target, backend="jax"))
    return target


def steps(target, where):
    return dict(np.load(f"{target}-{where}.npz"))


@needs_jax
def test_two_devices_take_the_steps_of_one(taken):
    assert_same(steps(taken, 2), steps(taken, 1), 1e-5)


@needs_jax
def test_two_machines_take_the_steps_of_one(taken):
    for process in both("device_steps.py", STEPS["byol"], taken):
        finish(process)
    assert_same(steps(taken, "machines"), steps(taken, 1), 1e-5)


@needs_jax
@pytest.mark.reliability
def test_a_run_on_two_machines_stops_on_both_and_resumes(tiny_npz, tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    command = ("shallow_run.py", 1, f"--dataset={tiny_npz}", *RUN)
    own = [(f"--workdir={folder}",) for folder in folders]
    first, second = both(*command, own=own)
    while not (folders[0].is_dir() and checkpoints.found(folders[0])) and first.poll() is None:
        time.sleep(0.05)
    second.send_signal(signal.SIGTERM)
    error = [process.communicate(timeout=600)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (143, 143), error
    first, second = both(*command, own=own)
    said, unsaid = finish(first), finish(second)
    assert "resumed  after step" in said
    assert "2 machines" in said
    assert "records and encoder in" in said
    assert "epoch" not in unsaid
    assert not folders[1].exists()
    assert read_result(folders[0]).accuracy["linear"] > 50
    for process in both(*command, own=own):  # the run is finished: both only read its result
        finish(process)


@needs_jax
@pytest.mark.reliability
def test_a_collapse_stops_both_machines(tmp_path):
    black = np.zeros((32, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "black.npz", x_train=black, x_test=black)
    flags = (f"--dataset={tmp_path / 'black.npz'}", "--width=2", "--batch_size=16", "--epochs=7")
    own = [(f"--workdir={tmp_path / name}", "--stop_on_collapse") for name in ("first", "second")]
    for _ in range(2):  # after the fifth epoch, and then before any other
        processes = both("shallow_run.py", 1, *flags, "--precision=float32", own=own)
        errors = [process.communicate(timeout=600)[1] for process in processes]
        assert [process.returncode for process in processes] == [4, 4], errors
        assert all("collapsed after epoch 5" in error for error in errors)
    assert checkpoints.found(tmp_path / "first")
    assert not (tmp_path / "second").exists()


@needs_jax
@pytest.mark.reliability
def test_machines_that_differ_are_refused(tiny_npz, tmp_path):
    command = ("shallow_run.py", 1, f"--dataset={tiny_npz}", f"--workdir={tmp_path / 'run'}", *RUN)
    for own, message in (
        (((), ("--seed=1",)), "seed of machine 2 differs from machine 1's"),
        (((), ("--dataset=nowhere.npz",)), "no file nowhere.npz"),
    ):
        for process in both(*command, own=own):
            error = process.communicate(timeout=600)[1]
            assert process.returncode == 2, error
            assert message in error
            assert "Traceback" not in error
        assert not (tmp_path / "run").exists()


def test_invalid_machines_get_one_line(monkeypatch):
    with pytest.raises(InputError, match="give --machine=I/N"):
        Machines.connect(coordinator="node1:29500")
    with pytest.raises(InputError, match="machine must be I/N"):
        Machines.connect("3/2")
    if keras.backend.backend() == "jax":
        with pytest.raises(InputError, match="coordinator must be HOST:PORT"):
            Machines.connect("1/2")
        return
    with pytest.raises(InputError, match="several machines needs JAX"):
        Machines.connect("1/2", "node1:29500")
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}))
    with pytest.raises(InputError, match="without TF_CONFIG"):
        Machines.connect()


def test_a_single_machine(tmp_path):
    machines = Machines.connect("1/1")
    assert machines.largest(3, 0) == (3, 0)
    assert machines.together(lambda: 5) == 5
    machines.share(tmp_path, ["nothing"])
    machines.check_same({"seed": 1})
    with machines.own_folder(tmp_path) as folder:
        assert folder == tmp_path


@pytest.mark.parametrize("size", [0, 1, 99, 100, 250])
def test_files_are_sent_in_pieces(size, monkeypatch):
    utils = pytest.importorskip("jax.experimental.multihost_utils")
    monkeypatch.setattr(machines, "_PIECE_BYTES", 100)
    sent = []
    monkeypatch.setattr(utils, "broadcast_one_to_all", lambda value: sent.append(value) or value)
    content = np.random.default_rng(0).bytes(size)
    assert Machines(0, 2)._from_first(content) == content
    assert all(value.nbytes <= 100 for value in sent)


@pytest.mark.parametrize(
    ("error", "text"), [(InputError("no data"), "no data"), (MemoryError(), "MemoryError")]
)
def test_any_failure_of_a_machine_reaches_all(error, text, monkeypatch):
    """Both machines, one after the other; the second hears what the first said."""
    said = []
    monkeypatch.setattr(
        Machines, "_texts", lambda self, text: said.append(text) or [said[0], text][: self.count]
    )

    def fail():
        raise error

    with pytest.raises(type(error)):
        Machines(0, 2).together(fail)
    with pytest.raises(InputError, match=f"machine 1: {text}"):
        Machines(1, 2).together(lambda: 5)
