"""Folders of image files: what each arrangement becomes, broken files, and the cache."""

import errno
import itertools
import json
import os
import threading
import time
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfsup.data import cache, folders
from selfsup.data.folders import read_folder
from selfsup.data.images import read_image
from selfsup.data.layout import find
from selfsup.utils.errors import InputError


def put(root, *names, size=(8, 8)):
    """Writes images, each with its own colours, or any other file, or an empty folder ("name/")."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/") and path.suffix.lower() in (
            ".png",
            ".jpg",
            ".bmp",
            ".webp",
            ".gif",
            ".tif",
            ".jfif",
        ):
            rng = np.random.default_rng(len(name) + sum(name.encode(errors="surrogateescape")))
            image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
            image.save(path, {".jfif": "JPEG"}.get(path.suffix))
        elif not name.endswith("/"):
            path.write_text("no image")
    return root


def several(*patterns, count=2):
    return [pattern.replace("*", str(number)) for pattern in patterns for number in range(count)]


TWO = several("train/ant/*.png", "train/bee/*.png", "test/ant/*.png", "test/bee/*.png")


def read(root, size=8, cache_dir=None, skip_broken=False):
    return read_folder("data", root, size, cache_dir, skip_broken)


def classes(data):
    """Numbers of training and test images by class."""
    return [
        {data.class_names[label]: count for label, count in sorted(Counter(labels.tolist()).items())}
        for labels in (data.y_train, data.y_test)
    ]


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
AB = {"ant": 2, "bee": 2}

LABELLED = {
    "train and test": (TWO, AB, AB, ""),
    "train and val": (several(*(f"{s}/{c}/*.png" for s in ("train", "val") for c in AB)), AB, AB, ""),
    "any case": (several(*(f"{s}/{c}/*.png" for s in ("Train", "VALID") for c in AB)), AB, AB, ""),
    "test before val": (
        [*TWO, "val/ant/9.png", "validation/cat/9.png"], AB, AB, "folders val, validation not used",
    ),
    "val, as test has no classes": (
        [*several(*(f"{s}/{c}/*.png" for s in ("train", "val") for c in AB)), "test/0.png"],
        AB, AB, "folder test not used",
    ),
    "no test": (
        several("train/ant/*.png", "train/bee/*.png", count=4),
        {"ant": 3, "bee": 3}, {"ant": 1, "bee": 1}, "2 images held out for testing",
    ),
    "a test folder without classes": (
        [*several("train/ant/*.png", "train/bee/*.png"), "test/0.png"],
        {"ant": 1, "bee": 1}, {"ant": 1, "bee": 1}, "2 images held out for testing; folder test not used",
    ),
    "class folders alone": (
        [*several("ant/*.png", count=25), *several("bee/*.png", count=11), "cat/0.png"],
        {"ant": 23, "bee": 10, "cat": 1}, {"ant": 2, "bee": 1},
        "3 images held out for testing; 1 class without test images",
    ),
    "nested": (
        [*TWO, "train/ant/a/b/c.png", "test/bee/a/0.png"], {"ant": 3, "bee": 2}, {"ant": 2, "bee": 3}, "",
    ),
    "a folder with the suffix of an image": ([*TWO, "train/ant/a.png/"], AB, AB, ""),
    "loose images": (
        [*TWO, "0.png", "train/1.png", "train/2.png", "test/3.png"],
        AB, AB, "4 images outside the folders used skipped",
    ),
    "suffixes": (
        [*TWO, *(f"train/ant/a.{s}" for s in ("JPG", "bmp", "GIF", "tif", "webp", "jfif"))],
        {"ant": 8, "bee": 2}, AB, "",
    ),
    "other files": (
        [*TWO, "README.md", "train/labels.csv", "train/ant/a/b.txt", "test/a.json"],
        AB, AB, "4 other files skipped",
    ),
    "hidden": (
        [
            *TWO, ".git/a.png", "train/.thumbnails/0.png", "train/__MACOSX/0.png", "train/ant/@eaDir/0.png",
            "train/ant/._0.png", "train/bee/Thumbs.db", "test/.ipynb_checkpoints/0.png",
        ],
        AB, AB, "7 hidden files or folders skipped",
    ),
    "a folder beside train": ([*TWO, "docs/0.png"], AB, AB, "folder docs not used"),
    "a class without test images": (
        [*TWO, "train/cat/0.png"], {**AB, "cat": 1}, AB, "1 class without test images",
    ),
    "names are sorted by code point": (
        several(*(f"train/{name}/*.png" for name in ("b", "B", "猫", "10", "9")), "test/9/*.png"),
        {"10": 2, "9": 2, "B": 2, "b": 2, "猫": 2}, {"9": 2}, "4 classes without test images",
    ),
    "Unicode in two forms": (
        [f"train/{NFC}/0.png", f"train/{NFD}/1.png", "train/ant/0.png", f"test/{NFD}/0.png"],
        {"ant": 1, NFC: 2}, {NFC: 1}, "1 class without test images",
    ),
    "odd names": (
        several(*(f"{s}/{c}/*.png" for s in ("train", "test") for c in ("a b", "50%", "-x", "{y}"))),
        dict.fromkeys(("-x", "50%", "a b", "{y}"), 2), dict.fromkeys(("-x", "50%", "a b", "{y}"), 2), "",
    ),
    "undecodable names": (
        [*several("train/ant/*.png"), "train/b\udce9/caf\udce9.png", "test/b\udce9/0.png"],
        {"ant": 2, "b\\xe9": 1}, {"b\\xe9": 1}, "1 class without test images",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LABELLED)
def test_folders_with_classes(tmp_path, case):
    names, train, test, note = LABELLED[case]
    data = read(put(tmp_path, *names))
    assert classes(data) == [train, test]
    assert data.class_names == tuple(train)
    assert data.note == note
    json.dumps(data.describe()).encode()
    data.note.encode()


UNLABELLED = {
    "images alone": (several("*.png"), 2, "no class folders: images are not labelled"),
    "images in train": (
        [*several("train/*.png", "test/*.png"), "train/.x/0.png"],
        2,
        "no class folders: images are not labelled; folder test not used; 1 hidden file or folder skipped",
    ),
    "one class": (
        several("train/all/*.png", "test/all/*.png"),
        2,
        "only one class folder, all: images are not labelled; folder test not used",
    ),
    "one class folder alone": (
        [*several("photos/2024/*.png", "photos/2025/*.png"), "photos/0.png", "a.txt"],
        5,
        "only one class folder, photos: images are not labelled; 1 other file skipped",
    ),
    "one class and loose images": (
        [*several("more/*.png"), "0.png"], 3, "only one class folder, more: images are not labelled",
    ),
    "more loose images than in class folders": (
        [*several("*.png", count=7), *several("dogs/*.png", "trips/*.png", "z/*.png")],
        13, "most images lie outside the 3 folders: images are not labelled",
    ),
    "more loose images in train": (
        [*several("train/*.png", count=5), *several("train/a/*.png", "train/b/*.png", "test/a/*.png")],
        9, "most images lie outside the 2 folders: images are not labelled; folder test not used",
    ),
    "images beside a folder without any": (
        [*several("images/*.png"), "labels/0.txt"],
        2, "only one class folder, images: images are not labelled; 1 other file skipped",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNLABELLED)
def test_folders_without_classes(tmp_path, case):
    names, count, note = UNLABELLED[case]
    data = read(put(tmp_path, *names))
    assert len(data.x_train) == count
    assert not data.labelled
    assert data.class_names == ()
    assert data.note == note


WRONG = {
    "empty": ([], "has no images; expected train/CLASS/"),
    "no images": (["train/ant/a.txt", "train/bee/"], r"train has no images; expected"),
    "an empty class": ([*TWO, "train/cat/"], r"train has a class 'cat' without images"),
    "one class and an empty one": (["train/ant/0.png", "train/bee/"], "a class 'bee' without images"),
    "an empty class alone": (["ant/0.png", "bee/0.png", "cat/"], "has a class 'cat' without images"),
    "a class that is only hidden": ([*TWO, "train/cat/.0.png"], "a class 'cat' without images"),
    "an unknown test class": ([*TWO, "test/cat/0.png"], "test has a class 'cat' that .*train lacks; rename"),
    "another case": ([*TWO, "test/Bee/0.png"], "a class 'Bee' that .*train lacks; train has 'bee'"),
    "an empty test folder": ([*TWO[:4], "test/ant/"], r"test has no images"),
    "no train": (["test/ant/0.png", "val/ant/0.png"], "has folders test, val but no folder train"),
    "classes beside test": ([*several("ant/*.png", "bee/*.png"), "test/ant/0.png"], "has folder test but no"),
    "two folders train": ([*TWO, "Train/"], "has folders Train, train, which differ only in case"),
    "one image per class": (["ant/0.png", "bee/0.png"], "has one image per class"),
    "a folder in between": ([f"data/{name}" for name in TWO], r"did you mean .*/data\?"),
    "a class called train": (
        several("train/*.png", "bus/*.png"), "has images in train and in folder bus; if these are classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_folders_that_are_refused(tmp_path, case):
    names, message = WRONG[case]
    with pytest.raises(InputError, match=message) as error:
        read(put(tmp_path, *names))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_folders(tmp_path, monkeypatch):
    scandir = os.scandir

    def scan(path):
        if Path(path).name == "bee":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(InputError, match=r"cannot read the folder .*train/bee: Permission denied"):
        read(put(tmp_path, *TWO))


def test_the_tenth_that_is_held_out_is_random_and_always_the_same(tmp_path):
    put(tmp_path, *several("ant/*.png", "bee/*.png", count=40))
    layout = find(tmp_path)
    names = [[Path(path).name for path, label in layout.test if label == k] for k in range(2)]
    assert len(set(names[0])) == len(set(names[1])) == 4
    assert names[0] != names[1]
    assert layout == find(tmp_path)
    assert not set(layout.train) & set(layout.test)
    assert len(layout.train) == 72


def test_links(tmp_path):
    root = put(tmp_path / "data", *TWO)
    (root / "train/ant/again.png").symlink_to("0.png")
    assert (classes(read(root))[0], read(root).note) == ({"ant": 3, "bee": 2}, "")
    put(tmp_path, "other/bee/0.png", "other/bee/1.png", "other/2.png")
    (root / "train/bee/more").symlink_to(tmp_path / "other/bee")
    assert read(root).note == "2 images behind links that lead out of the folder"
    (root / "train/bee/2.png").symlink_to(tmp_path / "other/2.png")
    assert classes(read(root))[0] == {"ant": 3, "bee": 5}
    assert read(root).note == "3 images behind links that lead out of the folder"


@pytest.mark.parametrize("target", [".", "..", "../..", "../../train"])
def test_links_that_loop(tmp_path, target):
    root = put(tmp_path, *TWO)
    (root / "train/ant/loop").symlink_to(target)
    data = read(root)
    assert classes(data) == [AB, AB]
    assert data.note == "1 repeated folder skipped"


def test_many_crossed_links_end(tmp_path):
    root = put(tmp_path, *TWO, *several("train/ant/d*/0.png", count=8))
    for a, b in itertools.permutations(range(8), 2):
        (root / f"train/ant/d{a}/to{b}").symlink_to(f"../d{b}")
    assert classes(read(root))[0] == {"ant": 10, "bee": 2}


def test_images_are_in_the_order_of_classes_and_names(tmp_path):
    root = put(tmp_path, *TWO, "train/ant/more/5.png", size=(12, 10))
    data = read(root)
    names = ["ant/0.png", "ant/1.png", "ant/more/5.png", "bee/0.png", "bee/1.png"]
    expected = np.stack([read_image(root / "train" / name, 8)[0] for name in names])
    np.testing.assert_array_equal(data.x_train, expected)
    assert data.y_train.tolist() == [0, 0, 0, 1, 1]
    assert data.y_train.dtype == np.int64
    assert data.note == "images of 10x12 cropped to squares, resized to 8x8"


def test_the_result_does_not_depend_on_threads_and_chunks(tmp_path, monkeypatch):
    root = put(tmp_path / "data", *several("ant/*.png", "bee/*.jpg", count=20), size=(9, 9))
    found = set()
    for threads, chunk in ((1, 256), (8, 256), (3, 7), (2, 1)):
        monkeypatch.setattr(folders, "THREADS", threads)
        monkeypatch.setattr(folders, "CHUNK", chunk)
        for cache_dir in (None, tmp_path / f"cache{threads}"):
            found.add(read(root, cache_dir=cache_dir).fingerprint)
    assert len(found) == 1


def break_files(root, *names):
    for name in names:
        (root / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")


@pytest.mark.parametrize("cached", [False, True])
def test_broken_files_are_all_named_or_left_out(tmp_path, cached):
    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache" if cached else None
    break_files(root, "train/ant/0.png", "test/bee/1.png")
    os.mkfifo(root / "test/ant/pipe.png")
    with pytest.raises(InputError) as error:
        read(root, cache_dir=cache_dir)
    text = str(error.value)
    assert text.startswith(f"{root} has 3 broken images: train/ant/0.png (")
    assert "test/ant/pipe.png (not a regular file)" in text
    assert text.endswith("skip them with --skip_broken")
    data = read(root, cache_dir=cache_dir, skip_broken=True)
    assert classes(data) == [{"ant": 1, "bee": 2}, {"ant": 2, "bee": 1}]
    assert data.note == "3 broken images left out"
    np.testing.assert_array_equal(data.x_train[0], read_image(root / "train/ant/1.png", 8)[0])
    again = read(root, cache_dir=cache_dir, skip_broken=True)
    assert (again.note, again.fingerprint) == (data.note, data.fingerprint)


def test_ten_broken_files_are_named(tmp_path):
    names = several("train/ant/*.png", count=12)
    root = put(tmp_path, *TWO, *names)
    break_files(root, *names)
    with pytest.raises(InputError, match="has 12 broken images") as error:
        read(root)
    assert sum(name in str(error.value) for name in names) == 10
    assert "), ...; repair" in str(error.value)


def test_a_broken_file_with_an_undecodable_name_can_be_printed(tmp_path):
    root = put(tmp_path, *TWO)
    break_files(root, "train/ant/caf\udce9\n.png")
    with pytest.raises(InputError) as error:
        read(root)
    assert r"train/ant/caf\xe9\n.png" in str(error.value).encode().decode()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (TWO[:2], "no readable training image of class 'ant'"),
        (TWO[4:], "no readable testing image"),
    ],
)
def test_nothing_readable_is_left(tmp_path, names, message):
    root = put(tmp_path, *TWO)
    break_files(root, *names)
    with pytest.raises(InputError, match=message) as error:
        read(root, skip_broken=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cached", [False, True])
def test_nothing_readable_without_classes(tmp_path, cached):
    root = put(tmp_path / "data", "0.png", "1.png")
    break_files(root, "0.png", "1.png")
    with pytest.raises(InputError, match=r"no readable training image; .*not a readable image"):
        read(root, cache_dir=tmp_path / "cache" if cached else None, skip_broken=True)


def test_progress_is_shown_when_decoding_takes_long(tmp_path, monkeypatch, capsys):
    root = put(tmp_path, *TWO)
    read(root)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(folders, "PATIENCE", -1.0)
    read(root)
    assert capsys.readouterr().out == "decoded 8 images in 0 s\n"


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded so far."""
    paths = []
    monkeypatch.setattr(
        folders, "read_image", lambda path, size: paths.append(path) or read_image(path, size)
    )
    return paths


