"""The images of a folder or of a file of arrays, one at a time, with their names and labels."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfsup.data.arrays import class_names, reason
from selfsup.data.image_arrays import as_rgb
from selfsup.data.images import printable, read_image, to_rgb
from selfsup.data.labels import as_text, has_none, one_label_each
from selfsup.data.layout import find
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path

KEYS = ("x_train", "x_test", "x_extra", "images", "x")
"""Arrays of images in an .npz file, in the order in which they are used."""


@dataclass(frozen=True)
class Source:
    """N images.

    Attributes:
        names: file names relative to the folder, or places in arrays such as "x_train[0]".
        read: a function `(index, size)` that returns one image, uint8 [size, size, 3]. It raises a
            `BrokenImage` if the file cannot be decoded.
        labels: classes, int64 [N], from 0, and -1 for an image without one; None if there are none.
        class_names: names of the classes; () if there are none.
        notes: what was skipped and converted, as text.
        side: height and width of the images in arrays; None for files.
    """

    names: list[str]
    read: Callable[[int, int], np.ndarray]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    side: int | None = None

    def __len__(self) -> int:
        return len(self.names)


def open_source(text: str, size: int) -> Source:
    """Finds the images of a folder, an .npz or an .npy file.

    Args:
        text: the path.
        size: height and width to which arrays of another size are cropped and resized.

    Raises:
        InputError: there is nothing at the path, or there are no images in it.
    """
    path = user_path("images", text)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InputError(f"there is no folder or file {path}; check --images")
    if path.suffix.lower() not in (".npz", ".npy") or not path.is_file():
        raise InputError(f"{path} is not a folder, an .npz or an .npy file; check --images")
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return _arrays({"images": array}, None, size, path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {key: file[key] for key in KEYS if key in file}
            labels = {key: file["y" + key[1:]] for key in found if key[0] == "x" and "y" + key[1:] in file}
            names = file.get("class_names")
            keys = file.files
    except InputError:
        raise
    except Exception as error:  # NumPy and zipfile raise many types on damaged files
        raise InputError(f"{path} cannot be read as arrays ({reason(error)}); create it again") from None
    if not found:
        raise InputError(
            f"{path} has no images under {', '.join(KEYS)}; found {', '.join(keys[:8]) or 'nothing'}"
        )
    return _arrays(found, _labels(found, labels, names, path), size, path)


def _folder(root: Path) -> Source:
    layout = find(root, split=False)
    files = sorted([*layout.train, *layout.test])
    paths = [Path(path) for path, _ in files]
    labels = np.array([label for _, label in files], np.int64) if layout.class_names else None
    return Source(
        [printable(os.path.relpath(path, root)) for path in paths],
        lambda index, size: read_image(paths[index], size)[0],
        labels,
        layout.class_names,
        layout.notes,
    )


def _arrays(
    arrays: dict[str, np.ndarray], labels: tuple[np.ndarray, tuple[str, ...]] | None, size: int, path: Path
) -> Source:
    resized, notes = as_rgb(arrays, size, str(path))
    places = [(key, index) for key in arrays for index in range(len(arrays[key]))]

    def read(index: int, wanted: int) -> np.ndarray:
        key, place = places[index]
        return to_rgb(np.asarray(resized[key][place]), wanted)

    numbers, classes = labels or (None, ())
    names = [f"{key}[{index}]" for key, index in places]
    return Source(names, read, numbers, classes, tuple(notes), side=size)


def _labels(
    images: dict[str, np.ndarray], labels: dict[str, np.ndarray], names: np.ndarray | None, path: Path
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Returns classes, int64 [N], and their names; None if no array has labels."""
    if not labels:
        return None
    flat = {
        key: one_label_each(value, len(images[key]), f"{path}: y{key[1:]}") for key, value in labels.items()
    }
    values, numbers = np.unique(np.concatenate(list(flat.values())), return_inverse=True)
    if has_none(values):
        values, numbers = values[1:], numbers - 1
    numbered = iter(np.split(numbers, np.cumsum([len(value) for value in flat.values()])[:-1]))
    parts = [next(numbered) if key in flat else np.full(len(images[key]), -1) for key in images]
    texts = tuple(as_text(value) for value in values)
    if names is not None and values.dtype.kind in "iu":
        texts = class_names([int(value) for value in values], names, str(path))
    return np.concatenate(parts).astype(np.int64), texts
