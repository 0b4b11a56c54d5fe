import tracemalloc
from functools import partial

import numpy as np
import pytest

from selfsup.commands.export_npz import main as export
from selfsup.data.arrays import is_npy_folder, read_npy_folder, read_npz
from selfsup.data.image_arrays import channels_last, value_range
from selfsup.data.images import to_rgb
from selfsup.data.load import load_dataset
from selfsup.utils.errors import InputError

RNG = np.random.default_rng(0)
X, XT = (RNG.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for n in (12, 6))
X[0, 0, 0], X[0, 0, 1] = 0, 255
Y, YT = np.arange(12) % 3, np.arange(6) % 3
ALPHA = np.concatenate([X, np.full((12, 32, 32, 1), 255, np.uint8)], axis=3)
LETTERS = np.array(["ant", "bee", "cat"])


def save(path, **changes):
    arrays = {"x_train": X, "y_train": Y, "x_test": XT, "y_test": YT, **changes}
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def read(path, size=32, **changes):
    return read_npz("mine", save(path / "a.npz", **changes), size)


def test_the_layout_of_keras_datasets(tmp_path):
    data = read(tmp_path)
    np.testing.assert_array_equal(data.x_train, X)
    np.testing.assert_array_equal(data.y_test, YT)
    assert (data.y_train.dtype, data.classes, data.note, data.class_names) == (np.int64, 3, "", ())
    assert data.x_extra is None


@pytest.mark.parametrize(
    ("x_train", "noted"),
    [
        (X, ""),
        (np.asfortranarray(X), ""),
        (X.astype(np.int64), ""),
        (X.astype(">i4"), ""),
        (X.astype(np.float32), "x_train in 0 to 255, rounded"),
        (X.astype(np.float16), "x_train in 0 to 255, rounded"),
        ((X / 255).astype(np.float16), "x_train in 0 to 1, scaled to 0 to 255"),
        ((X / 255).astype(np.float32), "x_train in 0 to 1, scaled to 0 to 255"),
        (X / 255, "x_train in 0 to 1, scaled to 0 to 255"),
        (X.astype(np.uint16) * 257, "x_train in 0 to 65535, scaled to 0 to 255"),
        (X.astype(">u2") * 257, "x_train in 0 to 65535, scaled to 0 to 255"),
        (X.astype(np.uint16), f"x_train of 16 bits with values up to {X.max()}, taken as 8 bits"),
        (X.transpose(0, 3, 1, 2), "x_train with channels first, moved last"),
        (ALPHA, "x_train with an alpha channel, laid on white"),
    ],
)
def test_one_set_of_images_in_many_forms(tmp_path, x_train, noted):
    data = read(tmp_path, x_train=x_train)
    np.testing.assert_array_equal(data.x_train, X)
    assert data.x_train.flags.c_contiguous
    assert data.note == noted


def test_values_of_12_bits_in_16_are_noted(tmp_path):
    x_train = X.astype(np.uint16) * 16
    data = read(tmp_path, x_train=x_train)
    assert data.x_train.max() == round(x_train.max() / 257)
    assert f"of 16 bits with values up to {x_train.max()}, dark: if they have fewer bits" in data.note


@pytest.mark.parametrize(
    "images", [X[..., 0], X[..., :1], X[..., 0][:, None]], ids=["N, H, W", "N, H, W, 1", "N, 1, H, W"]
)
def test_grey_images(tmp_path, images):
    data = read(tmp_path, x_train=images)
    np.testing.assert_array_equal(data.x_train, np.repeat(X[..., :1], 3, axis=3))


def test_transparent_pixels_are_white(tmp_path):
    clear = ALPHA.copy()
    clear[:, :16, :, 3] = 0
    images = read(tmp_path, x_train=clear).x_train
    assert (images[:, :16] == 255).all()
    np.testing.assert_array_equal(images[:, 16:], X[:, 16:])


