"""Converts images as users have them (files, or arrays of any size) to batches for an encoder."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any

import keras
import numpy as np
from PIL import Image

from selfsup.data.images import quiet_pillow, read_image, to_rgb
from selfsup.utils.errors import InputError, first_line
from selfsup.utils.files import user_path

_EXPECTED = "expected uint8 or float [H, W, 3] or [N, H, W, 3] in 0 to 255"
_THREADS = 8


def batches(images: Any, size: int, batch_size: int) -> tuple[Iterator[np.ndarray], bool]:
    """Divides images into batches of one size.

    An image of another size is cropped to its central square and resized as the training images were, by
    Pillow; float values are rounded before that.

    Args:
        images: one image, an array or tensor of images, or a list; see `Encoder`.
        size: height and width of the result.
        batch_size: images per batch; the last batch may be smaller.

    Returns:
        An iterator of float32 [B, size, size, 3] in [0, 255], and whether `images` is a single image.

    Raises:
        InputError: there are no images, or their shape, dtype or range is wrong. The images of a list
            are checked, and files are read, only while iterating.

    Example:
        >>> found, single = batches([np.zeros((40, 32, 3), np.uint8), np.zeros((9, 9, 3))], 8, batch_size=10)
        >>> next(found).shape, single
        ((2, 8, 8, 3), False)
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise InputError("there are no images in an empty list")
        return _from_list(images, size, batch_size), False
    if isinstance(images, (str, PathLike, Image.Image)):
        return _from_list([images], size, batch_size), True
    array = _as_array(images, "images")
    _check(array, "images")
    single = array.ndim == 3
    return _from_array(array[None] if single else array, size, batch_size), single


def _from_list(images: Sequence[Any], size: int, batch_size: int) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(images), batch_size):
            places = range(start, min(start + batch_size, len(images)))
            with quiet_pillow():
                pixels = list(pool.map(lambda place: _one(images[place], size, place), places))
            yield np.stack(pixels)


def _from_array(images: np.ndarray, size: int, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        if chunk.shape[1:3] != (size, size):
            chunk = np.stack([_square(image, size) for image in chunk])
        yield chunk.astype(np.float32)


def _one(image: Any, size: int, index: int) -> np.ndarray:
    """Returns an image of a list, a file, Pillow image, array or tensor, as float32 [size, size, 3]."""
    if isinstance(image, (str, PathLike)):
        return read_image(user_path("images", str(image)), size)[0].astype(np.float32)
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image, size).astype(np.float32)
        except OSError as error:  # the file behind it is read only now
            raise InputError(f"image {index} cannot be decoded ({first_line(error)})") from None
    where = f"image {index} of the list"
    array = _as_array(image, where)
    if array.ndim != 3:
        raise InputError(f"{where}: {_describe(array)}, expected [H, W, 3]")
    _check(array, where)
    return (array if array.shape[:2] == (size, size) else _square(array, size)).astype(np.float32)


def _as_array(images: Any, where: str) -> np.ndarray:
    try:
        if keras.ops.is_tensor(images):
            images = keras.ops.convert_to_numpy(images)
        array = np.asarray(images)
        if array.dtype.kind == "O":
            raise TypeError
    except Exception:  # objects of other libraries raise many types
        raise InputError(f"{where}: {type(images).__name__}, {_EXPECTED}, or a file name") from None
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _check(images: np.ndarray, where: str) -> None:
    """Checks dtype, shape and range of images [H, W, 3] or [N, H, W, 3]."""
    found = f"{where}: {_describe(images)}"
    if images.dtype.kind not in "uif" or images.ndim not in (3, 4):
        raise InputError(f"{found}, {_EXPECTED}")
    if images.shape[-1] != 3:
        if images.shape[-3] == 3:
            raise InputError(f"{found}, channels first; move them to the end: numpy.moveaxis(images, -3, -1)")
        raise InputError(f"{found}, {_EXPECTED}")
    if not images.size:
        raise InputError(f"{found}, there are no images")
    if images.dtype == np.uint8:
        return
    low, high = images.min(), images.max()  # NaN if any value is
    if np.isnan(low):
        raise InputError(f"{found} with values that are not a number, {_EXPECTED}")
    if low < 0 or high > 255:
        raise InputError(f"{found} from {low:g} to {high:g}, {_EXPECTED}")
    if 0 < high <= 1 and images.dtype.kind == "f":
        raise InputError(f"{found} in 0 to 1, expected 0 to 255; multiply by 255")


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """Crops and resizes one image [H, W, 3] in [0, 255] to uint8 [size, size, 3]."""
    rounded = np.rint(image) if image.dtype.kind == "f" else image
    return to_rgb(np.ascontiguousarray(rounded.astype(np.uint8)), size)
