"""Datasets by name: the built-in `shapes`, files of arrays, image folders, and TFDS datasets."""

import dataclasses
from pathlib import Path

from selfsup.data.arrays import is_npy_folder, read_npy_folder, read_npz
from selfsup.data.dataset import Dataset
from selfsup.data.folders import read_folder
from selfsup.data.shapes import read_shapes
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path

PREFIX = "tfds:"


def load_dataset(
    name: str,
    data_dir: str | None = None,
    *,
    image_size: int = 32,
    cache_dir: str | Path | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Loads a dataset as square RGB images. `note` says what was changed.

    Args:
        name: one of
            - "shapes";
            - the path of an .npz file, or of a folder of .npy files, with the arrays x_train and, for
              labelled images, y_train, x_test and y_test (see `selfsup.data.arrays`);
            - the path of a folder of images (see `selfsup.data.folders`);
            - the name of a TFDS dataset, such as "cifar10", "cifar10:3.0.2" or "imagenet_resized/32x32". With
              "tfds:" in front, as in "tfds:cifar10", it is never taken for a path.
        data_dir: folder of prepared TFDS data; by default $TFDS_DATA_DIR or TFDS's own.
        image_size: height and width in pixels to which images are cropped and resized.
        cache_dir: folder in which decoded image files are kept, as memory-mapped arrays.
        skip_broken: whether to leave out image files that cannot be read.

    Returns:
        The dataset, with images uint8 [N, image_size, image_size, 3].

    Raises:
        InputError: the dataset does not exist or cannot be read, or the name is that of a folder here as well
            as of a TFDS dataset.

    Example:
        >>> data = load_dataset("shapes", image_size=16)
        >>> data.x_train.shape, data.classes
        ((10000, 16, 16, 3), 10)
    """
    if not name.strip():
        raise InputError(
            f"dataset {name!r} is not a name; expected a path, shapes, or the name of a TFDS dataset"
        )
    if name.startswith(PREFIX):
        from selfsup.data.tfds import read_tfds  # imports TensorFlow

        return read_tfds(name.removeprefix(PREFIX), data_dir, image_size)
    if name == "shapes":
        data = read_shapes(image_size)
        unused = "built in; not the folder here, which is ./shapes" if Path(name).exists() else ""
        return dataclasses.replace(data, note="; ".join(filter(None, (data.note, unused))))
    path = user_path("dataset", name)
    if name.isidentifier() and path.exists():
        from selfsup.data.tfds_builder import is_listed

        if is_listed(name):
            kind = "folder" if path.is_dir() else "file"
            raise InputError(
                f"dataset {name!r} is both a {kind} here and a TFDS dataset; "
                f"write ./{name} for the {kind} or {PREFIX}{name} for TFDS"
            )
    if path.is_dir() and is_npy_folder(path):
        return read_npy_folder(name, path, image_size)
    if path.is_dir():
        return read_folder(name, path, image_size, cache_dir, skip_broken)
    if path.suffix == ".npz" or path.is_file():
        return read_npz(name, path, image_size)
    return load_dataset(PREFIX + name, data_dir, image_size=image_size)
