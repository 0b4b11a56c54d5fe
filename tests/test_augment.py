import colorsys
import math
import random
from functools import partial

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image, ImageEnhance

from selfsup import augment, pixels
from selfsup.augment import Augmentation

PLAIN = {"flip": False, "jitter": False, "grey": False, "top": 0, "left": 0, "height": 32, "width": 32}
COLOUR = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "order": [0, 1, 2, 3]}
LEVEL = 1 / 255


def numpy(value):
    return ops.convert_to_numpy(value)


def photos(rng, count):
    """Smooth coloured uint8 images [N, 32, 32, 3]."""
    small = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(s).resize((32, 32), Image.Resampling.BICUBIC)) for s in small]
    )


def apply(images, **drawn):
    """`transform` with given parameters, the rest neutral, as float32 in [0, 1]."""
    count = len(images)
    full = {}
    for name, neutral in {**PLAIN, **COLOUR}.items():
        value = np.asarray(drawn.get(name, neutral))
        if name == "order":
            full[name] = np.broadcast_to(value, (count, 4)).astype(np.int32)
        else:
            dtype = bool if name in ("flip", "jitter", "grey") else np.float32
            full[name] = np.broadcast_to(value, (count,)).astype(dtype)
    values = images.astype(np.float32) / 255
    return numpy(pixels.transform(values, {k: ops.convert_to_tensor(v) for k, v in full.items()}))


def pillow(images, function):
    return np.stack([np.asarray(function(Image.fromarray(i), n)) for n, i in enumerate(images)]) / 255.0


def test_neutral_parameters_change_nothing(rng):
    images = photos(rng, 4)
    np.testing.assert_allclose(apply(images), images / 255, atol=1e-6)
    np.testing.assert_allclose(apply(images, jitter=True), images / 255, atol=1e-5)


def test_crops_equal_pillow_image_by_image(rng):
    images = photos(rng, 8)
    top, left = rng.integers(0, 16, 8), rng.integers(0, 16, 8)
    height, width = rng.integers(6, 16, 8), rng.integers(6, 16, 8)

    def crop(image, n):
        box = (left[n], top[n], left[n] + width[n], top[n] + height[n])
        return image.crop([int(b) for b in box]).resize((32, 32), Image.Resampling.BILINEAR)

    found = apply(images, top=top, left=left, height=height, width=width)
    np.testing.assert_allclose(found, pillow(images, crop), atol=1.6 * LEVEL)