def entries(cache_dir):
    return sorted(cache_dir.iterdir())


def test_a_cached_load_decodes_nothing(tmp_path, decoded):
    root, cache_dir = put(tmp_path / "data", *TWO, "a.txt", size=(10, 8)), tmp_path / "some/cache"
    plain, first = read(root), read(root, cache_dir=cache_dir)
    decoded.clear()
    second = read(root, cache_dir=str(cache_dir))
    assert decoded == []
    for data in (first, second):
        assert isinstance(data.x_train, np.memmap)
        assert not data.x_train.flags.writeable
        assert data.describe() == plain.describe()
        assert data.note == "1 other file skipped; images of 8x10 cropped to squares"
        for name in ("x_train", "y_train", "x_test", "y_test"):
            np.testing.assert_array_equal(getattr(data, name), getattr(plain, name))
    assert [path.name for path in entries(entries(cache_dir)[0])] == [
        "meta.json", "x_test.npy", "x_train.npy", "y_test.npy", "y_train.npy",
    ]  # fmt: skip


def test_unlabelled_images_are_cached(tmp_path, decoded):
    root = put(tmp_path / "data", *several("*.png"))
    read(root, cache_dir=tmp_path / "cache")
    decoded.clear()
    data = read(root, cache_dir=tmp_path / "cache")
    assert (decoded, data.labelled, len(data.x_train)) == ([], False, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: put(root, "train/ant/5.png"),
        lambda root: (root / "train/ant/0.png").unlink(),
        lambda root: (root / "train/ant/0.png").rename(root / "train/bee/7.png"),
        lambda root: (root / "test/ant/0.png").rename(root / "train/ant/7.png"),
        lambda root: os.utime(root / "test/bee/0.png", (1, 1)),
        lambda root: Image.new("L", (8, 8)).save(root / "train/ant/0.png"),
    ],
    ids=["added", "removed", "other class", "other split", "time", "content"],
)
def test_the_cache_follows_the_files(tmp_path, decoded, change):
    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache"
    read(root, cache_dir=cache_dir)
    change(root)
    decoded.clear()
    assert read(root, cache_dir=cache_dir).fingerprint == read(root).fingerprint
    assert len(decoded) == 2 * len(list(root.rglob("*.png")))