def test_other_sizes_are_cropped_and_resized(tmp_path):
    wide = RNG.integers(0, 256, (12, 3, 48, 64), dtype=np.uint8)
    data = read(tmp_path, x_train=wide / 255, size=24)
    assert data.note == (
        "x_train with channels first, moved last; x_train in 0 to 1, scaled to 0 to 255; "
        "images of 32x32, 64x48 cropped to squares, resized to 24x24"
    )
    np.testing.assert_array_equal(data.x_train[3], to_rgb(wide[3].transpose(1, 2, 0), 24))
    assert data.x_test.shape == (6, 24, 24, 3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"x_train": X > 127}, "x_train must be uint8 in 0 to 255, not bool"),
        ({"x_train": X.astype(complex)}, "not complex128"),
        ({"x_train": X.astype(np.int8)}, "int8 from -128 to 127"),
        ({"x_train": X.astype(int) * 257}, "int64 from 0 to 65535"),
        ({"x_train": X / 127.5 - 1}, "float64 from -1 to 1, expected 0 to 1 or 0 to 255"),
        ({"x_train": X / 250.0}, "from 0 to 1.02"),
        ({"x_train": X * 2.0}, "from 0 to 510"),
        ({"x_train": np.where(X == 7, np.nan, X)}, "infinite or not a number"),
        ({"x_train": np.where(X == 7, np.inf, X)}, "infinite or not a number"),
        ({"x_train": X / 255, "x_test": XT.astype(float)}, "x_train in 0 to 1, x_test in 0 to 255"),
        ({"x_train": X.transpose(1, 2, 3, 0)}, r"not uint8 \[32, 32, 3, 12\]"),
        ({"x_train": X.reshape(12, -1)}, r"not uint8 \[12, 3072\]"),
        ({"x_train": X[:, :3, :3]}, "channels first or last"),
        ({"x_train": X[:, :1]}, "channels first or last"),
        ({"x_train": X[:, :, :, :2]}, r"\[12, 32, 32, 2\]"),
        ({"x_test": XT[0], "y_test": np.zeros(32, int)}, r"x_test must be images.*\[32, 32, 3\]"),
        ({"x_test": XT[:0], "y_test": YT[:0]}, "x_test has no pixels"),
        ({"x_train": None}, "no x_train.*found y_train, x_test, y_test"),
        ({"y_train": None}, "has y_test but no y_train"),
        ({"x_test": None}, "has y_test but no x_test"),
        ({"y_test": None}, "has x_test but no y_test"),
        ({"x_train": np.array([{}] * 12)}, "cannot be read as an .npz of arrays"),
        ({"y_train": Y[:5]}, r"y_train \[5\] must have one label for each of the 12 images"),
        ({"y_train": Y[None]}, r"y_train \[1, 12\] must have one label for each"),
        ({"y_train": Y + 0.5}, "whole numbers; it has 0.5"),
        ({"y_train": np.where(Y == 1, np.nan, Y)}, "not a number"),
        ({"y_train": np.ones((12, 3), int)}, "not one-hot"),
        ({"y_train": np.eye(3)[Y] * 0.9}, "not one-hot"),
        ({"y_train": np.zeros((12, 2, 2), int)}, "numbers or text"),
        ({"y_train": Y.astype("M8[s]")}, "numbers or text"),
        ({"y_train": Y * 0}, "at least two classes; all its labels are 0"),
        ({"y_train": np.arange(12) // 2 * 10 + np.arange(12) % 2}, "looks like ids.*12 different labels"),
        ({"y_train": Y - 1}, "label -1 beside 0 to 1"),
        ({"y_train": np.where(Y == 0, -1, Y * 3)}, "label -1 beside 3 to 6"),
        ({"y_test": np.array([0, 1, 9, 8, 1, 0])}, "y_test has labels that y_train lacks: 8, 9"),
        ({"y_train": LETTERS[Y]}, "y_train lacks: 0, 1, 2"),
        ({"class_names": LETTERS[:2]}, "class_names must be text, one for each of the 3 classes"),
    ],
)
def test_what_would_give_wrong_numbers_is_refused_in_one_line(tmp_path, changes, named):
    with pytest.raises(InputError, match=named) as error:
        read(tmp_path, **changes)
    assert "\n" not in str(error.value)
    assert "a.npz" in str(error.value)


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (lambda y: y[:, None].astype(np.uint8), ()),
        (lambda y: y.astype(float), ()),
        (lambda y: y.astype(">i2"), ()),
        (lambda y: np.eye(3)[y], ()),
        (lambda y: np.eye(3, dtype=bool)[y], ()),
        (lambda y: np.eye(9, dtype=int)[3 * y], ("0", "3", "6")),
        (lambda y: y + 1, ("1", "2", "3")),
        (lambda y: y - 7, ("-7", "-6", "-5")),
        (lambda y: y * 10**15 + 7, ("7", f"{10**15 + 7}", f"{2 * 10**15 + 7}")),
        (lambda y: y.astype(np.uint64) + (2**64 - 3), (f"{2**64 - 3}", f"{2**64 - 2}", f"{2**64 - 1}")),
        (lambda y: LETTERS[y], tuple(LETTERS)),
        (lambda y: np.char.encode(LETTERS)[y], tuple(LETTERS)),
        (lambda y: np.array([b"a", b"b", b"\xff"])[y], ("a", "b", "\\xff")),
    ],
)
def test_one_set_of_labels_in_many_forms(tmp_path, of, names):
    tracemalloc.start()
    data = read(tmp_path, y_train=of(Y), y_test=of(YT))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()
    assert data.y_train.tolist() == Y.tolist()
    assert data.y_test.tolist() == YT.tolist()
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert data.class_names == names
    numbers = bool(names) and names[0] not in ("ant", "a")
    assert data.note == (f"labels {names[0]} to {names[-1]} renumbered 0 to 2" if numbers else "")


