"""Datasets in files of NumPy arrays: one .npz file, or a folder of .npy files.

The arrays, as in `keras.datasets`:

    x_train, x_test   images: [N, H, W], [N, H, W, 1], [N, H, W, 3] or [N, H, W, 4] with an alpha channel, or
                      [N, 3, H, W] or [N, 1, H, W]; integers in 0 to 255, uint16, or floats in 0 to 1 or 0 to
                      255. Other sizes are cropped and resized.
    y_train, y_test   labels: any whole numbers, text, or one-hot rows. Without y_train, only x_train is used.
                      With y_train alone, a tenth of the images is held out for testing.
    x_extra           images without labels that are pre-trained on as well (optional).
    class_names       text [C], the names of the classes 0, 1, ... (optional).
    note              text that is shown with the dataset (optional).
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from selfsup.data.dataset import KEYS, Dataset
from selfsup.data.image_arrays import as_rgb, channels_last
from selfsup.data.labels import number, one_label_each, split_off
from selfsup.utils.errors import InputError, first_line

IMAGES = ("x_train", "x_test", "x_extra")
ALL_KEYS = (*KEYS, "x_extra", "class_names", "note")
LAYOUT = f"expected {', '.join(KEYS)} in the layout of keras.datasets"


def read_npz(name: str, path: Path, image_size: int) -> Dataset:
    """Reads an .npz file.

    Args:
        name: the dataset's name.
        path: the file.
        image_size: height and width to which images are cropped and resized.

    Raises:
        InputError: the file is missing, damaged, has pickled objects (they are not unpickled), or arrays that
            are not images or labels.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise InputError(f"{path} is not a regular file; {LAYOUT}")
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InputError(f"{path} is a single array; {LAYOUT} in one .npz file")
            with file:
                arrays = {key: file[key] for key in ALL_KEYS if key in file}
                found = file.files
    except FileNotFoundError:
        raise InputError(f"no file {path}; check --dataset") from None
    except InputError:
        raise
    except Exception as error:  # NumPy and zipfile raise many types on damaged files
        raise InputError(
            f"{path} cannot be read as an .npz of arrays ({reason(error)}); create it again"
        ) from None
    return _assemble(name, str(path), arrays, found, image_size)


def is_npy_folder(path: Path) -> bool:
    """Whether the folder has the images of a dataset as an .npy file."""
    with suppress(OSError):  # an unreadable folder, which is reported when it is listed
        return (path / "x_train.npy").is_file()
    return False


def read_npy_folder(name: str, path: Path, image_size: int) -> Dataset:
    """Reads a folder of x_train.npy and so on. Images that need no conversion stay memory-mapped.

    Images from which a test set is held out are copied to memory.

    Args:
        name: the dataset's name.
        path: the folder.
        image_size: height and width to which images are cropped and resized.

    Raises:
        InputError: as for `read_npz`.
    """
    arrays: dict[str, np.ndarray] = {}
    for key in ALL_KEYS:
        file = path / f"{key}.npy"
        if not file.exists():
            continue
        try:
            if not file.is_file():  # opening a pipe would block
                raise OSError("not a regular file")
            arrays[key] = np.load(file, mmap_mode="r" if key[0] == "x" else None, allow_pickle=False)
        except Exception as error:  # NumPy raises many types on damaged files
            raise InputError(
                f"{file} cannot be read as an array ({reason(error)}); create it again"
            ) from None
    return _assemble(name, str(path), arrays, list(arrays), image_size)


def reason(error: Exception) -> str:
    """Returns why arrays cannot be read. NumPy's advice to allow pickled objects is unsafe."""
    text = first_line(error)
    objects = "pickle" in text or "Python objects" in text
    return "it holds Python objects, which are not read; store text and numbers" if objects else text


def _assemble(
    name: str, source: str, arrays: dict[str, np.ndarray], found: Sequence[str], image_size: int
) -> Dataset:
    """Checks and converts the arrays of a file. `found` are all its keys."""
    if "x_train" not in arrays:
        raise InputError(f"{source} has no x_train; {LAYOUT}, found {', '.join(found[:8]) or 'nothing'}")
    for key, needed in (("y_test", "y_train"), ("y_test", "x_test")):
        if key in arrays and needed not in arrays:
            raise InputError(f"{source} has {key} but no {needed}; {LAYOUT}")
    labelled = "y_train" in arrays
    if labelled and "x_test" in arrays and "y_test" not in arrays:
        raise InputError(f"{source} has x_test but no y_test; {LAYOUT}")
    notes = [_note(arrays)]
    if not labelled and arrays.pop("x_test", None) is not None:
        notes.append("x_test is not used, as there are no labels")
    images = {key: array for key, array in arrays.items() if key in IMAGES}
    for key, array in images.items():
        channels_last(array, f"{source}: {key}")
    labels = {
        key: one_label_each(arrays[key], len(images["x" + key[1:]]), f"{source}: {key}")
        for key in ("y_train", "y_test")
        if key in arrays
    }
    names: tuple[str, ...] = ()
    if labelled:
        named = "class_names" in arrays
        y_train, y_test, names, renumbered = number(labels["y_train"], labels.get("y_test"), source, named)
        if named and labels["y_train"].dtype.kind in "iu":
            values = [int(value) for value in names] or range(int(y_train.max()) + 1)
            names = class_names(values, arrays["class_names"], source)
    images, changes = as_rgb(images, image_size, source)
    x_train, x_test, x_extra = images["x_train"], images.get("x_test"), images.get("x_extra")
    notes += changes
    if not labelled:
        return Dataset(name, x_train, note="; ".join(filter(None, notes)), x_extra=x_extra)
    notes.append(renumbered)
    if x_test is None:
        x_train, y_train, x_test, y_test, held_out = split_off(x_train, y_train)
        notes.append(held_out)
    assert y_test is not None
    if untested := len(np.unique(y_train)) - len(np.unique(y_test)):
        without = f"{untested} class{'es' * (untested > 1)} without test images"
        notes += [without] if without not in notes[0] else []  # exported files keep the note
    return Dataset(name, x_train, y_train, x_test, y_test, "; ".join(filter(None, notes)), names, x_extra)


def class_names(labels: Sequence[int], names: np.ndarray, source: str) -> tuple[str, ...]:
    """Returns the names of the classes with these labels: one for each, or those at these places.

    Raises:
        InputError: `names` is neither.
    """
    if names.dtype.kind == "U" and names.ndim == 1:
        if len(names) == len(labels):
            return tuple(names.tolist())
        if labels[0] >= 0 and labels[-1] < len(names):
            return tuple(names[list(labels)].tolist())
    raise InputError(
        f"{source}: class_names must be text, one for each of the {len(labels)} classes, "
        f"not {names.dtype} {list(names.shape)}"
    )


def _note(arrays: dict[str, np.ndarray]) -> str:
    """Returns the file's note as one printable line; "" if it has none or it is not text."""
    note = arrays.get("note")
    if note is None or note.dtype.kind != "U" or note.size != 1:
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in note.item()).split())
