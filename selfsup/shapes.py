"""`shapes`: a built-in dataset of ten classes, drawn with NumPy from a seed.

An image shows a few copies of one shape on a cluttered background. Colours, sizes, positions, angles and
backgrounds are drawn alike for all classes, so that only the outline tells the class: a random encoder's
linear probe does poorly, and what it lacks has to be learned.
"""

from collections.abc import Callable

import numpy as np

SIZE = 32
TRAIN, TEST = 10_000, 2_000
GRID = 3
SCATTER = 2.0
RADIUS = (4.0, 6.0)
WAVES = 4
SMOOTHING = 0.7
NOISE = 0.04

Field = np.ndarray


def _disk(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - 0.85


def _ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - 0.75) - 0.2


def _box(x: Field, y: Field, width: float, height: float) -> Field:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _square(x: Field, y: Field) -> Field:
    return _box(x, y, 0.75, 0.75)


def _frame(x: Field, y: Field) -> Field:
    return np.abs(_box(x, y, 0.7, 0.7)) - 0.17


def _triangle(x: Field, y: Field) -> Field:
    sides = [np.cos(a) * x + np.sin(a) * y for a in np.pi / 2 + 2 * np.pi / 3 * np.arange(3)]
    return np.maximum.reduce(sides) - 0.5


def _cross(x: Field, y: Field) -> Field:
    return np.minimum(_box(x, y, 0.95, 0.25), _box(x, y, 0.25, 0.95))


def _star(x: Field, y: Field) -> Field:
    angle = np.abs(np.mod(np.arctan2(y, x) + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(x, y)
    return radius * (np.cos(angle) + 1.4 * np.sin(angle)) - 0.95


def _bars(x: Field, y: Field) -> Field:
    return _box(x, np.abs(y) - 0.5, 0.9, 0.2)


def _crescent(x: Field, y: Field) -> Field:
    return np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.5, y))


def _angle(x: Field, y: Field) -> Field:
    return np.minimum(_box(x, y + 0.65, 0.85, 0.22), _box(x + 0.65, y, 0.22, 0.85))


SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    "disk": _disk,
    "ring": _ring,
    "square": _square,
    "frame": _frame,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "bars": _bars,
    "crescent": _crescent,
    "angle": _angle,
}
"""By class name, outlines: functions of coordinates in units of the radius, negative inside."""


def draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images of the classes `labels`, int [N] in 0..9 -> uint8 [N, 32, 32, 3]."""
    count = len(labels)
    images = _backgrounds(count, rng)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1, *shape)).astype(np.float32)

    cell = SIZE / GRID
    for place in range(GRID * GRID):
        x = (place % GRID + 0.5) * cell + uniform(-SCATTER, SCATTER)
        y = (place // GRID + 0.5) * cell + uniform(-SCATTER, SCATTER)
        radius, angle, colours = uniform(*RADIUS), uniform(0, 2 * np.pi), uniform(0, 1, 3)
        for label, outline in enumerate(SHAPES.values()):
            chosen = np.flatnonzero(labels == label)
            dx, dy = (columns - x[chosen]) / radius[chosen], (rows - y[chosen]) / radius[chosen]
            cos, sin = np.cos(angle[chosen]), np.sin(angle[chosen])
            distance = outline(cos * dx + sin * dy, cos * dy - sin * dx) * radius[chosen]
            cover = np.clip(0.5 - distance / SMOOTHING, 0, 1)[..., None]
            images[chosen] += cover * (colours[chosen] - images[chosen])
    images += rng.normal(0, NOISE, images.shape).astype(np.float32)
    return (np.clip(images, 0, 1) * 255).round().astype(np.uint8)


def _backgrounds(count: int, rng: np.random.Generator) -> np.ndarray:
    """Soft clouds, each channel its own, float32 [N, 32, 32, 3] in [0, 1]."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)[..., None]
    clouds = np.full((count, SIZE, SIZE, 3), 0.5, np.float32)
    for _ in range(WAVES):
        across, down = rng.uniform(-0.5, 0.5, (2, count, 1, 1, 3)).astype(np.float32)
        phase = rng.uniform(0, 2 * np.pi, (count, 1, 1, 3)).astype(np.float32)
        clouds += 0.4 / WAVES * np.sin(across * columns + down * rows + phase)
    return clouds


def load_shapes(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train, y_train, x_test, y_test: 10,000 and 2,000 images, classes in equal numbers."""
    rng = np.random.default_rng(seed)
    arrays = []
    for count in (TRAIN, TEST):
        labels = rng.permutation(np.arange(count) % len(SHAPES))
        arrays += [draw(labels, rng), labels.astype(np.int64)]
    return tuple(arrays)