def test_flip_is_per_image(rng):
    images = photos(rng, 2)
    found = apply(images, flip=[True, False])
    np.testing.assert_allclose(found[0], images[0][:, ::-1] / 255, atol=1e-6)
    np.testing.assert_allclose(found[1], images[1] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_adjustments_equal_pillow(rng, name, enhancer):
    images = photos(rng, 8)
    factors = np.linspace(0.6, 1.4, 8)
    found = apply(images, jitter=True, **{name: factors})
    expected = pillow(images, lambda image, n: enhancer(image).enhance(factors[n]))
    np.testing.assert_allclose(found, expected, atol=1.6 * LEVEL)


def test_hue_equals_pillows_hsv(rng):
    """Pillow rounds hue, saturation and value to 8 bits, so the bound is on the mean too."""
    images, turns = photos(rng, 8), np.linspace(-24, 24, 9)[[0, 1, 2, 3, 5, 6, 7, 8]] / 255

    def turn(image, n):
        h, s, v = (np.asarray(band) for band in image.convert("HSV").split())
        h = ((h.astype(int) + round(turns[n] * 255)) % 256).astype(np.uint8)
        return Image.merge("HSV", [Image.fromarray(band) for band in (h, s, v)]).convert("RGB")

    difference = np.abs(apply(images, jitter=True, hue=turns) - pillow(images, turn))
    assert difference.mean() < 1.5 * LEVEL
    assert difference.max() < 10 * LEVEL


def test_hue_equals_colorsys(rng):
    image = photos(rng, 1)
    found = apply(image, jitter=True, hue=0.07)[0].reshape(-1, 3)
    for pixel, expected in zip(image[0].reshape(-1, 3)[::37] / 255, found[::37], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        np.testing.assert_allclose(colorsys.hsv_to_rgb((h + 0.07) % 1, s, v), expected, atol=1e-5)


def test_the_order_of_adjustments_is_each_images_own(rng):
    images = np.repeat(photos(rng, 1), 2, axis=0)
    factors = {"brightness": 1.4, "contrast": 0.6, "saturation": 1.4, "hue": 0.1}
    orders = np.array([[0, 1, 2, 3], [2, 0, 3, 1]])
    adjust = {
        "brightness": lambda x, f: np.clip(x * f, 0, 1),
        "contrast": lambda x, f: np.clip((x @ pixels.LUMA).mean() * (1 - f) + x * f, 0, 1),
        "saturation": lambda x, f: np.clip((x @ pixels.LUMA)[..., None] * (1 - f) + x * f, 0, 1),
        "hue": lambda x, f: np.array(
            [[colorsys.hsv_to_rgb((h + f) % 1, s, v) for h, s, v in row]
             for row in [[colorsys.rgb_to_hsv(*p) for p in line] for line in x]]
        ),
    }  # fmt: skip
    found = apply(images, jitter=True, order=orders, **factors)
    for n, order in enumerate(orders):
        expected = images[n] / 255
        for place in range(4):
            name = list(factors)[list(order).index(place)]
            expected = adjust[name](expected, factors[name])
        np.testing.assert_allclose(found[n], expected, atol=1e-4)


def test_grey_equals_pillows_luma(rng):
    images = photos(rng, 4)
    expected = pillow(images, lambda image, n: image.convert("L").convert("RGB"))
    np.testing.assert_allclose(apply(images, grey=True), expected, atol=0.6 * LEVEL)


def torchvisions_crop(draw):
    """`RandomResizedCrop.get_params`, in its own words."""
    for _ in range(10):
        area = 32 * 32 * draw.uniform(0.08, 1.0)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= 32 and 0 < h <= 32:
            return draw.randint(0, 32 - h), draw.randint(0, 32 - w), h, w
    return 0, 0, 32, 32


def test_statistics_of_many_draws(rng):
    count = 40_000
    numbers = rng.uniform(size=(count, augment.COLUMNS + 2)).astype(np.float32)
    drawn = {name: numpy(value) for name, value in Augmentation(blur=0.3).parameters(numbers, 32).items()}
    draw = random.Random(0)
    reference = np.array([torchvisions_crop(draw) for _ in range(count)], float)
    found = np.stack([drawn[name] for name in ("top", "left", "height", "width")], axis=1)
    np.testing.assert_allclose(found.mean(0), reference.mean(0), atol=0.15)
    np.testing.assert_allclose(found.std(0), reference.std(0), atol=0.1)
    areas = [crops[:, 2] * crops[:, 3] / 1024 for crops in (found, reference)]
    np.testing.assert_allclose(*(np.quantile(a, np.linspace(0.05, 0.95, 10)) for a in areas), atol=0.015)
    ratios = [np.log(crops[:, 3] / crops[:, 2]) for crops in (found, reference)]
    for found_part, reference_part in zip(
        *(np.histogram(r, 8, (-0.45, 0.45))[0] for r in ratios), strict=True
    ):
        assert found_part / count == pytest.approx(reference_part / count, abs=0.01)
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] + found[:, 2:] <= 32).all()
    assert drawn["flip"].mean() == pytest.approx(0.5, abs=0.01)
    assert drawn["jitter"].mean() == pytest.approx(0.8, abs=0.01)
    assert drawn["grey"].mean() == pytest.approx(0.2, abs=0.01)
    assert drawn["blur"].mean() == pytest.approx(0.3, abs=0.01)
    ranges = dict.fromkeys(("brightness", "contrast", "saturation"), (0.6, 1.4))
    for name, (low, high) in {**ranges, "hue": (-0.1, 0.1), "sigma": (0.1, 2.0)}.items():
        share = (drawn[name].astype(np.float64) - low) / (high - low)
        assert -1e-6 < share.min() < share.max() < 1 + 1e-6, name
        steps = np.linspace(0, 1, 21)
        np.testing.assert_allclose(np.quantile(share, steps), steps, atol=0.015, err_msg=name)
    _, frequency = np.unique(drawn["order"], axis=0, return_counts=True)
    assert len(frequency) == 24
    np.testing.assert_allclose(frequency / count, 1 / 24, atol=0.006)


