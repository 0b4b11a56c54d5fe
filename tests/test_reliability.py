"""Runs killed at random: nothing is lost. See test_damage.py for inputs damaged at random.

`python -m pytest -m reliability` prints what it tried; RELIABILITY_SEED repeats what it drew.
"""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from damage import SEED, damage
from selfsup.records import checkpoints
from selfsup.records.recordings import read_eigenspaces
from selfsup.records.results import read_result

pytestmark = pytest.mark.reliability
ROOT = Path(__file__).resolve().parent.parent
FLAGS = (
    "--width=2", "--epochs=3", "--probe_epochs=40", "--batch_size=8", "--image_size=8", "--precision=float32",
)  # fmt: skip
STEPS = 36
DEATHS = {"first step": 3, "checkpoint": 4, "anytime": 3, "probe": 2, "records": 2}
"""Kills of each run; the moments in the order in which a run comes to them."""
RUNS = (
    ("tensorflow", "directpred"),
    ("jax", "directpred"),
    ("tensorflow", "byol"),
    ("tensorflow", "simsiam"),
)
"""Backends and methods: 45 deaths on TensorFlow, a third of that on JAX."""


class Nursery:
    """Runs of a method in one folder, each a process that may die (see victim.py)."""

    def __init__(self, folder: Path, data: Path, method: str, backend: str = "tensorflow") -> None:
        self.folder, self.flags = folder, [*FLAGS, f"--method={method}", f"--dataset={data}"]
        self.seconds = 10.0
        command = [sys.executable, str(Path(__file__).with_name("victim.py"))]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, **pipes, text=True, env=environment)
        assert self._process.stdout.readline().startswith("ready")

    def live(self, name: str, moment: str = "never", delay: float = 0.0, *more: str) -> int:
        """The exit status of one life; its output is kept in NAME.log."""
        flags = [*self.flags, f"--workdir={self.folder / name}", "--checkpoint_minutes=0", *more]
        log = str(self.folder / f"{name}.log")
        order = {"flags": flags, "moment": moment, "delay": delay, "log": log, "seconds": self.seconds}
        began = time.monotonic()
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())
        if name == "whole":
            self.seconds = time.monotonic() - began
        return status

    def output(self, name: str) -> str:
        """All that the lives in a folder have printed."""
        return (self.folder / f"{name}.log").read_text()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the pipes, which ends the process."""
        self._process.__exit__(*error)


def assert_same(run: Path, reference: Path) -> None:
    """The two runs agree to the last bit: weights, log, recordings, accuracies."""
    ours, theirs = read_result(run), read_result(reference)
    assert ours.weights == theirs.weights
    assert ours.accuracy == theirs.accuracy
    assert (run / "log.csv").read_bytes() == (reference / "log.csv").read_bytes()
    full = checkpoints.found(reference) if run.name == "full disk" else []  # no room for a checkpoint
    recorded = [read_eigenspaces(path).arrays() for path in (run, reference)]
    for name, array in recorded[0].items():
        np.testing.assert_array_equal(array, recorded[1][name])
    names = [{p.name for p in path.iterdir()} - {p.name for p in full} for path in (run, reference)]
    assert names[0] == names[1]


def kill_again_and_again(nursery: Nursery, rng: random.Random) -> Counter:
    """Kills one run after the other in one folder, with fresh ones where one was quicker; counts deaths."""
    folder, died = nursery.folder, Counter()
    assert nursery.live("whole") == 0, nursery.output("whole")
    assert "resumed" not in nursery.output("whole")
    whole_log = (folder / "whole" / "log.csv").read_text()
    for moment, wanted in DEATHS.items():
        survived = 0
        while died[moment] < wanted:
            status = nursery.live("killed", moment, rng.random() * 0.5**survived)
            if status == 0:
                survived += 1
                assert_same(folder / "killed", folder / "whole")
                shutil.rmtree(folder / "killed")
                continue
            assert status == -9, nursery.output("killed")
            died[moment] += 1
            if (folder / "killed" / "log.csv").exists():
                assert whole_log.startswith((folder / "killed" / "log.csv").read_text())
            found = checkpoints.found(folder / "killed") if (folder / "killed").exists() else []
            if moment == "checkpoint" and len(found) == 2 and not died["damaged checkpoint"]:
                damage(found[0], rng)
                died["damaged checkpoint"] += 1
    assert nursery.live("killed") == 0, nursery.output("killed")
    assert_same(folder / "killed", folder / "whole")
    assert "Traceback" not in nursery.output("killed")
    assert ("cannot be used" in nursery.output("killed")) == (died["damaged checkpoint"] > 0)
    for survived in itertools.count():
        if nursery.live("killed", "overwrite", rng.random() * 0.5**survived, "--overwrite") == -9:
            break
        assert_same(folder / "killed", folder / "whole")
    died["overwrite"] = 1
    assert nursery.live("killed") == 0, nursery.output("killed")
    assert_same(folder / "killed", folder / "whole")
    assert nursery.live("full disk", "full disk") == 0, nursery.output("full disk")
    assert "warning: cannot write the checkpoint of step" in nursery.output("full disk")
    for name in ("full output", "closed output"):
        assert nursery.live(name, name) == 0
        assert nursery.output(name) == ""
    for name in ("full disk", "full output", "closed output"):
        assert_same(folder / name, folder / "whole")
    return died


@pytest.mark.parametrize(("backend", "method"), RUNS)
def test_killed_runs_end_as_if_they_had_not_been(backend, method, tiny_npz, tmp_path, record_property):
    pytest.importorskip(backend)
    with Nursery(tmp_path, tiny_npz, method, backend) as nursery:
        died = kill_again_and_again(nursery, random.Random(f"{SEED} {method} {backend}"))
    assert died - Counter({"damaged checkpoint": 1}) == Counter({**DEATHS, "overwrite": 1})
    record_property(f"kills on {backend}, {method}", json.dumps({"seed": SEED, **died}))


def test_a_signal_ends_a_run_with_a_checkpoint(tiny_npz, tmp_path):
    with Nursery(tmp_path, tiny_npz, "directpred") as nursery:
        assert nursery.live("whole") == 0
        for name, status in {"SIGTERM": 143, "SIGINT": 130}.items():
            assert nursery.live(name, name) == status
            output = nursery.output(name)
            assert "stopping after this step" in output
            assert "the same command resumes" in output
            (newest, *_) = checkpoints.found(tmp_path / name)
            steps = int(newest.stem.removeprefix("checkpoint-"))
            assert nursery.live(name) == 0
            assert f"resumed  after step {steps} of {STEPS}" in nursery.output(name)
            assert_same(tmp_path / name, tmp_path / "whole")


def test_a_signal_to_a_grid_reaches_its_run(tiny_npz, tmp_path):
    flags = ["--preset=quick", "--only=sgd", *FLAGS, f"--dataset={tiny_npz}", f"--out={tmp_path}"]
    flags += ["--epochs=12", "--width=2"]
    command, run = [sys.executable, "experiments/reproduce.py", *flags], tmp_path / "runs" / "sgd" / "0"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as grid:
        while not (run.exists() and checkpoints.found(run)):
            assert grid.poll() is None
            time.sleep(0.1)
        grid.terminate()
        assert "the same command resumes" in grid.communicate()[1]
    assert grid.returncode == 143
    assert "stopped by SIGTERM" in (run / "run.log").read_text()
    steps = int(checkpoints.found(run)[0].stem.removeprefix("checkpoint-"))
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert f"resumed  after step {steps} of 144" in (run / "run.log").read_text()
