"""Runs killed at random and inputs damaged at random: nothing is lost, nothing passes unnoticed.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfsup.data.load import load_dataset
from selfsup.records import checkpoints
from selfsup.records.recordings import read_eigenspaces
from selfsup.records.results import read_result
from selfsup.utils.errors import InputError

pytestmark = pytest.mark.reliability
ROOT = Path(__file__).resolve().parent.parent
SEED = int(os.environ.get("RELIABILITY_SEED", random.SystemRandom().randrange(10**6)))
FLAGS = ("--width=4", "--epochs=4", "--probe_epochs=150", "--batch_size=8", "--precision=float32")
METHODS = ("directpred", "byol", "simsiam")
DEATHS = {"first step": 2, "checkpoint": 3, "anytime": 3, "probe": 2}
"""Kills of each method's run; the moments in the order in which a run comes to them."""


class Nursery:
    """Runs of a method in one folder, each a process that may die (see victim.py)."""

    def __init__(self, folder: Path, data: Path, method: str) -> None:
        self.folder, self.flags = folder, [*FLAGS, f"--method={method}", f"--dataset={data}"]
        command = [sys.executable, str(Path(__file__).with_name("victim.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline().startswith("ready")

    def live(self, name: str, moment: str = "never", delay: float = 0.0) -> int:
        """The exit status of one life; its output is kept in NAME.log."""
        flags = [*self.flags, f"--workdir={self.folder / name}", "--checkpoint_minutes=0"]
        log = str(self.folder / f"{name}.log")
        order = {"flags": flags, "moment": moment, "delay": delay, "log": log}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

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
    recorded = [read_eigenspaces(path).arrays() for path in (run, reference)]
    for name, array in recorded[0].items():
        np.testing.assert_array_equal(array, recorded[1][name])
    assert sorted(p.name for p in run.iterdir()) == sorted(p.name for p in reference.iterdir())


def damage(path: Path, rng: random.Random) -> str:
    """Cuts, flips or empties a file; says how."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["cut", "flip", "empty", "zeros", "garbage"])
    if kind == "cut":
        content = content[: rng.randrange(1, len(content))]
    elif kind == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "empty":
        content = b""
    elif kind == "zeros":
        start = rng.randrange(len(content))
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    else:
        content = rng.randbytes(rng.randrange(1, 5000))
    changed = bytes(content) != path.read_bytes()
    path.write_bytes(content)
    return kind if changed else ""


def kill_again_and_again(folder: Path, data: Path, method: str) -> Counter:
    """Kills one run after the other in one folder, with fresh ones where one was quicker; counts deaths."""
    with Nursery(folder, data, method) as nursery:
        return _kill_again_and_again(nursery, random.Random(f"{SEED} {method}"))


def _kill_again_and_again(nursery: Nursery, rng: random.Random) -> Counter:
    folder, died = nursery.folder, Counter()
    assert nursery.live("whole") == 0, nursery.output("whole")
    assert "resumed" not in nursery.output("whole")
    whole_log = (folder / "whole" / "log.csv").read_text()
    for moment, wanted in DEATHS.items():
        while died[moment] < wanted:
            status = nursery.live("killed", moment, rng.random())
            if status == 0:
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
    assert ("cannot be used" in nursery.output("killed")) == (died["damaged checkpoint"] > 0)
    assert nursery.live("full disk", "full disk") == 0, nursery.output("full disk")
    assert "warning: cannot write the checkpoint of step" in nursery.output("full disk")
    assert_same(folder / "full disk", folder / "whole")
    return died


def test_killed_runs_end_as_if_they_had_not_been(tiny_npz, tmp_path, record_property):
    folders = [tmp_path / method for method in METHODS]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(kill_again_and_again, folders, itertools.repeat(tiny_npz), METHODS))
    deaths = {moment: sum(count[moment] for count in counts) for moment in DEATHS}
    damaged = sum(count["damaged checkpoint"] for count in counts)
    figures = {"seed": SEED, **deaths, "all": sum(deaths.values()), "damaged in between": damaged}
    record_property("kills", json.dumps(figures))
    assert all(deaths[moment] >= 5 for moment in DEATHS)
    assert sum(deaths.values()) >= 30


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
            assert f"resumed  after step {steps} of 48" in nursery.output(name)
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


def test_damaged_checkpoints_are_named_and_the_one_before_is_used(tmp_path, capsys, record_property):
    rng, identity = random.Random(SEED), {"config": "1234abcd", "seed": 0, "data": "ffff"}
    arrays = {"model/kernel": np.arange(3000.0), "log/rows": np.ones((3, 5))}
    tried = Counter()
    while sum(tried.values()) < 40:
        for steps in (1, 2):
            newest = checkpoints.save(tmp_path, identity, checkpoints.Checkpoint(steps, arrays))
        if kind := damage(newest, rng):
            tried[kind] += 1
            assert checkpoints.latest(tmp_path, identity).steps == 1, kind
            assert str(newest) in capsys.readouterr().err
            newest.unlink()
    record_property("damaged checkpoints", json.dumps({"seed": SEED, **tried}))


def whole_npz(path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 12), ("test", 6)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 3
    np.savez(path, **arrays)
    return path


def one_clear_error(dataset: Path) -> bool:
    """Whether loading fails with one line that names the data; other exceptions are not caught."""
    try:
        load_dataset(str(dataset))
    except InputError as error:
        text = str(error)
    else:
        return False
    assert "\n" not in text
    assert str(dataset) in text
    return True


def test_damaged_npz_files_give_one_clear_error(tmp_path, record_property):
    rng = random.Random(SEED)
    tried, harmless = Counter(), 0
    while sum(tried.values()) < 40:
        path = whole_npz(tmp_path / "data.npz")
        if not (kind := damage(path, rng)):
            continue
        if one_clear_error(path):
            tried[kind] += 1
        else:  # a byte that means nothing in a zip file: the arrays must be whole
            harmless += 1
            found, intact = load_dataset(str(path)), load_dataset(str(whole_npz(tmp_path / "intact.npz")))
            assert found.describe()["fingerprint"] == intact.describe()["fingerprint"]
    record_property("damaged npz", json.dumps({"seed": SEED, **tried, "harmless": harmless}))


def test_damaged_npy_files_give_one_clear_error(tmp_path, record_property):
    rng, folder = random.Random(SEED), tmp_path / "arrays"
    folder.mkdir()
    tried, harmless = Counter(), 0
    while sum(tried.values()) < 40:
        for key, array in np.load(whole_npz(tmp_path / "intact.npz")).items():
            np.save(folder / f"{key}.npy", array)
        if not (kind := damage(rng.choice(sorted(folder.iterdir())), rng)):
            continue
        if one_clear_error(folder):
            tried[kind] += 1
        else:  # a value that changed: .npy files have no checksum
            harmless += 1
            assert kind in ("flip", "zeros")
    record_property("damaged npy", json.dumps({"seed": SEED, **tried, "harmless": harmless}))


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_extra", "class_names", "note"])
def test_pickled_objects_are_refused_and_not_run(key, tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    arrays = {**np.load(whole_npz(tmp_path / "intact.npz")), key: np.array([Bomb()], object)}
    np.savez(tmp_path / "data.npz", **arrays)
    (tmp_path / "arrays").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "arrays" / f"{name}.npy", array)
    assert one_clear_error(tmp_path / "data.npz")
    assert one_clear_error(tmp_path / "arrays")
    assert not (tmp_path / "exploded").exists()


def whole_folder(root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(0)
    for split, name, index in itertools.product(("train", "test"), ("ant", "bee"), range(2)):
        path = root / split / name / f"{index}.{('png', 'jpg')[index]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return root


def test_damaged_folders_give_one_clear_error(tmp_path, record_property):
    rng, root = random.Random(SEED), tmp_path / "images"
    tried, harmless = Counter(), 0
    while sum(tried.values()) < 30:
        path = rng.choice(sorted(whole_folder(root).rglob("*.*")))
        if kind := damage(path, rng):
            if one_clear_error(root):
                tried[kind] += 1
            else:  # pixels that changed without breaking the file
                harmless += 1
    record_property("damaged images", json.dumps({"seed": SEED, **tried, "harmless": harmless}))


def replaced(root: Path, make: object) -> Path:
    path = whole_folder(root) / "train" / "ant" / "0.png"
    path.unlink()
    make(path)
    return root


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda p: p.symlink_to("nowhere.png"), lambda p: p.symlink_to(p)],
    ids=["pipe", "broken link", "link to itself"],
)
def test_what_is_no_image_file_is_named_and_never_waited_for(make, tmp_path):
    assert one_clear_error(replaced(tmp_path / "images", make))


def test_links_that_lead_out_of_a_folder_are_told(tmp_path):
    outside = tmp_path / "outside.png"
    Image.new("RGB", (32, 32)).save(outside)
    root = replaced(tmp_path / "images", lambda p: p.symlink_to(outside))
    assert "1 image behind links that lead out of the folder" in load_dataset(str(root)).note
    inside = replaced(tmp_path / "images", lambda p: p.symlink_to("1.jpg"))
    assert load_dataset(str(inside)).note == ""
    root = whole_folder(tmp_path / "images")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(root / "train" / "bee", tmp_path / "elsewhere" / "bee")
    (root / "train" / "bee").symlink_to(tmp_path / "elsewhere" / "bee")
    assert "2 images behind links" in load_dataset(str(root)).note
