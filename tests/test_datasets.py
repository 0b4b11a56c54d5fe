import itertools
import os

import numpy as np
import pytest
from PIL import Image

from selfsup.data import datasets, shapes
from selfsup.data.batches import batches
from selfsup.utils.errors import InputError


def arrays(**changes):
    found = {
        "x_train": np.zeros((6, 32, 32, 3), np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": np.ones((3, 32, 32, 3), np.uint8),
        "y_test": np.array([0, 1, 2]),
    }
    return {k: v for k, v in {**found, **changes}.items() if v is not None}


def save(path, **changes):
    np.savez(path, **arrays(**changes))
    return str(path)


def test_npz_in_the_layout_of_keras_datasets(tmp_path):
    name = save(tmp_path / "a.npz", y_train=np.array([[0], [1], [2], [0], [1], [2]], np.uint8))
    data = datasets.load_dataset(name)
    assert data.x_train.shape == (6, 32, 32, 3)
    assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.classes == 3
    assert data.note == ""


def test_other_sizes_and_grey_are_resized_with_a_note(tmp_path):
    grey = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)
    data = datasets.load_dataset(save(tmp_path / "a.npz", x_train=grey, x_test=grey[:3, ..., None]))
    assert data.x_train.shape == (6, 32, 32, 3)
    assert data.x_test.shape == (3, 32, 32, 3)
    assert "28x28" in data.note
    expected = np.asarray(Image.fromarray(grey[0]).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(data.x_train[0], expected)


def test_mean_and_std_are_of_the_training_images(tmp_path, rng):
    images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    data = datasets.load_dataset(save(tmp_path / "a.npz", x_train=images))
    np.testing.assert_allclose(data.mean, (images / 255).mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(data.std, (images / 255).reshape(-1, 3).std(0), atol=1e-4)
    assert datasets.load_dataset(save(tmp_path / "b.npz")).std == (1.0, 1.0, 1.0)


def test_fingerprint_is_of_every_byte(tmp_path):
    first = datasets.load_dataset(save(tmp_path / "a.npz")).describe()["fingerprint"]
    labels = np.array([0, 1, 2, 0, 2, 1])
    assert datasets.load_dataset(save(tmp_path / "b.npz", y_train=labels)).describe()["fingerprint"] != first


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"y_test": None}, "y_test"),
        ({"x_train": np.zeros((6, 32, 32, 3), np.float32)}, "x_train must be uint8"),
        ({"x_train": np.zeros((6, 32), np.uint8)}, "x_train must be uint8"),
        ({"x_test": np.zeros((3, 3, 32, 32), np.uint8)}, "x_test must be uint8"),
        ({"y_train": np.arange(5)}, "y_train"),
        ({"y_train": np.ones(6)}, "y_train must be whole numbers"),
        ({"y_train": np.zeros(6, int)}, "two classes"),
        ({"y_train": np.array([-1, 0, 1, 2, 0, 1])}, "from 0"),
        ({"y_test": np.array([0, 1, 9])}, "y_test has classes"),
        (
            {"x_test": np.zeros((0, 32, 32, 3), np.uint8), "y_test": np.zeros(0, int)},
            "must both contain images",
        ),
        ({"y_train": np.array([{}] * 6)}, "cannot be read"),
    ],
)
def test_wrong_npz_gets_one_line(tmp_path, changes, named):
    with pytest.raises(InputError, match=named) as error:
        datasets.load_dataset(save(tmp_path / "a.npz", **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -10])
def test_truncated_npz(tmp_path, keep):
    path = tmp_path / "a.npz"
    save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"a\.npz cannot be read"):
        datasets.load_dataset(str(path))


@pytest.mark.parametrize("name", ["missing.npz", "some/where/else", "./missing"])
def test_missing_paths(name):
    with pytest.raises(InputError, match="check"):
        datasets.load_dataset(name)


