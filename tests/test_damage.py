"""Files damaged at random and awkward inputs: one clear error, or the right values.

`python -m pytest -m reliability` prints what it tried; RELIABILITY_SEED repeats what it drew.
"""

import itertools
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import fake_result, write_fake_run
from PIL import Image

from damage import SEED, damage
from selfsup.analysis.encoder import load_encoder
from selfsup.data.load import load_dataset
from selfsup.records import checkpoints
from selfsup.records.dynamics import DYNAMICS, Dynamics, read_dynamics
from selfsup.records.evaluations import EVALUATION, Evaluations, Key, Measurement
from selfsup.records.recordings import EIGENSPACES, LOG, read_eigenspaces, read_log
from selfsup.records.results import RESULT, read_result, write_json
from selfsup.records.workdir import CONFIG, ENCODER, check_workdir
from selfsup.reproduction.grid import FAILURE, failure_of
from selfsup.reproduction.registry import make_config
from selfsup.utils.errors import InputError

pytestmark = pytest.mark.reliability


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


def one_clear_error(path: Path, read: Callable = lambda path: load_dataset(str(path))) -> bool:
    """Whether reading fails with one line that names the path; other exceptions are not caught."""
    try:
        read(path)
    except InputError as error:
        text = str(error)
    else:
        return False
    assert "\n" not in text
    assert str(path) in text
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


def small_run(folder: Path) -> Path:
    """The records of a finished run that never ran, and a small encoder."""
    import keras

    from selfsup.analysis.encoder import export_encoder

    shutil.rmtree(folder, ignore_errors=True)
    write_fake_run(folder, fake_result("byol", 70.0))
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
    export_encoder(keras.Model(inputs, outputs), folder / ENCODER, (0.5,) * 3, (0.2,) * 3, 8)
    z = np.diag([0.1, 0.2, 0.3, 0.4])
    Dynamics.measure(1, z, z, [dict.fromkeys(("z1", "z2", "t1", "t2"), z)], None).write(folder)
    key = Key("knn", 0.1, 10, {"k": 5}, "ffff", "cafe", "jax")
    Evaluations(folder / EVALUATION, {}).add([Measurement(key, 0, 70.0, 1.0)], {"fingerprint": "ffff"})
    write_json(folder / FAILURE, {"reason": "out of memory"})
    return folder


def failure_without_result(run: Path) -> str | None:
    (run / RESULT).unlink(missing_ok=True)
    return failure_of(run, read_result(run))


RECORDS = {
    RESULT: read_result,
    CONFIG: lambda run: check_workdir(run, make_config("paper", "byol")),
    LOG: read_log,
    EIGENSPACES: read_eigenspaces,
    ENCODER: load_encoder,
    DYNAMICS: read_dynamics,
    EVALUATION: lambda run: Evaluations(run / EVALUATION, {}),
    FAILURE: failure_without_result,
}
"""The records of a run, and what reads them."""


@pytest.mark.parametrize("name", RECORDS)
def test_damaged_records_give_one_clear_error(name, tmp_path, record_property):
    rng = random.Random(f"{SEED} {name}")
    whole, run = small_run(tmp_path / "whole"), tmp_path / "run"
    RECORDS[name](whole)
    tried, harmless = Counter(), 0
    while sum(tried.values()) + harmless < 12:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        if not (kind := damage(run / name, rng)):
            continue
        if one_clear_error(run, RECORDS[name]):
            tried[kind] += 1
        else:  # a digit that changed, or a file cut between two rows
            harmless += 1
    record_property(f"damaged {name}", json.dumps({"seed": SEED, **tried, "harmless": harmless}))


COLOURS = np.arange(8)[:, None] * np.array([13, 7, 3]) + 5
"""One colour for each of eight images, below 128."""
FORMS = {
    "NHWC": (lambda x: x, "colour"),
    "NHW": (lambda x: x[..., 0], "grey"),
    "NHW1": (lambda x: x[..., :1], "grey"),
    "NCHW": (lambda x: x.transpose(0, 3, 1, 2), "colour"),
    "N1HW": (lambda x: x.transpose(0, 3, 1, 2)[:, :1], "grey"),
    "CHWN": (lambda x: x.transpose(3, 1, 2, 0), None),
    "wide": (lambda x: np.concatenate([x, x], 2), "colour"),
    "small": (lambda x: x[:, :6, :6], "colour"),
    "flat": (lambda x: x.reshape(8, -1), None),
    "one image": (lambda x: x[0], None),
    "no image": (lambda x: x[:0], None),
    "no height": (lambda x: x[:, :0], None),
    "five channels": (lambda x: np.concatenate([x, x[..., :2]], 3), None),
}
"""Shapes of images, and whether they can be used: in colour, in grey (the first channel), or not."""
TYPES = {
    "uint8": (lambda x: x.astype(np.uint8), True),
    "int8": (lambda x: x.astype(np.int8), True),
    "big-endian": (lambda x: x.astype(">i4"), True),
    "int64": (lambda x: x.astype(np.int64), True),
    "uint16": (lambda x: (x * 257).astype(np.uint16), True),
    "float16 to 1": (lambda x: (x / 255).astype(np.float16), True),
    "float32 to 1": (lambda x: (x / 255).astype(np.float32), True),
    "float64 to 255": (lambda x: x.astype(np.float64), True),
    "normalised": (lambda x: (x - x.mean()) / x.std(), False),
    "not a number": (lambda x: np.where(x == x.max(), np.nan, x), False),
    "infinite": (lambda x: np.where(x == x.max(), np.inf, x), False),
    "negative": (lambda x: -x.astype(np.int32), False),
    "too large": (lambda x: x.astype(np.int64) * 10**6, False),
    "bool": (lambda x: x > 60, False),
    "complex": (lambda x: x.astype(np.complex64), False),
    "text": (lambda x: x.astype(str), False),
    "objects": (lambda x: x.astype(object), False),
}
"""Types and ranges of images, and whether they can be used."""


def test_awkward_images_are_right_or_refused(tmp_path, record_property):
    plain = np.broadcast_to(COLOURS[:, None, None, :], (8, 10, 10, 3))
    outcomes: Counter = Counter()
    for form, kind in itertools.product(FORMS, TYPES):
        (shaped, channels), (typed, usable) = FORMS[form], TYPES[kind]
        path = tmp_path / "images.npz"
        np.savez(path, x_train=shaped(typed(plain)))
        if channels is None or not usable:
            assert one_clear_error(path), (form, kind)
            outcomes["refused"] += 1
            continue
        found = load_dataset(str(path), image_size=10).x_train
        wanted = COLOURS if channels == "colour" else np.repeat(COLOURS[:, :1], 3, 1)
        wanted = np.broadcast_to(wanted[:, None, None], (8, 10, 10, 3))
        np.testing.assert_array_equal(found, wanted, f"{form}, {kind}")
        outcomes["right"] += 1
    assert sum(outcomes.values()) >= 60
    record_property("awkward images", json.dumps(outcomes))
