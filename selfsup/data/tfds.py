"""Image classification datasets of TFDS as arrays, with one-line errors instead of TFDS' tracebacks."""

import logging
import threading
import urllib.error
import urllib.request
from typing import Any

import numpy as np

from selfsup.data.folders import Arrays, to_rgb
from selfsup.utils.errors import InputError

OTHER_WAYS = (
    "pass a prepared copy as --data_dir, or an .npz file or image folder as --dataset=PATH, "
    "or use the built-in --dataset=shapes"
)
REACHABLE_WITHIN = 5.0  # seconds
JPEG = b"\xff\xd8"
HOST = "https://storage.googleapis.com"


def read_tfds(name: str, data_dir: str | None, size: int) -> tuple[Arrays, str]:
    """Reads a TFDS dataset, downloading it if it is not prepared.

    Args:
        name: the name in TFDS.
        data_dir: folder of prepared data; None for TFDS' default.
        size: height and width to which images are resized.

    Returns:
        The arrays, with "test" or else "validation" as the test split, and a note: whether images are
        stored as JPEG and whether they were resized.

    Raises:
        InputError: TFDS is not installed or has no such dataset, the dataset has no labelled images, or it
            is not prepared and cannot be downloaded.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(
            f"dataset {name!r} needs tensorflow-datasets, which is not installed; {OTHER_WAYS}"
        ) from None
    logging.getLogger("absl").setLevel(logging.ERROR)
    if name.split("/")[0].split(":")[0] not in tfds.list_builders(with_community_datasets=False):
        raise InputError(f"dataset {name!r} is not one of TFDS' datasets; {OTHER_WAYS}")
    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    if not {"image", "label"} <= set(builder.info.features):
        raise InputError(
            f"dataset {name!r} has no images with labels; choose an image classification dataset"
        )
    if not builder.is_prepared():
        where = builder.data_path
        if not _online():
            raise InputError(
                f"dataset {name!r} is not in {where} and cannot be downloaded without a network; {OTHER_WAYS}"
            )
        try:
            builder.download_and_prepare()
        except Exception as error:  # manual download, full disk, lost connection: many types
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"TFDS could not prepare {name!r}: {reason}; {OTHER_WAYS}") from None
    splits = ["train", next((s for s in ("test", "validation") if s in builder.info.splits), None)]
    if "train" not in builder.info.splits or splits[1] is None:
        raise InputError(f"dataset {name!r} has no train and test splits, only {list(builder.info.splits)}")
    arrays: list[np.ndarray] = []
    shapes: set[tuple[int, ...]] = set()
    for split in splits:
        images, labels = [], []
        for example in tfds.as_numpy(builder.as_dataset(split)):
            shapes.add(example["image"].shape)
            images.append(to_rgb(example["image"], size))
            labels.append(example["label"])
        arrays += [np.stack(images), np.array(labels, np.int64)]
    resized = shapes - {(size, size, 3)}
    notes = ["JPEG copies of the images"] if _stored_as_jpeg(builder) else []
    if resized:
        notes.append(f"images (such as {'x'.join(map(str, min(resized)))}) resized to {size}x{size} RGB")
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train, x_test, y_test), ", ".join(notes)


def _stored_as_jpeg(builder: Any) -> bool:
    """Whether the first image is a JPEG, so that its pixels may differ from the published ones."""
    from tensorflow_datasets import as_numpy, decode

    stored = builder.as_dataset("train[:1]", decoders={"image": decode.SkipDecoding()})
    return next(iter(as_numpy(stored)))["image"].startswith(JPEG)


def _online() -> bool:
    """Whether the network answers. Asks in a thread because DNS lookups have no time limit."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(HOST, timeout=REACHABLE_WITHIN)
        except urllib.error.HTTPError:
            answered.set()
        except OSError:
            return
        else:
            answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(REACHABLE_WITHIN)
