import contextlib
import json
import os
import threading

import numpy as np
import pytest

from selfsup.augment import CIFAR10_MEAN, CIFAR10_STD
from selfsup.commands import run
from selfsup.data import tfds_builder
from selfsup.data.images import to_rgb
from selfsup.data.load import load_dataset
from selfsup.data.tfds import read_tfds
from selfsup.records.results import read_result
from selfsup.utils.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")


def images(seed, count, *shape):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def prepare(folder, name, splits, classes=3, encoding="png", dtype=np.uint8, version="1.0.0", label=None):
    """Writes a dataset below `folder` as TFDS does. `splits` has images and labels (or None) by name."""
    shape = next(iter(splits.values()))[0][0].shape
    same = all(image.shape == shape for pixels, _ in splits.values() for image in pixels)
    features = {
        "file": tfds.features.Text(),
        "image": tfds.features.Image(
            shape=shape if same else (None, None, shape[2]), encoding_format=encoding, dtype=dtype
        ),
    }
    if all(labels is not None for _, labels in splits.values()):
        kinds = {"names": classes} if isinstance(classes, list) else {"num_classes": classes}
        features["label"] = label or tfds.features.ClassLabel(**kinds)

    def examples(pixels, labels):
        for index, image in enumerate(pixels):
            found = {"file": f"{index}.png", "image": image}
            yield index, found if labels is None else {**found, "label": labels[index]}

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    members = {
        "VERSION": tfds.core.Version(version),
        "__module__": __name__,
        "_info": info,
        "_split_generators": lambda *_: {split: examples(*found) for split, found in splits.items()},
        "_generate_examples": lambda self: iter(()),
    }
    with tfds.core.registered.skip_registration():
        builder = type(name, (tfds.core.GeneratorBasedBuilder,), members)
    builder(data_dir=folder).download_and_prepare()
    return str(folder)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Datasets like CIFAR-10, STL-10 and ImageNet."""
    folder = tmp_path_factory.mktemp("tfds")
    animals = ["ant", "bee", "cat"]
    prepare(
        folder,
        "LikeCifar",
        {
            "train": (images(0, 300, 32, 32, 3), np.arange(300) % 3),
            "test": (images(1, 6, 32, 32, 3), np.arange(6) % 3),
        },
        animals,
    )
    prepare(
        folder,
        "LikeStl",
        {
            "train": (images(0, 12, 96, 96, 3), np.arange(12) % 3),
            "test": (images(1, 6, 96, 96, 3), np.arange(6) % 3),
            "unlabelled": (images(2, 9, 96, 96, 3), np.full(9, -1)),
        },
        animals,
    )
    prepare(
        folder,
        "LikeImagenet",
        {
            "train": ([*images(0, 8, 40, 48, 3), *images(3, 4, 36, 36, 3)], np.arange(12) % 3 * 4),
            "validation": (images(1, 6, 40, 40, 3), np.arange(6) % 3 * 4),
            "test": (images(2, 6, 40, 40, 3), np.full(6, -1)),
        },
        classes=[f"n{label}" for label in range(10)],
        encoding="jpeg",
    )
    return str(folder)


def by_label(pixels, labels):
    """The images as sorted bytes, by label: TFDS shuffles when it writes."""
    return [sorted(image.tobytes() for image in pixels[labels == k]) for k in range(labels.max() + 1)]


def test_a_dataset_like_cifar(data_dir):
    data = load_dataset("like_cifar", data_dir)
    assert by_label(data.x_train, data.y_train) == by_label(images(0, 300, 32, 32, 3), np.arange(300) % 3)
    assert by_label(data.x_test, data.y_test) == by_label(images(1, 6, 32, 32, 3), np.arange(6) % 3)
    assert (data.name, data.note, data.x_extra) == ("like_cifar", "", None)
    assert data.class_names == ("ant", "bee", "cat")
    plain = list(tfds.as_numpy(tfds.builder("like_cifar", data_dir=data_dir).as_dataset("train")))
    np.testing.assert_array_equal(data.x_train, [example["image"] for example in plain])
    np.testing.assert_array_equal(data.y_train, [example["label"] for example in plain])
    small = load_dataset("tfds:like_cifar:1.0.0", data_dir, image_size=16)
    assert small.note == "images of 32x32 resized to 16x16"
    np.testing.assert_array_equal(small.x_train[0], to_rgb(data.x_train[0], 16))


def test_a_dataset_like_stl(data_dir):
    data = read_tfds("like_stl", data_dir, 96)
    assert by_label(data.x_train, data.y_train) == by_label(images(0, 12, 96, 96, 3), np.arange(12) % 3)
    none = np.zeros(9, int)
    assert by_label(data.x_extra, none) == by_label(images(2, 9, 96, 96, 3), none)
    assert (len(data.x_test), data.classes, data.training_images) == (6, 3, 21)
    assert data.describe()["unlabelled"] == 9
    assert read_tfds("like_stl", data_dir, 32).x_extra.shape == (9, 32, 32, 3)


def test_the_setting_of_stl10_end_to_end(data_dir, tmp_path, shallow, capsys):
    flags = ["--preset=stl10", "--dataset=like_stl", f"--data_dir={data_dir}", f"--workdir={tmp_path}"]
    tiny = ["--width=2", "--batch_size=7", "--epochs=1", "--probe_epochs=1", "--precision=float32"]
    assert run.main(["run.py", *flags, *tiny]) == 0
    assert "12 training and 6 test images, 3 classes, 9 images without labels" in capsys.readouterr().out
    result = read_result(tmp_path)
    assert (result.config["image_size"], result.config["stem"], result.config["blur"]) == (96, "large", 1.0)
    assert (result.dataset["train"], result.dataset["unlabelled"]) == (12, 9)
    assert set(result.accuracy) == {"linear", "knn"}
    with (tmp_path / "log.csv").open() as log:
        assert len(log.readlines()) == 2


def test_test_images_without_labels_are_replaced_by_the_validation_split(data_dir):
    data = read_tfds("like_imagenet", data_dir, 32)
    assert (len(data.x_train), len(data.x_test), data.classes) == (12, 6, 3)
    assert np.bincount(data.y_test).tolist() == [2, 2, 2]
    assert data.class_names == ("n0", "n4", "n8")
    assert data.note == (
        "JPEG copies of the images; images of 36x36, 40x40, 48x40 cropped to squares, resized to 32x32; "
        "test images are those of the split validation, as those of the split test have no labels; "
        "labels 0 to 8 renumbered 0 to 2"
    )


def test_without_any_labelled_test_images_a_dataset_is_refused(tmp_path):
    splits = {"train": (images(0, 8, 9, 9, 3), np.arange(8) % 2), "test": (images(1, 4, 9, 9, 3), [-1] * 4)}
    folder = prepare(tmp_path, "NoLabels", splits)
    with pytest.raises(InputError, match="no labels in its split test"):
        read_tfds("no_labels", folder, 9)


def test_without_test_images_a_tenth_is_held_out(tmp_path):
    labels = np.arange(40) % 2
    folder = prepare(tmp_path, "OnlyTrain", {"train": (images(0, 40, 9, 9, 1), labels)}, classes=2)
    data = read_tfds("only_train", folder, 9)
    assert np.bincount(data.y_train).tolist() == [18, 18]
    assert np.bincount(data.y_test).tolist() == [2, 2]
    assert data.note == "4 of 40 images held out for testing"
    assert data.class_names == ()


def test_single_images_without_a_label_are_no_class(tmp_path):
    splits = {
        "train": (images(0, 12, 9, 9, 3), [-1, 0, 1, 2] * 3),
        "test": (images(1, 6, 9, 9, 3), [0, 1, 2, 0, 1, -1]),
    }
    data = read_tfds("some_labels", prepare(tmp_path, "SomeLabels", splits), 9)
    assert (len(data.x_train), len(data.x_extra), len(data.x_test), data.classes) == (9, 3, 5, 3)
    assert data.note == "test images without a label left out"
    zero = np.zeros(3, int)
    assert by_label(data.x_extra, zero) == by_label(images(0, 12, 9, 9, 3)[::4], zero)


def test_without_labels(tmp_path):
    splits = {"train": (images(0, 8, 9, 9, 3), None), "test": (images(1, 4, 9, 9, 3), None)}
    data = read_tfds("plain_images", prepare(tmp_path, "PlainImages", splits), 9)
    assert (data.labelled, len(data.x_train), data.x_extra, data.note) == (False, 8, None, "")
    splits = {"train": (images(0, 8, 9, 9, 3), [-1] * 8)}
    data = read_tfds("none_labelled", prepare(tmp_path, "NoneLabelled", splits), 9)
    assert (data.labelled, len(data.x_train), data.x_extra) == (False, 8, None)


def test_jpeg_copies_among_the_images_are_counted(tmp_path):
    splits = {"train": (images(0, 8, 9, 9, 3), np.arange(8) % 2), "test": (images(1, 4, 9, 9, 3), [0, 1] * 2)}
    folder = prepare(tmp_path, "SomeJpeg", splits, classes=2)
    copies = tmp_path / "some_jpeg" / "1.0.0" / "jpeg_only.json"
    copies.write_text(json.dumps({"train": [0, 5], "test": [3], "other": [1]}))
    assert read_tfds("some_jpeg", folder, 9).note == "3 of 12 images are JPEG copies"
    copies.write_text("[")
    with pytest.raises(InputError, match="jpeg_only"):
        read_tfds("some_jpeg", folder, 9)


def test_other_features_are_refused(tmp_path):
    pixels = images(0, 4, 9, 9, 3)
    folder = prepare(
        tmp_path, "ManyLabels", {"train": (pixels, [[0, 1]] * 4)}, label=tfds.features.Sequence(np.int64)
    )
    with pytest.raises(InputError, match="does not have one class per image"):
        read_tfds("many_labels", folder, 9)
    with pytest.raises(InputError, match="no 8-bit images"):
        read_tfds("wikipedia", folder, 9)
    folder = prepare(tmp_path, "TestOnly", {"test": (pixels, [0, 1, 0, 1])}, classes=2)
    with pytest.raises(InputError, match="no split train, only test"):
        read_tfds("test_only", folder, 9)


def test_damaged_records_are_named(tmp_path):
    splits = {
        "train": (images(0, 40, 9, 9, 3), np.arange(40) % 2),
        "test": (images(1, 4, 9, 9, 3), [0, 1] * 2),
    }
    folder = prepare(tmp_path, "BrokenRecords", splits, classes=2)
    (records,) = (tmp_path / "broken_records" / "1.0.0").glob("*train*")
    whole = records.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:5000] + bytes(100) + whole[5100:], b""):
        records.write_bytes(content)
        with pytest.raises(InputError, match=r"broken_records' in .* is damaged") as error:
            read_tfds("broken_records", folder, 9)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("cifar_ten", r"not one of TFDS's datasets \(did you mean cifar10"),
        ("CIFAR-10", "did you mean cifar10 or"),
        ("zzzzzz", "not one of TFDS's datasets; pass"),
        ("emnist/nothing", "no such config; emnist has .*letters"),
        ("cifar10/nothing", "cifar10 has no configs"),
        ("cifar10:9.9.9", "only: 3.0.2"),
        ("data/images", "neither a file nor a folder; check the path"),
        ("./images", "neither a file nor a folder; check the path"),
        ("~/no such images", "neither a file nor a folder; check the path"),
        ("~nobody-of-this-name/images", "no such home folder"),
        ("images.tar.gz", "neither a file nor a folder; check the path"),
        (r"C:\images", "neither a file nor a folder; check the path"),
        ("", "is not a name"),
    ],
)
def test_names_that_are_no_dataset(tmp_path, name, named):
    with pytest.raises(InputError, match=named) as error:
        load_dataset(name, str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cifar10:3.0.2", "imagenet_resized/32x32", "emnist/letters", "mnist:3.*.*"])
def test_names_of_configs_and_versions_are_known(tmp_path, name):
    assert tfds_builder.find_builder(name, str(tmp_path)).data_path.is_relative_to(tmp_path)


def test_a_folder_with_the_name_of_a_tfds_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(
        InputError, match=r"both a folder here and a TFDS dataset; write \./cifar10 .* tfds:cifar10"
    ):
        load_dataset("cifar10")
    with pytest.raises(InputError) as error:
        load_dataset("./cifar10")
    assert "TFDS" not in str(error.value)
    monkeypatch.setattr(tfds_builder, "RETRIES", 0)
    refuse(monkeypatch, ConnectionError("no route"))
    with pytest.raises(InputError, match="no route"):
        load_dataset("tfds:cifar10", str(tmp_path / "data"))


def refuse(monkeypatch, error):
    """Every connection of TFDS's downloader raises an error."""
    from tensorflow_datasets.core.download import downloader

    def opened(url, **_):
        @contextlib.contextmanager
        def connection():
            raise error
            yield

        return connection()

    monkeypatch.setattr(downloader, "_open_url", opened)


