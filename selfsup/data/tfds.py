"""TFDS image classification as arrays, with one clear line where TFDS cannot help."""

import logging
import threading
import urllib.error
import urllib.request
from typing import Any

import numpy as np

from selfsup.data.folders import to_rgb
from selfsup.utils.errors import InputError

THREE_WAYS = (
    "give a prepared copy with --data_dir, or an .npz or image folder as --dataset=PATH, "
    "or use the built-in --dataset=shapes"
)
REACHABLE_WITHIN = 5.0
JPEG = b"\xff\xd8"
HOST = "https://storage.googleapis.com"


def read_tfds(name: str, data_dir: str | None, size: int) -> tuple[list[np.ndarray], str]:
    """x_train, y_train, x_test, y_test of a TFDS dataset, and a note: stored as JPEG, resized.

    Raises:
        InputError: TFDS is not installed or has no such dataset, the dataset has no images with labels,
            or it is not prepared and cannot be fetched.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(
            f"dataset {name!r} needs tensorflow-datasets, not installed here; {THREE_WAYS}"
        ) from None
    logging.getLogger("absl").setLevel(logging.ERROR)
    if name.split("/")[0].split(":")[0] not in tfds.list_builders(with_community_datasets=False):
        raise InputError(f"dataset {name!r} is not one of TFDS; {THREE_WAYS}")
    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    if not {"image", "label"} <= set(builder.info.features):
        raise InputError(
            f"dataset {name!r} has no images with labels; choose an image classification dataset"
        )
    if not builder.is_prepared():
        where = builder.data_path
        if not _online():
            raise InputError(
                f"dataset {name!r} is not in {where} and cannot be fetched without a network; {THREE_WAYS}"
            )
        try:
            builder.download_and_prepare()
        except Exception as error:  # a manual download, a full disk, a lost connection: TFDS has many
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"TFDS could not prepare {name!r}: {reason}; {THREE_WAYS}") from None
    splits = ["train", next((s for s in ("test", "validation") if s in builder.info.splits), None)]
    if "train" not in builder.info.splits or splits[1] is None:
        raise InputError(f"dataset {name!r} has no train and test splits, only {list(builder.info.splits)}")
    arrays, shapes = [], set()
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
    return arrays, ", ".join(notes)


def _stored_as_jpeg(builder: Any) -> bool:
    """Whether the first image is a JPEG, which is not to the bit what was photographed or published."""
    from tensorflow_datasets import as_numpy, decode

    stored = builder.as_dataset("train[:1]", decoders={"image": decode.SkipDecoding()})
    return next(iter(as_numpy(stored)))["image"].startswith(JPEG)


def _online() -> bool:
    """Whether the network answers, asked in the background: name look-ups have no time limit of their own."""
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