def test_boolean_labels(tmp_path):
    data = read(tmp_path, y_train=Y > 0, y_test=YT > 0)
    assert data.y_train.tolist() == (Y > 0).astype(int).tolist()


def test_names_of_classes(tmp_path):
    assert read(tmp_path, class_names=LETTERS).class_names == ("ant", "bee", "cat")
    assert read(tmp_path, class_names=np.array([*LETTERS, "dog"])).class_names == ("ant", "bee", "cat")
    assert read(tmp_path, y_train=2 * Y, y_test=2 * YT, class_names=LETTERS).class_names == tuple(LETTERS)
    names = np.array(["zero", *LETTERS])
    assert read(tmp_path, y_train=Y + 1, y_test=YT + 1, class_names=names).class_names == tuple(LETTERS)


def test_images_without_labels(tmp_path):
    data = read(tmp_path, y_train=None, x_test=None, y_test=None)
    assert not data.labelled
    assert data.note == ""
    data = read(tmp_path, y_train=None, y_test=None, x_extra=XT)
    assert not data.labelled
    assert data.note == "x_test is not used, as there are no labels"
    assert data.training_images == 18


@pytest.mark.parametrize(("each", "held"), [((100, 40, 5, 2), (10, 4, 1, 1)), ((10, 1, 2), (1, 0, 1))])
def test_without_test_images_a_tenth_of_each_class_is_held_out(tmp_path, each, held):
    labels = RNG.permutation(np.repeat(np.arange(len(each)), each))
    images = np.zeros((len(labels), 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256
    images[:, 0, 0, 1] = labels
    first, again = (
        read(tmp_path, x_train=images, y_train=labels, x_test=None, y_test=None, size=8) for _ in range(2)
    )
    assert tuple(np.bincount(first.y_test, minlength=len(each))) == held
    assert tuple(np.bincount(first.y_train)) == tuple(np.subtract(each, held))
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(first, f"x_{split}")[:, 0, 0, 1], getattr(first, f"y_{split}"))
    seen = np.concatenate([first.x_train, first.x_test])
    assert sorted(seen[:, 0, 0, 0].tolist()) == sorted(images[:, 0, 0, 0].tolist())
    note = f"{sum(held)} of {sum(each)} images held out for testing"
    assert first.note == note + "; 1 class without test images" * (0 in held)
    assert again.fingerprint == first.fingerprint


def test_a_note_is_one_printable_line(tmp_path):
    assert read(tmp_path, note=np.array("line one\nline\x1b[31m two")).note == "line one line [31m two"
    assert read(tmp_path, note=np.array([1, 2])).note == ""


@pytest.mark.parametrize("keep", [0, 10, 0.5, -10])
def test_truncated_files(tmp_path, keep):
    path = save(tmp_path / "a.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"a\.npz cannot be read"):
        read_npz("mine", path, 32)


def test_classes_without_test_images_are_counted(tmp_path):
    assert read(tmp_path, y_test=YT * 0).note == "2 classes without test images"


def test_python_objects_are_refused_without_unsafe_advice(tmp_path):
    for name, changes in {"a.npz": {"y_train": LETTERS.astype(object)[Y]}, "x_train.npy": None}.items():
        np.save(tmp_path / "x_train.npy", np.array([{}], object))
        call = partial(read, tmp_path, **changes) if changes else partial(read_npy_folder, "", tmp_path, 32)
        with pytest.raises(InputError, match=rf"{name} .*Python objects.*store text and numbers") as error:
            call()
        assert "allow_pickle" not in str(error.value)


def test_what_is_no_npz_file(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match="a single array"):
        read_npz("mine", tmp_path / "x.npy", 32)
    with pytest.raises(InputError, match="no file"):
        read_npz("mine", tmp_path / "missing.npz", 32)
    with pytest.raises(InputError, match="not a regular file"):
        read_npz("mine", tmp_path, 32)


def npy_folder(root, **changes):
    root.mkdir(exist_ok=True)
    for key, array in {"x_train": X, "y_train": Y, "x_test": XT, "y_test": YT, **changes}.items():
        np.save(root / f"{key}.npy", array)
    return root


def test_npy_folders_stay_memory_mapped(tmp_path):
    folder = npy_folder(tmp_path / "a", class_names=LETTERS, x_extra=XT, note=np.array("mine"))
    assert is_npy_folder(folder)
    assert not is_npy_folder(tmp_path)
    data = load_dataset(str(folder))
    for key in ("x_train", "x_test", "x_extra"):
        assert isinstance(getattr(data, key), np.memmap)
    assert (data.note, data.class_names, len(data.x_extra)) == ("mine", ("ant", "bee", "cat"), 6)
    assert data.fingerprint == read(tmp_path, x_extra=XT).fingerprint
    data = read_npy_folder("mine", npy_folder(tmp_path / "b", x_train=X / 255), 32)
    assert not isinstance(data.x_train, np.memmap)
    np.testing.assert_array_equal(data.x_train, X)
    assert load_dataset(str(folder), image_size=16).x_train.shape == (12, 16, 16, 3)


@pytest.mark.parametrize("key", ["x_train", "y_test"])
def test_damaged_npy_files_are_named(tmp_path, key):
    folder = npy_folder(tmp_path)
    path = folder / f"{key}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{key}\.npy cannot be read"):
        read_npy_folder("mine", folder, 32)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match=rf"{key}\.npy cannot be read"):
        read_npy_folder("mine", folder, 32)