def test_the_cache_depends_on_how_images_are_decoded(tmp_path, decoded, monkeypatch):
    root, other = put(tmp_path / "data", *TWO), put(tmp_path / "other", *TWO)
    layout = find(root)
    keys = {cache.key(root, layout, size, skip) for size in (8, 9) for skip in (False, True)}
    keys.add(cache.key(other, find(other), 8, False))
    monkeypatch.setattr(cache, "VERSION", -1)
    keys.add(cache.key(root, layout, 8, False))
    assert len(keys) == 6
    assert all(len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "meta.json").write_text("{"),
        lambda entry: (entry / "meta.json").write_text("[]"),
        lambda entry: (entry / "meta.json").unlink(),
        lambda entry: (entry / "x_train.npy").unlink(),
        lambda entry: os.truncate(entry / "x_train.npy", 500),
        lambda entry: os.truncate(entry / "y_test.npy", 0),
        lambda entry: (entry / "x_test.npy").write_bytes(bytes((entry / "x_test.npy").stat().st_size)),
    ],
    ids=["broken JSON", "other JSON", "no meta", "no array", "cut array", "empty labels", "zeros"],
)
def test_a_damaged_entry_is_made_again(tmp_path, decoded, damage):
    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache"
    first = read(root, cache_dir=cache_dir).fingerprint
    damage(entries(cache_dir)[0])
    decoded.clear()
    assert read(root, cache_dir=cache_dir).fingerprint == first
    assert len(decoded) == 8
    read(root, cache_dir=cache_dir)
    assert len(decoded) == 8
    assert len(entries(cache_dir)) == 1


