"""Two random views of every image of a batch, on the device, with torchvision's meaning.

Random numbers are drawn once for the whole batch, turned into the parameters of each image
(`Augmentation.parameters`), and applied by pure functions of `keras.ops`. Drawing is stateless: the same
seed gives the same views.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
from keras import ops

from selfsup.pixels import check_moments, transform
from selfsup.utils.errors import InputError

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Per channel, over the original pixels of CIFAR-10's training images; JPEG copies have other values."""

CROP_TRIES = 10
JITTERS = ("brightness", "contrast", "saturation", "hue")

COLUMNS = 2 * CROP_TRIES + 2 + 2 + len(JITTERS) + len(JITTERS) + 1
"""Uniform numbers that the parameters of one image take; a blur takes two more."""


@keras.saving.register_keras_serializable("selfsup")
@dataclass(frozen=True)
class Augmentation:
    """Makes two independently augmented, normalised views of each image.

    RandomResizedCrop, horizontal flip, ColorJitter in random order, random greyscale and Gaussian blur, each
    drawn for every image and every view (paper, section 4; torchvision's definitions). The defaults are the
    paper's, without a blur.

    Attributes:
        crop_area: smallest and largest area of a crop, as fractions of the image in (0, 1].
        crop_ratio: smallest and largest ratio of width to height.
        flip_rate, jitter_rate, grey_rate: probabilities.
        brightness, contrast, saturation: factors lie within 1 - x and 1 + x.
        hue: shift of at most this fraction of the colour circle, in [0, 0.5].
        blur: probability of a Gaussian blur. Its kernel spans a tenth of the image, 9 of 96 pixels as in the
            code of Tian et al. 2021.
        blur_sigma: smallest and largest standard deviation of the kernel in pixels.
        mean, std: per channel, in [0, 1]. None: those of the `SiameseModel` that it is given to; CIFAR-10's
            where this is called on its own.

    Raises:
        InputError: a value lies outside its range.

    Example:
        >>> images = keras.random.randint((4, 32, 32, 3), 0, 256, dtype="uint8")
        >>> view1, view2 = Augmentation(grey_rate=0.0)(images, seed=0)
        >>> view1.shape == images.shape
        True
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_rate: float = 0.5
    jitter_rate: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey_rate: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("crop_area", "crop_ratio", "blur_sigma", "mean", "std"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(map(float, value)))
        for name in ("crop_area", "crop_ratio", "blur_sigma"):
            if len(getattr(self, name)) != 2:
                raise InputError(f"{name} must be two numbers, not {getattr(self, name)}")
        for name in ("flip_rate", "jitter_rate", "brightness", "contrast", "saturation", "grey_rate", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be a number in [0, 1], not {getattr(self, name)!r}")
        if not 0 <= self.hue <= 0.5:
            raise InputError(f"hue must be a number in [0, 0.5], not {self.hue!r}")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise InputError(f"crop_area must be two ascending numbers in (0, 1], not {self.crop_area}")
        for name in ("crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} must be two ascending numbers above 0, not {getattr(self, name)}")
        if self.mean is not None and self.std is not None:
            check_moments(self.mean, self.std)

    def __call__(self, images: Any, seed: Any, shard: Any = 0, shards: int = 1) -> tuple[Any, Any]:
        """Makes two views of each image.

        Args:
            images: uint8 [B, H, W, 3], square.
            seed: a whole number, or two as an int32 [2] tensor. The same seed gives the same views on one
                backend; each backend has its own random generator.
            shard, shards: which of how many equal shards of a batch the images are, from 0. Each image
                gets the views that it would get in the whole batch.

        Returns:
            view1, view2: float32 [B, H, W, 3], (augmented value in [0, 1] - mean) / std.

        Raises:
            InputError: the images are not uint8 or not square.
        """
        dtype, shape = keras.backend.standardize_dtype(images.dtype), tuple(images.shape)
        if dtype != "uint8" or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise InputError(f"images must be uint8 [B, S, S, 3], not {dtype} {['B', *shape[1:]]}")
        seed = ops.convert_to_tensor(seed, "int32")
        if len(seed.shape) == 0:
            seed = ops.stack([seed, ops.zeros_like(seed)])
        return _compiled(self, shards)(images, seed, ops.convert_to_tensor(shard, "int32"))

    def normalised_by(self, mean: Sequence[float], std: Sequence[float]) -> "Augmentation":
        """Returns this augmentation with these `mean` and `std` where it has none."""
        return dataclasses.replace(self, mean=self.mean or tuple(mean), std=self.std or tuple(std))

    def get_config(self) -> dict[str, Any]:
        """The fields, for Keras' saving."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Augmentation":
        """The inverse of `get_config`."""
        return cls(**config)

    def parameters(self, numbers: Any, size: int) -> dict[str, Any]:
        """Computes the random parameters of each image from uniform numbers.

        Args:
            numbers: float32 [B, 33] in [0, 1), or [B, 35] with a blur.
            size: height and width of the images in pixels.

        Returns:
            By name, each [B] unless noted: `top`, `left`, `height`, `width` of the crop in whole pixels;
            `flip`, `jitter`, `grey`, booleans; `brightness`, `contrast`, `saturation`, factors; `hue`, in
            turns; `order` [B, 4], the place of each of these four in the order of application; with a blur,
            `blur`, boolean, and `sigma` in pixels.
        """
        numbers = ops.convert_to_tensor(numbers)
        tries, rest = numbers[:, : 2 * CROP_TRIES], numbers[:, 2 * CROP_TRIES :]
        height, width = self._crop_sides(tries[:, :CROP_TRIES], tries[:, CROP_TRIES:], size)
        drawn = {
            "height": height,
            "width": width,
            "top": ops.floor(rest[:, 0] * (size - height + 1)),
            "left": ops.floor(rest[:, 1] * (size - width + 1)),
            "flip": rest[:, 2] < self.flip_rate,
            "jitter": rest[:, 3] < self.jitter_rate,
        }
        for column, name in enumerate(JITTERS, start=4):
            centre = 0.0 if name == "hue" else 1.0
            drawn[name] = centre + getattr(self, name) * (2.0 * rest[:, column] - 1.0)
        drawn["order"] = ops.argsort(ops.argsort(rest[:, 8:12], axis=-1), axis=-1)
        drawn["grey"] = rest[:, 12] < self.grey_rate
        if self.blur:
            low, high = self.blur_sigma
            drawn |= {"blur": rest[:, 13] < self.blur, "sigma": low + (high - low) * rest[:, 14]}
        return drawn

    def _crop_sides(self, area: Any, ratio: Any, size: int) -> tuple[Any, Any]:
        """Height and width, [B], of the first of the tries [B, T] that fits; else the whole image."""
        low, high = (math.log(r) for r in self.crop_ratio)
        area = size * size * (self.crop_area[0] + (self.crop_area[1] - self.crop_area[0]) * area)
        ratio = ops.exp(low + (high - low) * ratio)
        width, height = ops.round(ops.sqrt(area * ratio)), ops.round(ops.sqrt(area / ratio))
        fits = (width > 0) & (width <= size) & (height > 0) & (height <= size)
        first = ops.cast(ops.arange(CROP_TRIES) == ops.argmax(fits, axis=1)[:, None], "float32")
        found = ops.any(fits, axis=1)
        sides = (ops.where(found, ops.sum(side * first, axis=1), float(size)) for side in (height, width))
        return next(sides), next(sides)


@cache
def _compiled(augmentation: Augmentation, shards: int) -> Any:
    """The whole augmentation as one function, compiled by XLA on TensorFlow (four times as fast)."""
    mean, std = augmentation.mean or CIFAR10_MEAN, augmentation.std or CIFAR10_STD
    columns = COLUMNS + 2 * (augmentation.blur > 0)

    def views(images: Any, seed: Any, shard: Any) -> tuple[Any, Any]:
        batch, size = ops.shape(images)[0], images.shape[1]
        numbers = _uniform(seed, (2, shards * batch, columns))
        numbers = ops.slice(numbers, (0, shard * batch, 0), (2, batch, columns))
        pixels = ops.cast(images, "float32") / 255.0
        shift, scale = ops.convert_to_tensor(mean, "float32"), ops.convert_to_tensor(std, "float32")
        view1, view2 = (transform(pixels, augmentation.parameters(numbers[i], size)) for i in range(2))
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
