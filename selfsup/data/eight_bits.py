"""Pixel values of other types and ranges as 8 bits."""

import numpy as np
from PIL import Image

from selfsup.utils.errors import InputError

OVERSHOOT = 1e-3
"""How far float values may lie beyond black and white; resampling makes such values. They are cut."""


def eight_bits(image: Image.Image) -> Image.Image:
    """Scales modes with more than 8 bits per channel to mode L."""
    if image.mode == "F":
        values = np.asarray(image)
        low, high = values.min(), values.max()
        kind = float_range(low, high)
        if kind is None:
            raise InputError(f"float values must lie in [0, 1] or [0, 255], not in [{low:.4g}, {high:.4g}]")
        return Image.fromarray(float_bytes(values, kind))
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    low, high = values.min(), values.max()
    if low < 0 or high > 65535:
        raise InputError(f"integer values must lie in [0, 65535], not in [{low}, {high}]")
    if 0 < high <= 255:
        raise InputError(
            f"integer values only up to {high}: nearly black, or 8-bit values; store the image with 8 bits"
        )
    clear = image.info.get("transparency")  # the grey that is transparent
    if isinstance(clear, int):
        values[values == clear] = 65535
    return Image.fromarray(high_byte(values))


def float_range(low: float, high: float) -> int | None:
    """Returns what is white in float values from `low` to `high`: 1 or 255.

    Returns:
        The value of white; None if the values lie in neither range, or only slightly above 1, like those of
        normalised images.

    Example:
        >>> float_range(0.0, 1.0), float_range(0.0, 200.0), float_range(0.0, 1.8)
        (1, 255, None)
    """
    if not -OVERSHOOT <= low <= high <= 255 + OVERSHOOT or 1 + OVERSHOOT < high <= 2:  # also for NaN
        return None
    return 1 if high <= 1 + OVERSHOOT else 255


def float_bytes(values: np.ndarray, white: int) -> np.ndarray:
    """Converts float values to uint8, rounded, with `white` as 255."""
    return np.rint(values * (255 / white)).clip(0, 255).astype(np.uint8)


def high_byte(values: np.ndarray) -> np.ndarray:
    """Scales [0, 65535] to uint8 [0, 255]: value / 257, rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
