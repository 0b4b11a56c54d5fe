"""`shapes`: a built-in dataset of ten classes, drawn with NumPy from a seed.

An image shows nine copies of one shape in one colour, light on dark or dark on light. Colours, sizes,
positions and angles have the same distribution for all classes, so that only the outline reveals the class;
even a small crop shows some of it. A linear probe does poorly on a random backbone and well on a trained one.
"""

from collections.abc import Callable

import numpy as np

from selfsup.data.dataset import Dataset
from selfsup.data.images import describe, to_rgb

SIZE = 32
TRAIN, TEST = 10_000, 2_000
GRID = 3
SCATTER = 2.0
RADIUS = (4.0, 5.5)
DARK, LIGHT = (0.0, 0.4), (0.6, 1.0)
SMOOTHING = 0.7
WINDOW = 16  # rows and columns around its centre that hold a shape of the largest radius
CHUNK = 100  # images converted at a time, to stay in the CPU cache
NOISE = 0.02

Field = np.ndarray


def _box(x: Field, y: Field, width: float, height: float) -> Field:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _triangle(x: Field, y: Field) -> Field:
    sides = [np.cos(a) * x + np.sin(a) * y for a in np.pi / 2 + 2 * np.pi / 3 * np.arange(3)]
    return np.maximum.reduce(sides) - 0.5


def _star(x: Field, y: Field) -> Field:
    angle = np.abs(np.mod(np.arctan2(y, x) + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(x, y)
    return radius * (np.cos(angle) + 1.4 * np.sin(angle)) - 0.95


SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    "disk": lambda x, y: np.hypot(x, y) - 0.85,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.75) - 0.2,
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "frame": lambda x, y: np.abs(_box(x, y, 0.7, 0.7)) - 0.17,
    "triangle": _triangle,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.95, 0.25), _box(x, y, 0.25, 0.95)),
    "star": _star,
    "bars": lambda x, y: _box(x, np.abs(y) - 0.5, 0.9, 0.2),
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.5, y)),
    "angle": lambda x, y: np.minimum(_box(x, y + 0.65, 0.85, 0.22), _box(x + 0.65, y, 0.22, 0.85)),
}
"""Outlines by class name: signed functions of x and y in units of the radius, negative inside."""


def draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws one image for each label.

    Args:
        labels: classes, int [N] in [0, 9].
        rng: source of colours, positions, sizes, angles and noise.

    Returns:
        uint8 [N, 32, 32, 3].

    Example:
        >>> draw(np.array([0, 4]), np.random.default_rng(0)).shape
        (2, 32, 32, 3)
    """

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (len(labels), 1, 1, *shape)).astype(np.float32)

    dark, light, swapped = uniform(*DARK, 3), uniform(*LIGHT, 3), uniform(0, 1, 1) < 0.5
    background, foreground = np.where(swapped, light, dark), np.where(swapped, dark, light)
    cover = np.zeros((len(labels), SIZE, SIZE), np.float32)
    cell = SIZE / GRID
    for place in range(GRID * GRID):
        x = (place % GRID + 0.5) * cell + uniform(-SCATTER, SCATTER)
        y = (place // GRID + 0.5) * cell + uniform(-SCATTER, SCATTER)
        radius, angle = uniform(*RADIUS), uniform(0, 2 * np.pi)
        rows, columns = _window(y), _window(x).swapaxes(1, 2)
        for label, outline in enumerate(SHAPES.values()):
            chosen = np.flatnonzero(labels == label)
            dx, dy = (at[chosen].astype(np.float32) for at in (columns, rows))
            dx, dy = (dx - x[chosen]) / radius[chosen], (dy - y[chosen]) / radius[chosen]
            cos, sin = np.cos(angle[chosen]), np.sin(angle[chosen])
            distance = outline(cos * dx + sin * dy, cos * dy - sin * dx) * radius[chosen]
            seen = (chosen[:, None, None], rows[chosen], columns[chosen])
            cover[seen] = np.maximum(cover[seen], np.clip(0.5 - distance / SMOOTHING, 0, 1))
    images = np.empty((len(labels), SIZE, SIZE, 3), np.uint8)
    for start in range(0, len(labels), CHUNK):
        chunk = slice(start, start + CHUNK)
        colours = background[chunk] + cover[chunk, ..., None] * (foreground[chunk] - background[chunk])
        colours += rng.normal(0, NOISE, colours.shape).astype(np.float32)
        images[chunk] = (np.clip(colours, 0, 1) * 255).round()
    return images


def _window(centre: np.ndarray) -> np.ndarray:
    """Indices of the WINDOW pixels around each centre along one axis, [N, 1, 1] -> int [N, WINDOW, 1]."""
    first = np.clip(np.round(centre).astype(int) - WINDOW // 2, 0, SIZE - WINDOW)
    return first + np.arange(WINDOW)[:, None]


def read_shapes(image_size: int) -> Dataset:
    """Returns the dataset.

    Args:
        image_size: height and width in pixels to which the images are resized; they are drawn at 32.

    Returns:
        10,000 training and 2,000 test images of ten equally frequent classes.
    """
    x_train, y_train, x_test, y_test = load_shapes()
    if image_size != SIZE:
        x_train, x_test = (np.stack([to_rgb(image, image_size) for image in x]) for x in (x_train, x_test))
    note = describe({(SIZE, SIZE)}, image_size)
    return Dataset("shapes", x_train, y_train, x_test, y_test, note, tuple(SHAPES))


def load_shapes() -> tuple[np.ndarray, ...]:
    """Returns 10,000 training and 2,000 test images with equally frequent classes."""
    rng = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.arange(count) % len(SHAPES))
        return draw(labels, rng), labels.astype(np.int64)

    return (*split(TRAIN), *split(TEST))