def test_batches_are_a_pure_function_of_seed_and_epoch():
    def epoch(seed, start):
        return [b[0].tolist() for b in itertools.islice(batches(10, 4, seed, start), 2)]

    assert epoch(0, 1) == epoch(0, 1) != epoch(0, 0)
    assert epoch(1, 0) != epoch(0, 0)
    two = [b[0].tolist() for b in itertools.islice(batches(10, 4, 0), 4)]
    assert two == epoch(0, 0) + epoch(0, 1)
    assert len({i for b in epoch(0, 0) for i in b}) == 8
    assert next(batches(10, 4, 0, epoch=1, position=1))[0].tolist() == epoch(0, 1)[1]
    with pytest.raises(ValueError, match="a batch of 4 cannot be drawn from 3 images"):
        next(batches(3, 4, 0))


def test_shapes_are_seeded_and_balanced():
    labels = np.arange(20) % 10
    a, b = (shapes.draw(labels, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, shapes.draw(labels, np.random.default_rng(1)))
    data = datasets.load_dataset("shapes")
    assert (data.x_train.shape, data.x_test.shape) == ((10_000, 32, 32, 3), (2_000, 32, 32, 3))
    assert np.bincount(data.y_train).tolist() == [1000] * 10
    assert np.bincount(data.y_test).tolist() == [200] * 10


def test_colours_of_shapes_do_not_reveal_the_class():
    labels = np.arange(4000) % 10
    images = shapes.draw(labels, np.random.default_rng(0)) / 255
    colours = np.array([images[labels == k].mean((0, 1, 2)) for k in range(10)])
    spread = images.mean((1, 2)).std(0) / np.sqrt(400)
    assert (np.abs(colours - colours.mean(0)) < 4 * spread).all()


def folder(root, splits=("train", "test"), classes=("ant", "bee"), size=(40, 36), count=2):
    rng = np.random.default_rng(0)
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
                image.save(root / split / name / f"{n}.{'png' if n % 2 else 'jpg'}")
    return root


def test_folder(tmp_path):
    root = folder(tmp_path)
    Image.new("L", (32, 32), 7).save(root / "train" / "bee" / "grey.png")
    (root / "train" / "bee" / "notes.txt").write_text("not an image")
    data = datasets.load_dataset(str(root))
    assert data.x_train.shape == (5, 32, 32, 3)
    assert data.y_train.tolist() == [0, 0, 1, 1, 1]
    assert "36x40" in data.note
    assert (data.x_train[4] == 7).all()


def test_folder_without_images_or_with_one_class(tmp_path):
    for classes, count, named in ((("ant",), 2, "at least 2"), (("ant", "bee"), 0, "no .png or .jpg")):
        root = folder(tmp_path / named[:2], classes=classes, count=count)
        with pytest.raises(InputError, match=named):
            datasets.load_dataset(str(root))
    with pytest.raises(InputError, match="no folder train"):
        datasets.load_dataset(str(tmp_path))


def test_folder_with_a_broken_image_or_an_unknown_class(tmp_path):
    root = folder(tmp_path / "a")
    (root / "train" / "ant" / "0.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(InputError, match=r"0\.jpg is not a readable image"):
        datasets.load_dataset(str(root))
    root = folder(tmp_path / "b")
    (root / "test" / "cat").mkdir()
    with pytest.raises(InputError, match="cat"):
        datasets.load_dataset(str(root))


def test_tfds_unprepared_and_offline_answers_fast(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core import DatasetBuilder

    from selfsup.data import tfds

    def retry(*_, **__):
        pytest.fail("TFDS, which tries again for minutes, was asked to download")

    monkeypatch.setattr(tfds, "HOST", "https://nowhere.invalid")
    monkeypatch.setattr(DatasetBuilder, "download_and_prepare", retry)
    with pytest.raises(InputError, match=r"(?s)--data_dir.*PATH.*shapes"):
        datasets.load_dataset("cifar10", str(tmp_path))
    with pytest.raises(InputError, match="not one of TFDS"):
        datasets.load_dataset("cifar_ten", str(tmp_path))


def test_tfds_prepared_cifar10():
    if "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR is not set")
    pytest.importorskip("tensorflow_datasets")
    data = datasets.load_dataset("cifar10")
    assert (data.x_train.shape, data.x_test.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    np.testing.assert_allclose(data.mean, (0.4914, 0.4822, 0.4465), atol=0.01)