def test_an_entry_that_another_process_completes_meanwhile_is_kept(tmp_path, monkeypatch):
    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache"
    sweep, made = cache._sweep, []

    def complete(folder):
        monkeypatch.setattr(cache, "_sweep", sweep)
        read(root, cache_dir=cache_dir)
        made.append(entries(cache_dir)[0].stat().st_ino)

    monkeypatch.setattr(cache, "_sweep", complete)
    read(root, cache_dir=cache_dir)
    assert [entry.stat().st_ino for entry in entries(cache_dir)] == made


def test_an_interrupted_load_leaves_no_entry(tmp_path, monkeypatch):
    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache"

    def interrupt(path, size):
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "read_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read(root, cache_dir=cache_dir)
    assert entries(cache_dir) == []


def test_the_cache_may_not_lie_among_the_images(tmp_path):
    root = put(tmp_path, *TWO)
    for inside in (root, root / "cache", root / "train/.cache"):
        with pytest.raises(
            InputError, match=r"in the image folder .*; choose another --workdir or --cache_dir"
        ):
            read(root, cache_dir=inside)
    assert sorted(path.name for path in root.iterdir()) == ["test", "train"]


@pytest.mark.parametrize("place", ["run", "runs/directpred/0"])
@pytest.mark.parametrize(
    "names",
    [TWO, several("ant/*.png", "bee/*.png"), several("*.png", count=6)],
    ids=["train and test", "class folders alone", "flat"],
)
def test_a_run_may_lie_in_the_folder_of_its_images(tmp_path, place, names):
    before = read(put(tmp_path / "data", *names))
    run = put(tmp_path / "data" / place, ".lock", "curves.png", "eigenspace.png", "images/")
    for _ in range(2):
        after = read(tmp_path / "data", cache_dir=run / "images")
        assert after.fingerprint == before.fingerprint
        assert after.class_names == before.class_names
    seen = names is not TWO or place == "run"
    assert ("1 folder of a run skipped" in after.note) == seen