def test_every_value_is_checked():
    images = np.zeros((3000, 32, 32, 3), np.float16)
    assert value_range(images, "x_train") == ("in 0 to 1", 0)
    images[-1, -1, -1, -1] = 255
    assert value_range(images, "x_train") == ("in 0 to 255", 255)
    images[-1, -1, -1, -1] = -1
    with pytest.raises(InputError, match="from -1 to 0"):
        value_range(images, "x_train")


@pytest.mark.parametrize(
    ("shape", "outcome"),
    [
        ((9, 32, 48), (9, 32, 48)),
        ((9, 2, 2, 3), (9, 2, 2, 3)),
        ((9, 3, 32, 48), (9, 32, 48, 3)),
        ((9, 1, 5, 5), (9, 5, 5, 1)),
        ((9, 3, 32, 4), None),
        ((9, 1, 1, 3), None),
        ((9, 4, 32, 32), None),
        ((9, 3, 2, 32), None),
        ((32, 48, 3), None),
        ((9, 0, 32, 3), None),
        ((9,), None),
        ((), None),
    ],
)
def test_axes(shape, outcome):
    images = np.zeros(shape, np.uint8)
    if outcome:
        assert channels_last(images, "x_train").shape == outcome
    else:
        with pytest.raises(InputError, match="x_train"):
            channels_last(images, "x_train")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "12 training and 6 test images, 3 classes"),
        ({"x_extra": XT, "class_names": LETTERS}, "3 classes, 6 images without labels"),
        ({"y_train": None, "x_test": None, "y_test": None}, "12 images without labels"),
        ({"x_test": None, "y_test": None, "y_train": 1000 * Y}, "9 training and 3 test images"),
    ],
)
def test_what_export_writes_is_read_as_the_same(tmp_path, capsys, changes, told):
    path, out = save(tmp_path / "a.npz", **changes), tmp_path / "b.npz"
    status = export(["export_npz", f"--dataset={path}", f"--out={out}", "--image_size=16"])
    assert status == 0
    assert told in capsys.readouterr().out
    theirs, ours = read_npz("mine", path, 16), read_npz("mine", out, 16)
    assert ours.describe() == theirs.describe()


def test_two_images_of_two_named_classes_are_no_ids(tmp_path):
    images = np.zeros((2, 16, 16, 3), np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(2), "x_test": images, "y_test": np.arange(2)}
    np.savez(tmp_path / "ids.npz", **arrays)
    with pytest.raises(InputError, match="looks like ids"):
        read_npz("ids", tmp_path / "ids.npz", 16)
    np.savez(tmp_path / "named.npz", **arrays, class_names=np.array(["cat", "dog"]))
    assert read_npz("named", tmp_path / "named.npz", 16).class_names == ("cat", "dog")
