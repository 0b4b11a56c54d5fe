"""Two random views of every image of a batch, on the device, with torchvision's meaning.

Random numbers are drawn once for the whole batch (`draw`), turned into the parameters of each image, and
applied by pure functions of `keras.ops`. Drawing is stateless: the same seed gives the same views.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import keras
from keras import ops

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
CROP_TRIES = 10
FLIP_RATE = 0.5
JITTER_RATE = 0.8
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
GREY_RATE = 0.2
LUMA = (0.299, 0.587, 0.114)

_COLUMNS = 2 * CROP_TRIES + 2 + 2 + len(JITTER) + len(JITTER) + 1


def two_views(
    images: Any,
    seed: Any,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    part: Any = 0,
    parts: int = 1,
) -> tuple[Any, Any]:
    """Two independently augmented, normalised views of each image.

    Args:
        images: uint8 [B, H, W, 3], square.
        seed: a whole number, or two of them as an int32 [2] tensor. The same seed, the same views (on
            one backend: each has its own generator).
        mean, std: of the training images, per channel, in [0, 1].
        part, parts: which of how many equal parts of a batch the images are, from 0. Each image gets the
            views that it would get in the whole batch.

    Returns:
        view1, view2: float32 [B, H, W, 3], (augmented value in [0, 1] - mean) / std.
    """
    seed = ops.convert_to_tensor(seed, "int32")
    if len(seed.shape) == 0:
        seed = ops.stack([seed, ops.zeros_like(seed)])
    return _compiled(tuple(mean), tuple(std), parts)(images, seed, ops.convert_to_tensor(part, "int32"))


@cache
def _compiled(mean: tuple[float, ...], std: tuple[float, ...], parts: int) -> Any:
    """The whole augmentation as one function, compiled by XLA on TensorFlow (four times as fast)."""

    def views(images: Any, seed: Any, part: Any) -> tuple[Any, Any]:
        batch, size = ops.shape(images)[0], images.shape[1]
        numbers = _uniform(seed, (2, parts * batch, _COLUMNS))
        numbers = ops.slice(numbers, (0, part * batch, 0), (2, batch, _COLUMNS))
        pixels = ops.cast(images, "float32") / 255.0
        shift, scale = ops.convert_to_tensor(mean, "float32"), ops.convert_to_tensor(std, "float32")
        view1, view2 = (transform(pixels, parameters(numbers[i], size)) for i in range(2))
        return (view1 - shift) / scale, (view2 - shift) / scale

    if keras.backend.backend() != "tensorflow":
        return views
    import tensorflow as tf

    return tf.function(views, jit_compile=True, autograph=False)


def _uniform(seed: Any, shape: tuple[int, ...]) -> Any:
    """Stateless uniform numbers in [0, 1), float32, a pure function of the int32 [2] seed."""
    if keras.backend.backend() == "jax":
        import jax

        key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
        return jax.random.uniform(key, shape)
    import tensorflow as tf

    return tf.random.stateless_uniform(shape, seed)


def parameters(numbers: Any, size: int) -> dict[str, Any]:
    """The random parameters of each image from uniform numbers.

    Args:
        numbers: float32 [B, 33] in [0, 1).
        size: height and width of the images in pixels.

    Returns:
        By name, each [B] unless noted: `top`, `left`, `height`, `width` of the crop in whole pixels;
        `flip`, `jitter`, `grey`, booleans; `brightness`, `contrast`, `saturation`, factors; `hue`, in
        turns; `order` [B, 4], the place of each of these four in the order of application.
    """
    numbers = ops.convert_to_tensor(numbers)
    tries, rest = numbers[:, : 2 * CROP_TRIES], numbers[:, 2 * CROP_TRIES :]
    height, width = _crop_sides(tries[:, :CROP_TRIES], tries[:, CROP_TRIES:], size)
    drawn = {
        "height": height,
        "width": width,
        "top": ops.floor(rest[:, 0] * (size - height + 1)),
        "left": ops.floor(rest[:, 1] * (size - width + 1)),
        "flip": rest[:, 2] < FLIP_RATE,
        "jitter": rest[:, 3] < JITTER_RATE,
    }
    for column, (name, strength) in enumerate(JITTER.items(), start=4):
        centre = 0.0 if name == "hue" else 1.0
        drawn[name] = centre + strength * (2.0 * rest[:, column] - 1.0)
    drawn["order"] = ops.argsort(ops.argsort(rest[:, 8:12], axis=-1), axis=-1)
    drawn["grey"] = rest[:, 12] < GREY_RATE
    return drawn


def _crop_sides(area: Any, ratio: Any, size: int) -> tuple[Any, Any]:
    """Height and width, [B], of the first of the tries [B, T] that fits; the whole image if none does."""
    low, high = (math.log(r) for r in CROP_RATIO)
    area = size * size * (CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * area)
    ratio = ops.exp(low + (high - low) * ratio)
    width, height = ops.round(ops.sqrt(area * ratio)), ops.round(ops.sqrt(area / ratio))
    fits = (width <= size) & (height <= size)
    first = ops.cast(ops.arange(CROP_TRIES) == ops.argmax(fits, axis=1)[:, None], "float32")
    found = ops.any(fits, axis=1)
    sides = (ops.where(found, ops.sum(side * first, axis=1), float(size)) for side in (height, width))
    return next(sides), next(sides)


def transform(pixels: Any, drawn: dict[str, Any]) -> Any:
    """Applies drawn parameters: crop and resize, flip, colour jitter, grey.

    Args:
        pixels: float32 [B, H, W, 3] in [0, 1], square.
        drawn: what `parameters` returns.

    Returns:
        float32 [B, H, W, 3] in [0, 1].
    """
    size = pixels.shape[1]
    rows = _bilinear(drawn["top"], drawn["height"], size)
    columns = _bilinear(drawn["left"], drawn["width"], size)
    columns = ops.where(_per_image(drawn["flip"], 3), ops.flip(columns, axis=1), columns)
    pixels = ops.einsum("bih,bhwc->biwc", rows, pixels)
    pixels = ops.einsum("bjw,biwc->bijc", columns, pixels)
    pixels = ops.where(_per_image(drawn["jitter"], 4), _colour_jitter(pixels, drawn), pixels)
    return ops.where(_per_image(drawn["grey"], 4), grey(pixels), pixels)


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

    Three of them blend the image with something, so that one blend with parameters of each image's own
    serves them all; the hue, the dear one, is turned once, between those before and those after it.
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
