"""Conversion of arrays of images of any usual dtype and shape to uint8 [N, S, S, 3]."""

from collections.abc import Mapping

import numpy as np

from selfsup.data import images as single
from selfsup.data.dataset import chunks
from selfsup.data.eight_bits import float_bytes, float_range, high_byte
from selfsup.utils.errors import InputError

SHAPES = "[N, H, W], [N, H, W, 1], [N, H, W, 3], [N, H, W, 4], [N, 3, H, W] or [N, 1, H, W]"
FLOATS, BYTES, WORDS = "in 0 to 1", "in 0 to 255", "in 0 to 65535"
DARK = 2**14
"""16-bit images without larger values may have fewer bits, such as 12."""
NARROW = 4
"""Heights and widths up to this could as well be a number of channels."""


def channels_last(images: np.ndarray, where: str) -> np.ndarray:
    """Returns a view of the images with the channels in the last axis.

    Args:
        images: [N, H, W], [N, H, W, C] with 1, 3 or 4 channels, or [N, C, H, W] with 1 or 3 channels and
            H, W > 4.
        where: the array and its source, for error messages.

    Returns:
        [N, H, W] or [N, H, W, C].

    Raises:
        InputError: the array has another shape, no images, or a shape that can be read in two ways.

    Example:
        >>> channels_last(np.zeros((8, 3, 32, 48), np.uint8), "x_train").shape
        (8, 32, 48, 3)
    """
    shape = images.shape
    if len(shape) in (3, 4) and not images.size:
        raise InputError(f"{where} has no pixels: {images.dtype} {list(shape)}")
    first = len(shape) == 4 and shape[1] in (1, 3)
    last = len(shape) == 4 and shape[3] in (1, 3, 4)
    if first and last:
        raise InputError(
            f"{where} {list(shape)} may have its channels first or last; resize the images to more than "
            f"{NARROW} pixels, channels last"
        )
    grey = len(shape) == 3 and min(shape[1:]) > NARROW
    if first and min(shape[2:]) > NARROW:
        return np.moveaxis(images, 1, 3)
    if not (grey or last):
        raise InputError(f"{where} must be images, {SHAPES}, not {images.dtype} {list(shape)}")
    return images


def value_range(images: np.ndarray, where: str) -> tuple[str, float]:
    """Finds which numbers stand for black and white, and the largest value.

    Args:
        images: of any shape. Every value is checked, a chunk at a time.
        where: the array and its source, for error messages.

    Returns:
        FLOATS, BYTES or WORDS: floats up to 1 are FLOATS, 16-bit images with no value above 255 are BYTES.
        And the largest value; 255 for uint8, whose values are not scanned.

    Raises:
        InputError: the dtype is neither integer nor float, or values lie in none of these ranges.

    Example:
        >>> value_range(np.array([0.0, 0.5, 1.0]), "x_train")
        ('in 0 to 1', 1.0)
    """
    dtype = images.dtype
    if dtype == np.uint8:
        return BYTES, 255
    if dtype.kind not in "iuf":
        raise InputError(f"{where} must be uint8 in 0 to 255, not {dtype}; convert it")
    ranges = [(chunk.min(), chunk.max()) for chunk in chunks(images)]
    low, high = np.min(ranges).item(), np.max(ranges).item()
    if dtype.kind == "f":
        if not np.isfinite([low, high]).all():
            raise InputError(f"{where} has values that are infinite or not a number ({dtype})")
        white = float_range(low, high)
        if white is None:
            raise InputError(
                f"{where} is {dtype} from {low:.4g} to {high:.4g}, expected 0 to 1 or 0 to 255; "
                "give the images as they are before normalisation"
            )
        return FLOATS if white == 1 else BYTES, high
    if dtype.kind == "u" and dtype.itemsize == 2 and high > 255:
        return WORDS, high
    if low < 0 or high > 255:
        raise InputError(f"{where} is {dtype} from {low} to {high}, expected 0 to 255; convert it to uint8")
    return BYTES, high


