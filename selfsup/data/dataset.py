"""Images in memory or memory-mapped, with or without labels."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from selfsup.utils.errors import InputError

KEYS = ("x_train", "y_train", "x_test", "y_test")
CHUNK = 2**23
"""Bytes that are read at a time, so that a memory-mapped array is never in memory as a whole."""
NAMED = 100
"""Datasets with more classes than this are described without the names of their classes."""


@dataclass(frozen=True)
class Dataset:
    """Images, and labels where there are any.

    Attributes:
        name: the name or path it was loaded by.
        x_train: training images, uint8 [N, S, S, 3] in [0, 255]; may be a `np.memmap`.
        y_train: classes, int64 [N], from 0; None for images without labels.
        x_test, y_test: the same for the test images. None without labels, as nothing is tested then.
        note: what loading changed, as text; "" for nothing.
        class_names: names of the classes in order; () if they have only numbers.
        x_extra: images without labels that are only pre-trained on, uint8 [M, S, S, 3]; None for none.

    Raises:
        InputError: an array has another dtype or shape, there are fewer than two classes, or a test image has
            a class that no training image has.

    Example:
        >>> images = np.zeros((8, 32, 32, 3), np.uint8)
        >>> Dataset("black", images).labelled
        False
        >>> labels = np.array([0, 1, 2, 0])
        >>> data = Dataset("black", images[:4], labels, images[:4], labels, x_extra=images)
        >>> data.classes, data.training_images, data.mean, data.std
        (3, 12, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray | None = None
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    note: str = ""
    class_names: tuple[str, ...] = ()
    x_extra: np.ndarray | None = None

    def __post_init__(self) -> None:
        missing = [name for name in KEYS[1:] if getattr(self, name) is None]
        if missing and len(missing) < 3:
            found = " and ".join(name for name in KEYS[1:] if name not in missing)
            raise InputError(f"dataset {self.name} has {found} but no {' and no '.join(missing)}")
        for key in ("x_train", "x_test", "x_extra"):
            images = getattr(self, key)
            if images is not None or key == "x_train":
                _check_images(self.name, key, images)
                if images.shape[1:] != self.x_train.shape[1:]:
                    raise InputError(
                        f"dataset {self.name}: {key} must have images of {list(self.x_train.shape[1:])} as "
                        f"x_train has, not {list(images.shape[1:])}"
                    )
        if not missing:
            self._check_labels()
        if len(self.class_names) not in (0, self.classes):
            raise InputError(
                f"dataset {self.name} has {len(self.class_names)} class names for {self.classes} classes"
            )

    def _check_labels(self) -> None:
        assert self.y_train is not None
        assert self.y_test is not None
        for split in ("train", "test"):
            images, labels = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            found = (getattr(labels, "dtype", type(labels).__name__), list(np.shape(labels)))
            if (
                not isinstance(labels, np.ndarray)
                or labels.dtype.kind not in "iu"
                or found[1] != [len(images)]
            ):
                raise InputError(
                    f"dataset {self.name}: y_{split} must be whole numbers, one for each of the "
                    f"{len(images)} images, not {found[0]} {found[1]}"
                )
        classes = np.unique(self.y_train)
        if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))):
            raise InputError(
                f"dataset {self.name}: y_train must number at least two classes 0, 1, ... without a gap; "
                f"it has {len(classes)} values from {classes[0]} to {classes[-1]}"
            )
        if not np.isin(self.y_test, classes).all():
            raise InputError(f"dataset {self.name}: y_test has classes that y_train lacks")

    @property
    def labelled(self) -> bool:
        """Whether there are labels, and thus test images."""
        return self.y_train is not None

    @property
    def training_images(self) -> int:
        """Number of images to pre-train on, with and without labels."""
        return len(self.x_train) + (0 if self.x_extra is None else len(self.x_extra))

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.x_train.shape[1]

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of all pixels trained on, per channel, float64 [3] in [0, 255]."""
        levels = np.arange(256)
        counts = np.zeros((3, 256))
        for array in (self.x_train, self.x_extra):
            for images in () if array is None else chunks(array):
                counts += [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)]
        total = counts.sum(axis=1)
        mean = counts @ levels / total
        return mean, np.sqrt((counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total)

    @cached_property
    def mean(self) -> tuple[float, ...]:
        """Mean of the pixels of `x_train` and `x_extra` per channel, in [0, 1], rounded to four digits."""
        return tuple(float(round(mean / 255.0, 4)) for mean in self._moments[0])

    @cached_property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the same pixels, in [0, 1], per channel; 1 for a constant channel."""
        return tuple(float(round(std / 255.0, 4)) or 1.0 for std in self._moments[1])

    @cached_property
    def classes(self) -> int:
        """Number of classes; 0 without labels."""
        return 0 if self.y_train is None else int(self.y_train.max()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of the SHA-256 of all images and labels."""
        digest = hashlib.sha256()
        for key in (*KEYS, "x_extra"):
            array = getattr(self, key)
            if key == "x_extra" and array is not None:
                digest.update(b"x_extra")
            dtype = np.int64 if key.startswith("y") else np.uint8
            for chunk in () if array is None else chunks(array):
                digest.update(np.ascontiguousarray(chunk, dtype).data)
        return digest.hexdigest()[:16]

    @property
    def summary(self) -> str:
        """The numbers of images and classes as text."""
        if self.x_test is None:
            return f"{self.training_images} images without labels"
        extra = "" if self.x_extra is None else f", {len(self.x_extra)} images without labels"
        return (
            f"{len(self.x_train)} training and {len(self.x_test)} test images, {self.classes} classes{extra}"
        )

    def describe(self) -> dict[str, Any]:
        """Returns name, sizes, normalisation and fingerprint, as recorded in `result.json`."""
        found: dict[str, Any] = {
            "name": self.name,
            "train": len(self.x_train),
            "test": 0 if self.x_test is None else len(self.x_test),
            "image_size": self.image_size,
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "fingerprint": self.fingerprint,
            "note": self.note,
        }
        if self.x_extra is not None:
            found["unlabelled"] = len(self.x_extra)
        if 0 < len(self.class_names) <= NAMED:
            found["class_names"] = list(self.class_names)
        return found


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields consecutive sections of an array of about `CHUNK` bytes along its first axis."""
    step = max(1, CHUNK * len(array) // max(1, array.nbytes))
    return (array[start : start + step] for start in range(0, len(array), step))


def _check_images(dataset: str, key: str, images: np.ndarray) -> None:
    shape = np.shape(images)
    square = len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2] > 0 and shape[0] > 0
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or not square:
        raise InputError(
            f"dataset {dataset}: {key} must be square images, uint8 [N, S, S, 3] in 0 to 255, "
            f"not {getattr(images, 'dtype', type(images).__name__)} {list(shape)}"
        )
