"""Image datasets of TensorFlow Datasets (TFDS) as arrays, with one-line errors instead of tracebacks."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from selfsup.data.dataset import Dataset
from selfsup.data.images import describe, to_rgb
from selfsup.data.labels import number, split_off
from selfsup.data.tfds_builder import download, find_builder
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path

TESTS = ("test", "validation")
UNLABELLED = ("unlabelled", "unlabeled", "unsupervised")
NONE = -1
"""The label of images without one, such as the test images of ImageNet."""
BATCH = 256
"""Images of a fixed size that are taken from TensorFlow at a time."""
JPEG = b"\xff\xd8"
JPEG_COPIES = "jpeg_only.json"
"""A file beside the records: the indices, by split, of images that are JPEG copies of the published ones."""


def read_tfds(name: str, data_dir: str | None, image_size: int) -> Dataset:
    """Reads a TFDS dataset, downloading it if it is not prepared.

    The test images are those of the split "test", or of "validation" if there is no such split or it has no
    labels. Without either, a tenth of the training images is held out. Training images without a label, and
    those of the split "unlabelled", become `x_extra`.

    Args:
        name: NAME, NAME/CONFIG, NAME:VERSION or NAME/CONFIG:VERSION of a TFDS dataset, or of one that is
            prepared in `data_dir`.
        data_dir: folder of prepared data; None for $TFDS_DATA_DIR or else TFDS's default.
        image_size: height and width to which images are cropped and resized.

    Raises:
        InputError: there is no such dataset, it has no images, its labels are not one class per image, the
            test images have no labels, it is damaged, or it is not prepared and cannot be downloaded.
    """
    folder = None if data_dir is None else str(user_path("data_dir", data_dir))
    builder = find_builder(name, folder)
    reader = _Reader(builder, name, image_size)
    if not builder.is_prepared():
        download(builder, name)
    splits = builder.info.splits
    if "train" not in splits:
        raise InputError(f"dataset {name!r} has no split train, only {', '.join(splits)}; choose another")
    images, labels = reader.read("train")
    known = labels != NONE
    tests = reader.test_split() if known.any() else None
    extra = [reader.read(split)[0] for split in UNLABELLED if split in splits]
    if not known.any():
        return Dataset(name, images, note=reader.note(), x_extra=_joined(extra))
    if not known.all():
        extra.append(images[~known])
        images, labels = images[known], labels[known]
    x_test, y_test = reader.read(tests) if tests else (None, None)
    if x_test is not None and y_test is not None and (y_test == NONE).any():
        x_test, y_test = x_test[y_test != NONE], y_test[y_test != NONE]
        reader.notes.append("test images without a label left out")
    y_train, y_test, names, renumbered = number(labels, y_test, f"dataset {name!r}")
    values = [int(label) for label in names] or range(int(y_train.max()) + 1)
    reader.notes.append(renumbered)
    if x_test is None or y_test is None:
        images, y_train, x_test, y_test, held_out = split_off(images, y_train)
        reader.notes.append(held_out)
    names = reader.class_names(values) or names
    return Dataset(name, images, y_train, x_test, y_test, reader.note(), names, _joined(extra))


class _Reader:
    """Reads splits of a dataset and keeps what is to be noted.

    Attributes:
        notes: what was done, as text.
    """

    def __init__(self, builder: Any, name: str, size: int) -> None:
        """Checks the features. Raises InputError if there are no images, or other labels than classes."""
        self._builder, self._name, self._size = builder, name, size
        features = builder.info.features
        found = dict(features.items()) if hasattr(features, "items") else {}
        image, label = found.get("image"), found.get("label")
        pixels = getattr(image, "np_dtype", None) in (np.uint8, np.uint16)
        if image is None or len(image.shape or ()) != 3 or not pixels:
            raise InputError(f"dataset {name!r} has no 8-bit images named image; choose an image dataset")
        if label is not None and (label.shape != () or not np.issubdtype(label.np_dtype, np.integer)):
            raise InputError(
                f"dataset {name!r} does not have one class per image; choose a classification dataset"
            )
        self._image, self._label = image, label
        self._sizes: set[tuple[int, int]] = set()
        self._read: list[str] = []
        self.notes: list[str] = []

    def read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images of a split, uint8 [N, S, S, 3], and their labels, int64 [N] (NONE for none)."""
        count = self._builder.info.splits[split].num_examples
        images = np.empty((count, self._size, self._size, 3), np.uint8)
        labels = np.full(count, NONE, np.int64)
        wanted = ("image",) if self._label is None or split in UNLABELLED else ("image", "label")
        found = 0
        for found, example in enumerate(self._examples(split, wanted), 1):
            if found > count:
                break
            image = example["image"]
            self._sizes.add((image.shape[1], image.shape[0]))
            ready = image.shape == images.shape[1:] and image.dtype == np.uint8
            images[found - 1] = image if ready else to_rgb(image, self._size)
            labels[found - 1] = example.get("label", NONE)
        if found != count or not count:
            raise self._damaged(f"{found} of {count} images in the split {split}")
        self._read.append(split)
        return images, labels

    def test_split(self) -> str | None:
        """Returns the split of `TESTS` to test on; None if there is none.

        Raises:
            InputError: none of them has labels.
        """
        present = [split for split in TESTS if split in self._builder.info.splits]
        for split in present:
            if any(example["label"] != NONE for example in self._examples(split, ("label",))):
                if split != TESTS[0]:
                    reason = ", as those of the split test have no labels" if TESTS[0] in present else ""
                    self.notes.append(f"test images are those of the split {split}{reason}")
                return split
        if present:
            raise InputError(
                f"dataset {self._name!r} has no labels in its split {' or '.join(present)}; choose another "
                "dataset, or write it as an .npz file with labels"
            )
        return None

    def class_names(self, labels: Any) -> tuple[str, ...]:
        """Returns the names of the classes with these labels; () if they have only numbers."""
        names = getattr(self._label, "names", None) or ()
        chosen = tuple(names[label] for label in labels if label < len(names))
        numbers = all(name == str(label) for name, label in zip(chosen, labels, strict=False))
        return () if numbers or len(chosen) < len(labels) else chosen

    def note(self) -> str:
        """Returns all notes, and whether images are stored as JPEG or were resized."""
        notes = [self._jpeg(), describe(self._sizes, self._size), *self.notes]
        return "; ".join(note for note in notes if note)

    def _jpeg(self) -> str:
        """Tells of JPEG copies, whose pixels differ from the published ones."""
        listed = self._builder.data_path / JPEG_COPIES
        if listed.exists():
            try:
                copies = json.loads(listed.read_text())
                count = sum(len(copies.get(split, ())) for split in self._read)
            except (ValueError, AttributeError, TypeError):
                raise self._damaged(f"{JPEG_COPIES} is not a list of indices by split") from None
            total = sum(self._builder.info.splits[split].num_examples for split in self._read)
            return f"{count:,} of {total:,} images are JPEG copies" if count else ""
        from tensorflow_datasets import decode

        first = next(self._examples("train[:1]", ("image",), {"image": decode.SkipDecoding()}))
        return "JPEG copies of the images" if first["image"].startswith(JPEG) else ""

    def _examples(self, split: str, keys: tuple[str, ...], decoders: Any = None) -> Iterator[dict[str, Any]]:
        """Yields the features `keys` of the examples in the order of the records."""
        from tensorflow_datasets import ReadConfig, as_numpy, decode

        config = ReadConfig(try_autocache=False)  # a cache warns of splits that are not read to their end
        partial = decode.PartialDecoding(dict.fromkeys(keys, True), decoders=decoders)
        fixed = "image" not in keys or (decoders is None and None not in self._image.shape)
        options = {"batch_size": BATCH if fixed else None, "decoders": partial, "read_config": config}
        try:
            for found in as_numpy(self._builder.as_dataset(split=split, **options)):
                if not fixed:
                    yield found
                    continue
                for values in zip(*(found[key] for key in keys), strict=True):
                    yield dict(zip(keys, values, strict=True))
        except Exception as error:  # TensorFlow and Pillow raise many types on damaged data
            raise self._damaged((str(error).strip() or type(error).__name__).splitlines()[0]) from None

    def _damaged(self, reason: str) -> InputError:
        where = self._builder.data_path
        return InputError(f"dataset {self._name!r} in {where} is damaged ({reason}); prepare it again")


def _joined(arrays: list[np.ndarray]) -> np.ndarray | None:
    if len(arrays) < 2:
        return arrays[0] if arrays else None
    return np.concatenate(arrays)
