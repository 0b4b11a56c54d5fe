"""Datasets by name: the built-in `shapes`, an .npz file, an image folder, or a TFDS dataset."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from selfsup.data.folders import Arrays, read_folder, to_rgb
from selfsup.data.shapes import SIZE, load_shapes
from selfsup.utils.errors import InputError

KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Dataset:
    """Labelled images in memory.

    Attributes:
        name: the name or path it was loaded by.
        x_train, x_test: images, uint8 [N, 32, 32, 3] in [0, 255].
        y_train, y_test: classes, int64 [N], from 0.
        note: what loading changed, as text; "" for nothing.

    Example:
        >>> images, labels = np.full((4, 32, 32, 3), 51, np.uint8), np.array([0, 1, 2, 2])
        >>> data = Dataset("mine", images, labels, images, labels)
        >>> data.classes, data.mean, data.std
        (3, (0.2, 0.2, 0.2), (1.0, 1.0, 1.0))
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    note: str = ""

    @cached_property
    def mean(self) -> tuple[float, ...]:
        """Mean of the training pixels per channel, in [0, 1], rounded to four digits."""
        return tuple(float(round(m / 255.0, 4)) for m in self.x_train.mean(axis=(0, 1, 2)))

    @cached_property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the training pixels in [0, 1] per channel; 1 for a constant channel."""
        stds = (float(round(self.x_train[..., c].std() / 255.0, 4)) for c in range(3))
        return tuple(std if std > 0 else 1.0 for std in stds)

    @cached_property
    def classes(self) -> int:
        """Number of classes in the training labels."""
        return int(self.y_train.max()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of the SHA-256 of all images and labels."""
        digest = hashlib.sha256()
        for key in KEYS:
            digest.update(np.ascontiguousarray(getattr(self, key)).data)
        return digest.hexdigest()[:16]

    def describe(self) -> dict:
        """Returns name, sizes, normalisation and fingerprint, as recorded in `result.json`."""
        return {
            "name": self.name,
            "train": len(self.x_train),
            "test": len(self.x_test),
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "fingerprint": self.fingerprint,
            "note": self.note,
        }


def load_dataset(name: str, data_dir: str | None = None) -> Dataset:
    """Loads a dataset as 32x32 RGB images. Images of other sizes are resized; `note` then says so.

    Args:
        name: one of
            - "shapes";
            - the path of an .npz file with the keys x_train, y_train, x_test and y_test, in the layout of
              `keras.datasets`, and optionally a text `note`;
            - the path of a folder with train/CLASS/*.png or *.jpg and test/CLASS/...;
            - the name of a TFDS dataset with images and labels.
        data_dir: folder of prepared TFDS data; by default $TFDS_DATA_DIR or TFDS' own.

    Raises:
        InputError: the dataset does not exist or cannot be read as labelled images.
    """
    path = Path(name)
    if name == "shapes":
        arrays, note = load_shapes(), ""
    elif path.is_dir():
        arrays, note = read_folder(path, SIZE)
    elif path.suffix == ".npz" or path.is_file():
        arrays, note = _read_npz(path)
    elif len(path.parts) != 1 or path.suffix or name != path.name:
        raise InputError(f"dataset {name!r} is neither a file nor a folder; check the path")
    else:
        from selfsup.data.tfds import read_tfds

        arrays, note = read_tfds(name, data_dir, SIZE)
    return Dataset(name, *arrays, note=note)


def _read_npz(path: Path) -> tuple[Arrays, str]:
    layout = f"expected {', '.join(KEYS)} in the layout of keras.datasets"
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise InputError(f"{path} has no {', '.join(missing)}; {layout}")
            arrays = [file[key] for key in KEYS]
            notes = [str(file["note"])] if "note" in file and str(file["note"]) else []
    except FileNotFoundError:
        raise InputError(f"no file {path}; check --dataset") from None
    except InputError:
        raise
    except Exception as error:  # NumPy and zipfile raise many types on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as an .npz of arrays ({reason}); create it again") from None
    for images, labels, split in ((*arrays[:2], "train"), (*arrays[2:], "test")):
        _check_arrays(path, images, labels, split)
    x_train, y_train, x_test, y_test = arrays
    y_train, y_test = (labels.reshape(-1).astype(np.int64) for labels in (y_train, y_test))
    if not len(x_train) or not len(x_test):
        raise InputError(f"{path}: x_train and x_test must both contain images")
    if y_train.min() < 0 or len(np.unique(y_train)) < 2:
        raise InputError(f"{path}: y_train must contain at least two classes, numbered from 0")
    if not np.isin(y_test, y_train).all():
        raise InputError(f"{path}: y_test has classes that y_train lacks")
    if x_train.shape[1:] != (SIZE, SIZE, 3) or x_test.shape[1:] != (SIZE, SIZE, 3):
        shape = "x".join(str(n) for n in x_train.shape[1:])
        notes.append(f"images of {shape} resized to {SIZE}x{SIZE} RGB")
        x_train, x_test = (
            np.stack([to_rgb(image, SIZE) for image in images]) for images in (x_train, x_test)
        )
    return (x_train, y_train, x_test, y_test), ", ".join(notes)


def _check_arrays(path: Path, images: np.ndarray, labels: np.ndarray, split: str) -> None:
    """Checks dtype and shape of a split; raises `InputError`."""
    pictures = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not pictures:
        raise InputError(
            f"{path}: x_{split} must be uint8 [N, H, W, 3], [N, H, W, 1] or [N, H, W], "
            f"not {images.dtype} {list(images.shape)}"
        )
    numbers = np.issubdtype(labels.dtype, np.integer)
    if not numbers or labels.ndim not in (1, 2) or not labels.size == len(labels) == len(images):
        raise InputError(
            f"{path}: y_{split} must be whole numbers, one for each of the {len(images)} images, "
            f"not {labels.dtype} {list(labels.shape)}"
        )
