"""Pure functions on batches of images: crop and resize, flip, colour. Parameters are per image.

Definitions are torchvision's (`torchvision.transforms.v2`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from selfsup.utils.errors import InputError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601, as Pillow's mode L)."""


def check_moments(mean: Sequence[float], std: Sequence[float]) -> None:
    """Checks the mean and standard deviation of pixels in [0, 1].

    Raises:
        InputError: they are not three numbers each, in [0, 1] and (0, 1].
    """
    in_range = all(0 <= value <= 1 for value in mean) and all(0 < value <= 1 for value in std)
    if not len(mean) == len(std) == 3 or not in_range:
        raise InputError(
            f"mean and std must be three numbers each, in [0, 1] and above 0, not {tuple(mean)} and "
            f"{tuple(std)}; divide those of values in [0, 255] by 255"
        )


def transform(pixels: Any, drawn: dict[str, Any]) -> Any:
    """Applies drawn parameters: crop and resize, flip, colour jitter, grey and, if drawn, blur.

    Args:
        pixels: float32 [B, H, W, 3] in [0, 1], square.
        drawn: what `Augmentation.parameters` returns.

    Returns:
        float32 [B, H, W, 3] in [0, 1].
    """
    pixels = crop_and_flip(pixels, drawn)
    pixels = ops.where(_per_image(drawn["jitter"], 4), _colour_jitter(pixels, drawn), pixels)
    pixels = ops.where(_per_image(drawn["grey"], 4), grey(pixels), pixels)
    if "blur" not in drawn:
        return pixels
    blurred = gaussian_blur(pixels, drawn["sigma"], kernel_size(pixels.shape[1]))
    return ops.where(_per_image(drawn["blur"], 4), blurred, pixels)


def crop_and_flip(pixels: Any, drawn: dict[str, Any]) -> Any:
    """Crops and flips square images, float32 [B, H, W, 3]; a crop is resized to the whole image."""
    size = pixels.shape[1]
    rows = _bilinear(drawn["top"], drawn["height"], size)
    columns = _bilinear(drawn["left"], drawn["width"], size)
    columns = ops.where(_per_image(drawn["flip"], 3), ops.flip(columns, axis=1), columns)
    pixels = ops.einsum("bih,bhwc->biwc", rows, pixels)
    return ops.einsum("bjw,biwc->bijc", columns, pixels)


def _per_image(values: Any, rank: int) -> Any:
    return ops.reshape(values, (-1,) + (1,) * (rank - 1))


def _bilinear(start: Any, length: Any, size: int) -> Any:
    """Matrices [B, size, size] that resize the pixels [start, start + length) of a line to `size`.

    Bilinear with half-pixel centres, as Pillow and torchvision resize upwards; a crop is never larger
    than the image, so that no smoothing filter is called for.
    """
    start, length = start[:, None], length[:, None]
    target = (ops.arange(size, dtype="float32") + 0.5) * (length / size) - 0.5
    centre = start + ops.clip(target, 0.0, length - 1.0)
    distance = ops.abs(centre[:, :, None] - ops.arange(size, dtype="float32"))
    return ops.maximum(1.0 - distance, 0.0)


def _colour_jitter(pixels: Any, drawn: dict[str, Any]) -> Any:
    """The four adjustments of each image in its own order.

    Three of them blend the image with something, so one blend with per-image parameters serves all three;
    the expensive one, hue, is applied once, between those before and those after it.
    """
    order = drawn["order"]
    hue_place = order[:, 3]

    def blend(pixels: Any, place: int, active: Any) -> Any:
        black, mean, luma = (active & (order[:, index] == place) for index in range(3))
        factor = ops.where(
            black,
            drawn["brightness"],
            ops.where(mean, drawn["contrast"], ops.where(luma, drawn["saturation"], 1.0)),
        )
        own = grey(pixels)
        other = ops.where(_per_image(luma, 4), own, 0.0)
        other = ops.where(_per_image(mean, 4), ops.mean(own, axis=(1, 2), keepdims=True), other)
        return ops.clip(other + _per_image(factor, 4) * (pixels - other), 0.0, 1.0)

    for place in range(3):
        pixels = blend(pixels, place, hue_place > place)
    pixels = adjust_hue(pixels, _per_image(drawn["hue"], 4))
    for place in range(1, 4):
        pixels = blend(pixels, place, hue_place < place)
    return pixels


def grey(pixels: Any) -> Any:
    """Luma (ITU-R 601, as Pillow's mode L): [B, H, W, 3] -> [B, H, W, 1]."""
    red, green, blue = (pixels[..., c : c + 1] for c in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def adjust_hue(pixels: Any, turns: Any) -> Any:
    """Turn the hue of HSV by a part of the circle in [-0.5, 0.5]."""
    red, green, blue = (pixels[..., c] for c in range(3))
    value = ops.max(pixels, axis=-1)
    chroma = value - ops.min(pixels, axis=-1)
    safe = ops.where(chroma > 0, chroma, 1.0)
    # Not `value == red`: a compiler may round the two differently, and none of the three would be equal.
    red_most, green_most = (red >= green) & (red >= blue), green >= blue
    sixths = ops.where(
        red_most,
        (green - blue) / safe,
        ops.where(green_most, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    sixths = sixths + 6.0 * turns[..., 0]
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = ops.mod(offset + sixths, 6.0)
        channels.append(value - chroma * ops.clip(ops.minimum(k, 4.0 - k), 0.0, 1.0))
    return ops.stack(channels, axis=-1)


def kernel_size(size: int) -> int:
    """Returns the width of the blur's kernel for images of `size` pixels: an odd tenth, 9 for 96.

    Example:
        >>> [kernel_size(size) for size in (32, 64, 96, 224)]
        [3, 7, 9, 23]
    """
    return max(3, 2 * (size // 20) + 1)


def gaussian_blur(pixels: Any, sigma: Any, width: int) -> Any:
    """Blurs each image with its own Gaussian kernel, with reflected borders (torchvision's `gaussian_blur`).

    Args:
        pixels: float32 [B, H, W, 3].
        sigma: standard deviation in pixels, float32 [B], above 0.
        width: pixels of the kernel per side, odd and below 2 * H.

    Returns:
        float32 [B, H, W, 3].
    """
    half, size = width // 2, pixels.shape[1]
    distance = ops.arange(width, dtype="float32") - float(half)
    kernel = ops.exp(-0.5 * ops.square(distance / sigma[:, None]))
    kernel = kernel / ops.sum(kernel, axis=1, keepdims=True)
    # As matrices, because XLA's matrix products are much faster on CPUs than sums of shifted images.
    matrices = ops.einsum("bt,tij->bij", kernel, _reflected_shifts(size, width))
    pixels = ops.einsum("bih,bhwc->biwc", matrices, pixels)
    return ops.einsum("bjw,biwc->bijc", matrices, pixels)


def _reflected_shifts(size: int, width: int) -> np.ndarray:
    """Returns the matrices of shifts by -half to half pixels with reflected borders, [width, size, size]."""
    positions = np.pad(np.arange(size), width // 2, mode="reflect")
    return np.stack([np.eye(size, dtype=np.float32)[positions[tap : tap + size]] for tap in range(width)])