def test_conversions_are_counted(tmp_path):
    root = put(tmp_path, *several("*.png", count=4))
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        Image.new("RGB", (8, 8)).save(root / f"turned{number}.jpg", exif=exif)
    Image.new("RGBA", (8, 8)).save(root / "clear.png")
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(root / "deep.png")
    assert read(root).note.split("; ")[1:] == [
        "2 images turned by EXIF orientation",
        "1 image with transparency, laid on white",
        "1 image of more than 8 bits, scaled to 8",
    ]


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path):
    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache"
    old, new = put(cache_dir, ".0123abcd~old/x.npy", ".0123abcd~new/x.npy").glob(".*")
    old, new = sorted((old, new), key=lambda path: path.name.endswith("new"))
    day = time.time() - 2 * cache.STALE
    for path in (old / "x.npy", old):
        os.utime(path, (day, day))
    read(root, cache_dir=cache_dir)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_full_disk_gets_one_line(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache"
    monkeypatch.setattr(cache, "_flush", full)
    with pytest.raises(InputError, match=r"cannot write decoded images to .*cache: No space left on device"):
        read(root, cache_dir=cache_dir)
    assert entries(cache_dir) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write decoded images to .*file: File exists"):
        read(root, cache_dir=tmp_path / "file")


def test_two_loads_at_once_share_one_entry(tmp_path, monkeypatch):
    root, cache_dir = put(tmp_path / "data", *TWO), tmp_path / "cache"
    barrier, write = threading.Barrier(2), cache.Writer.labels

    def wait_for_the_other(writer, name, values):
        if name == "y_test":
            barrier.wait(30)
        write(writer, name, values)

    monkeypatch.setattr(cache.Writer, "labels", wait_for_the_other)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: read(root, cache_dir=cache_dir), range(2))
    assert first.x_train.filename == second.x_train.filename
    assert first.fingerprint == second.fingerprint == read(root).fingerprint
    assert len(entries(cache_dir)) == 1