def test_views_are_normalised_and_differ_within_the_batch(rng):
    images = np.repeat(photos(rng, 1), 16, axis=0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    view1, view2 = (numpy(v) for v in Augmentation(mean=mean, std=std)(images, 3))
    assert view1.shape == (16, 32, 32, 3)
    assert view1.dtype == np.float32
    assert len(np.unique(np.concatenate([view1, view2]).round(4), axis=0)) == 32
    restored = np.concatenate([view1, view2]) * std + mean
    assert restored.min() > -1e-5
    assert restored.max() < 1 + 1e-5


def test_views_are_a_pure_function_of_the_seed(rng):
    images = photos(rng, 8)  # as many as below, which shares the compilation
    for seed in (7, [7, 3]):
        a, b = Augmentation()(images, seed), Augmentation()(images, seed)
        np.testing.assert_array_equal(numpy(a[0]), numpy(b[0]))
    assert not np.allclose(numpy(Augmentation()(images, 8)[0]), numpy(Augmentation()(images, 7)[0]))
    assert not np.allclose(numpy(Augmentation()(images, [7, 4])[0]), numpy(a[0]))


@pytest.mark.parametrize("batch", [16, 32])
def test_compiled_views_equal_those_of_single_operations(rng, batch):
    """A compiler rounds as it likes; no pixel may hang on two roundings of the same number being equal."""
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit
    else:
        import tensorflow as tf

        compiled = partial(tf.function, jit_compile=True, autograph=False)

    def views(images, numbers):
        return pixels.transform(ops.cast(images, "float32") / 255.0, Augmentation().parameters(numbers, 32))

    coarse = rng.integers(0, 256, (batch, 4, 4, 3), np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for _ in range(4):
        numbers = rng.uniform(size=(batch, augment.COLUMNS)).astype(np.float32)
        found, expected = (
            ops.convert_to_numpy(f(ops.convert_to_tensor(images), ops.convert_to_tensor(numbers)))
            for f in (compiled(views), views)
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_shards_of_a_batch_get_the_views_of_the_whole(rng):
    images = rng.integers(0, 256, (8, 32, 32, 3), np.uint8)
    whole = Augmentation()(images, 3)
    shards = [Augmentation()(images[4 * i : 4 * i + 4], 3, shard=i, shards=2) for i in range(2)]
    for view, halves in zip(whole, zip(*shards, strict=True), strict=True):
        found = np.concatenate([ops.convert_to_numpy(half) for half in halves])
        np.testing.assert_allclose(found, ops.convert_to_numpy(view), atol=1e-5)


def blurred(image, sigma, width):
    """Gaussian blur of float64 [H, W, 3] by its definition, one pixel after the other."""
    half = width // 2
    weights = [math.exp(-0.5 * (d / sigma) ** 2) for d in range(-half, half + 1)]
    weights = np.outer(weights, weights) / sum(weights) ** 2
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="reflect")
    height, columns = image.shape[:2]
    windows = [[padded[i : i + width, j : j + width] for j in range(columns)] for i in range(height)]
    return np.array([[np.einsum("ij,ijc->c", weights, window) for window in row] for row in windows])


def test_blur_is_gaussian_with_each_images_own_sigma(rng):
    images = photos(rng, 3)[:, :16, :16].astype(np.float32) / 255
    sigma = np.array([0.1, 0.7, 2.0], np.float32)
    found = numpy(pixels.gaussian_blur(ops.convert_to_tensor(images), ops.convert_to_tensor(sigma), 9))
    np.testing.assert_allclose(found[0], images[0], atol=1e-6)
    for image, s, result in zip(images, sigma, found, strict=True):
        np.testing.assert_allclose(result, blurred(image.astype(float), s, 9), atol=1e-5)


def test_blur_applies_to_its_share_of_images_and_changes_no_other_view(rng):
    images = photos(rng, 64)
    plain, _ = (numpy(v) for v in Augmentation()(images, 5))
    fields = {
        "crop_area": (1.0, 1.0),
        "crop_ratio": (1.0, 1.0),
        "flip_rate": 0,
        "jitter_rate": 0,
        "grey_rate": 0,
    }
    normal = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    half, _ = (numpy(v) for v in Augmentation(blur=0.5, blur_sigma=(2.0, 2.0), **fields, **normal)(images, 5))
    changed = np.abs(half - images / 255).max(axis=(1, 2, 3)) > LEVEL
    assert 16 < changed.sum() < 48
    for image, result in zip(images[changed][:3], half[changed], strict=False):
        np.testing.assert_allclose(result, blurred(image / 255, 2.0, 3), atol=1e-4)
    np.testing.assert_array_equal(plain, numpy(Augmentation(blur=0.0)(images, 5)[0]))


def test_views_of_larger_images_have_their_size(rng):
    images = rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    view1, view2 = (numpy(v) for v in Augmentation(blur=1.0)(images, 0))
    assert view1.shape == view2.shape == (2, 96, 96, 3)
    assert np.isfinite(view1).all()
    assert not np.array_equal(view1, view2)


def test_every_random_number_decides_one_thing(rng):
    augmentation = Augmentation(crop_area=(0.9, 1.0), blur=0.5)  # so large that even the tenth try counts
    decides = [{"height", "width", "top", "left"}] * 2 * augment.CROP_TRIES
    decides += [{"top"}, {"left"}, {"flip"}, {"jitter"}, *({name} for name in augment.JITTERS)]
    decides += [{"order"}] * 4 + [{"grey"}, {"blur"}, {"sigma"}]
    numbers = rng.random((400, len(decides))).astype(np.float32)
    before = augmentation.parameters(numbers, 32)
    for column, names in enumerate(decides):
        other = numbers.copy()
        other[:, column] = rng.random(len(other))
        after = augmentation.parameters(other, 32)
        changed = {name for name, value in after.items() if np.any(numpy(value) != numpy(before[name]))}
        assert changed, column
        assert changed <= names, column


def test_crops_have_at_least_one_pixel(rng):
    area, ratio = np.zeros((4, 10), np.float32), rng.random((4, 10), np.float32)
    sides = Augmentation(crop_area=(1e-6, 1.0))._crop_sides(area, ratio, 8)
    assert all((np.asarray(side) == 8).all() for side in sides), "no try fits: the whole image"