def as_rgb(
    arrays: Mapping[str, np.ndarray], size: int, source: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Converts arrays of images to RGB, cropped and resized; see `selfsup.data.images.to_rgb`.

    Args:
        arrays: images by key, in the shapes of `channels_last` and the ranges of `value_range`.
        size: height and width of the result.
        source: the name of the dataset, for error messages.

    Returns:
        The arrays, uint8 [N, size, size, 3], and notes about what was changed. Arrays that have this form
        already are returned as they are, memory-mapped ones too.

    Raises:
        InputError: as the two functions, and if float arrays have different ranges.

    Example:
        >>> found, notes = as_rgb({"x_train": np.ones((2, 28, 28), np.float32)}, 32, "grey.npz")
        >>> found["x_train"].shape, int(found["x_train"].max()), notes[0]
        ((2, 32, 32, 3), 255, 'x_train in 0 to 1, scaled to 0 to 255')
    """
    views = {key: channels_last(array, f"{source}: {key}") for key, array in arrays.items()}
    scanned = {key: value_range(array, f"{source}: {key}") for key, array in views.items()}
    ranges = {key: values for key, (values, _) in scanned.items()}
    _agree(views, ranges, source)
    remarks: dict[str, list[str]] = {}
    for key, view in views.items():
        if view is not arrays[key]:
            remarks.setdefault("with channels first, moved last", []).append(key)
        if view.dtype.kind == "f" or ranges[key] == WORDS:
            done = "rounded" if ranges[key] == BYTES else "scaled to 0 to 255"
            remarks.setdefault(f"{ranges[key]}, {done}", []).append(key)
        if view.dtype.kind == "u" and view.dtype.itemsize == 2:
            high = scanned[key][1]
            taken = "taken as 8 bits" if ranges[key] == BYTES else "dark: if they have fewer bits, scale them"
            if 0 < high < DARK:
                remarks.setdefault(f"of 16 bits with values up to {high}, {taken}", []).append(key)
        if view.ndim == 4 and view.shape[3] == 4:
            remarks.setdefault("with an alpha channel, laid on white", []).append(key)
    notes = [f"{' and '.join(keys)} {remark}" for remark, keys in remarks.items()]
    resized = single.describe({(view.shape[2], view.shape[1]) for view in views.values()}, size)
    notes += [resized] if resized else []
    return {key: _convert(view, ranges[key], size) for key, view in views.items()}, notes


def _agree(arrays: Mapping[str, np.ndarray], ranges: Mapping[str, str], source: str) -> None:
    """Checks that arrays of one dtype have one range. Arrays that are all black have any."""
    found: dict[str, dict[str, str]] = {}
    for key, array in arrays.items():
        kind = "f" if array.dtype.kind == "f" else array.dtype.str
        found.setdefault(kind, {})[key] = ranges[key]
    for same in found.values():
        if len(set(same.values())) < 2:
            continue
        seen = {key: values for key, values in same.items() if any(c.any() for c in chunks(arrays[key]))}
        if len(set(seen.values())) > 1:
            different = ", ".join(f"{key} {values}" for key, values in seen.items())
            raise InputError(f"{source}: the images have different ranges: {different}")


def _convert(images: np.ndarray, values: str, size: int) -> np.ndarray:
    if images.dtype == np.uint8 and images.shape[1:] == (size, size, 3):
        return images if isinstance(images, np.memmap) else np.ascontiguousarray(images)
    converted, start = np.empty((len(images), size, size, 3), np.uint8), 0
    for chunk in chunks(images):
        pixels = np.ascontiguousarray(_to_bytes(chunk, values))
        stop = start + len(pixels)
        if pixels.shape[1:] == (size, size, 3):
            converted[start:stop] = pixels
        else:
            for index, image in enumerate(pixels, start):
                converted[index] = single.to_rgb(image, size)
        start = stop
    return converted


def _to_bytes(images: np.ndarray, values: str) -> np.ndarray:
    if values == WORDS:
        return high_byte(images)
    if images.dtype.kind == "f":
        exact = images.astype(np.promote_types(images.dtype, np.float32))
        return float_bytes(exact, 1 if values == FLOATS else 255)
    return images.astype(np.uint8, copy=False)