def test_offline_the_reason_comes_with_three_ways_out(tmp_path):
    from tensorflow_datasets.core.download import downloader

    before = downloader._open_url, downloader.MAX_RETRIES
    with pytest.MonkeyPatch.context() as patch:
        refuse(patch, OSError("the cable is cut\nat the third mile"))
        with pytest.raises(
            InputError, match=r"cannot be prepared: the cable is cut; .*--data_dir.*PATH.*shapes"
        ):
            read_tfds("mnist", str(tmp_path), 32)
    assert (downloader._open_url, downloader.MAX_RETRIES) == before


def test_hosts_that_never_answer_are_given_up(tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import downloader

    late = threading.Event()

    @contextlib.contextmanager
    def silent(url, **_):
        late.wait(60)
        yield None

    monkeypatch.setattr(downloader, "_open_url", silent)
    monkeypatch.setattr(tfds_builder, "FIRST_ANSWER", 0.2)
    with pytest.raises(InputError, match=r"no answer from https?://.* within"):
        read_tfds("cifar10", str(tmp_path), 32)
    late.set()


def test_once_a_host_has_answered_tfds_waits_as_long_as_it_likes(monkeypatch):
    from tensorflow_datasets.core.download import downloader

    closed = []

    @contextlib.contextmanager
    def opened(url, **_):
        if url == "slow":
            threading.Event().wait(0.5)
        yield url
        closed.append(url)

    monkeypatch.setattr(downloader, "_open_url", opened)
    monkeypatch.setattr(tfds_builder, "FIRST_ANSWER", 0.2)
    usual = downloader.MAX_RETRIES
    with tfds_builder._impatience():
        assert downloader.MAX_RETRIES == tfds_builder.RETRIES
        for url in ("fast", "slow"):
            with downloader._open_url(url) as answer:
                assert answer == url
        assert usual == downloader.MAX_RETRIES
    assert closed == ["fast", "slow"]


def test_prepared_cifar10():
    if "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR is not set")
    data = load_dataset("cifar10")
    assert (data.x_train.shape, data.x_test.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    original = data.note != "JPEG copies of the images"  # a few copies among the originals do not count
    for found, known in ((data.mean, CIFAR10_MEAN), (data.std, CIFAR10_STD)):
        np.testing.assert_allclose(found, known, rtol=0, atol=1e-4 if original else 0.01)
    assert data.class_names[:2] == ("airplane", "automobile")
