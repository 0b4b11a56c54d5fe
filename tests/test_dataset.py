import hashlib

import numpy as np
import pytest

from selfsup.data import dataset
from selfsup.data.dataset import Dataset, chunks
from selfsup.utils.errors import InputError


def parts(rng, **changes):
    found = {
        "x_train": rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    }
    return {**found, **changes}


def test_mean_and_std_are_of_all_images_trained_on(rng):
    given = parts(rng)
    extra = rng.integers(100, 256, (30, 8, 8, 3), dtype=np.uint8)
    for data, images in (
        (Dataset("mine", **given), given["x_train"]),
        (Dataset("mine", **given, x_extra=extra), np.concatenate([given["x_train"], extra])),
        (Dataset("mine", extra), extra),
    ):
        pixels = (images / 255).reshape(-1, 3)
        assert data.mean == tuple(pixels.mean(0).round(4))
        assert data.std == tuple(pixels.std(0).round(4))
        assert data.training_images == len(images)
    assert Dataset("black", np.zeros((2, 8, 8, 3), np.uint8)).std == (1.0, 1.0, 1.0)


def test_fingerprint_is_the_sha256_of_all_bytes(rng):
    given = parts(rng)
    joined = b"".join(np.ascontiguousarray(array).tobytes() for array in given.values())
    data = Dataset("mine", **given)
    assert data.fingerprint == hashlib.sha256(joined).hexdigest()[:16]
    assert Dataset("mine", **{**given, "y_train": given["y_train"].astype(np.uint8)}).fingerprint == (
        data.fingerprint
    )
    fingerprints = {
        data.fingerprint,
        Dataset("mine", **{**given, "y_test": given["y_test"][::-1].copy()}).fingerprint,
        Dataset("mine", **given, x_extra=given["x_train"]).fingerprint,
        Dataset("mine", given["x_train"]).fingerprint,
        Dataset("mine", given["x_train"], x_extra=given["x_train"]).fingerprint,
        Dataset("mine", np.concatenate([given["x_train"]] * 2)).fingerprint,
    }
    assert len(fingerprints) == 6


def test_memory_mapped_images_count_as_those_in_memory(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "CHUNK", 1000)  # of images of 192 bytes
    given = parts(rng)
    assert [len(chunk) for chunk in chunks(given["x_train"])] == [5, 5, 2]
    np.save(tmp_path / "x.npy", given["x_train"])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    theirs, ours = Dataset("mine", **given), Dataset("mine", **{**given, "x_train": mapped})
    assert isinstance(ours.x_train, np.memmap)
    assert ours.describe() == theirs.describe()


def test_description(rng):
    found = Dataset("mine", **parts(rng), note="cropped").describe()
    assert list(found) == [
        "name", "train", "test", "image_size", "classes", "mean", "std", "fingerprint", "note",
    ]  # fmt: skip
    assert (found["train"], found["test"], found["image_size"], found["classes"]) == (12, 6, 8, 3)
    extra = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    found = Dataset("mine", **parts(rng), class_names=("a", "b", "c"), x_extra=extra).describe()
    assert found["unlabelled"] == 5
    assert found["class_names"] == ["a", "b", "c"]
    found = Dataset("mine", extra).describe()
    assert (found["train"], found["test"], found["classes"]) == (5, 0, 0)
    labels = np.arange(101)
    images = np.zeros((101, 8, 8, 3), np.uint8)
    many = Dataset("mine", images, labels, images, labels, class_names=tuple(map(str, labels)))
    assert "class_names" not in many.describe()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"y_train": None}, "no y_train"),
        ({"x_test": None, "y_test": None}, "no x_test and no y_test"),
        ({"x_train": np.zeros((12, 8, 8, 3), np.float32)}, r"x_train .* float32 \[12, 8, 8, 3\]"),
        ({"x_train": np.zeros((12, 8, 9, 3), np.uint8)}, "square"),
        ({"x_train": np.zeros((12, 3, 8, 8), np.uint8)}, "x_train"),
        ({"x_train": np.zeros((0, 8, 8, 3), np.uint8)}, "x_train"),
        ({"x_train": [[1]]}, "not list"),
        ({"x_test": np.zeros((6, 9, 9, 3), np.uint8)}, "x_test must have images of"),
        ({"x_extra": np.zeros((6, 9, 9, 3), np.uint8)}, "x_extra must have images of"),
        ({"x_extra": np.zeros((6, 8, 8, 3))}, "x_extra must be square images"),
        ({"y_train": np.zeros(12)}, "whole numbers"),
        ({"y_train": [0, 1, 2] * 4}, "whole numbers"),
        ({"y_train": np.zeros(11, int)}, r"y_train .* 12 images, not int64 \[11\]"),
        ({"y_train": np.zeros(12, int)}, "two classes"),
        ({"y_train": np.arange(12) % 3 * 10**12}, "without a gap"),
        ({"y_test": np.array([0, 1, 2, 3, 0, 1])}, "y_test has classes"),
        ({"class_names": ("a", "b")}, "2 class names for 3 classes"),
    ],
)
def test_what_is_no_dataset_is_refused_in_one_line(rng, changes, named):
    with pytest.raises(InputError, match=named) as error:
        Dataset("mine", **parts(rng, **changes))
    assert "\n" not in str(error.value)
    assert "dataset mine" in str(error.value)
