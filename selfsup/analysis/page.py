"""An HTML page with a map of features and the nearest neighbours of each image."""

import base64
import html
import io
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from selfsup.analysis.embedding import Embedding, neighbours
from selfsup.analysis.map import pca, tsne
from selfsup.analysis.plots import PALETTE
from selfsup.analysis.sources import Source
from selfsup.data.images import quiet_pillow
from selfsup.utils.files import replacing

LARGEST = 2000
"""The most images on a page."""
SHOWN = 12
"""Neighbours shown of an image."""
THUMBNAIL = 96
"""Pixels per side of a thumbnail."""


def write_page(
    path: Path,
    embedding: Embedding,
    source: Source,
    title: str,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Writes a self-contained HTML page: it opens from disk without a network, thumbnails are embedded.

    If there are more than `LARGEST` images, it shows a fixed random sample and says so. The neighbours
    shown are the nearest images on the page.

    Args:
        path: the file.
        embedding: features of at least two images.
        source: the images.
        title: heading of the page.
        progress: called with the completed share.

    Raises:
        OSError: the file cannot be written.
    """
    rows = sample(len(embedding), LARGEST)
    features = embedding.features[rows]
    maps = {"t-SNE": tsne(features, progress=lambda share: progress(0.8 * share)), "PCA": pca(features)}
    indices, cosines = neighbours(features, SHOWN)
    side = min(THUMBNAIL, source.side or THUMBNAIL)
    with quiet_pillow():
        thumbnails = []
        for done, place in enumerate(embedding.places[rows], 1):
            thumbnails.append(thumbnail(source.read(int(place), side)))
            progress(0.8 + 0.2 * done / len(rows))
    data: dict[str, Any] = {
        "names": [embedding.names[row] for row in rows],
        "labels": None if embedding.labels is None else embedding.labels[rows].tolist(),
        "classes": list(embedding.class_names),
        "palette": PALETTE,
        "maps": {name: in_unit_square(points).tolist() for name, points in maps.items()},
        "neighbours": indices.tolist(),
        "cosines": cosines.astype(float).round(4).tolist(),
        "thumbnails": thumbnails,
    }
    count = f"{len(rows):,} images"
    if len(rows) < len(embedding):
        count = f"{len(rows):,} of {len(embedding):,} images, chosen at random"
    folder = resources.files(__package__)
    page = Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        about=html.escape(f"{count} · features of length {features.shape[1]}"),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        script=folder.joinpath("page.js").read_text("utf-8"),
    )
    with replacing(path) as file:
        file.write(page)


def sample(count: int, largest: int) -> np.ndarray:
    """Returns up to `largest` of `count` rows, ascending, chosen at random with a fixed seed.

    Example:
        >>> sample(3, largest=5).tolist(), len(sample(9, largest=5))
        ([0, 1, 2], 5)
    """
    return np.sort(np.random.default_rng(0).permutation(count)[:largest])


def in_unit_square(points: np.ndarray) -> np.ndarray:
    """Moves and scales points [N, 2] into the unit square, with one scale for both axes.

    Example:
        >>> in_unit_square(np.array([[0.0, 0.0], [4.0, 2.0]])).tolist()
        [[0.0, 0.25], [1.0, 0.75]]
    """
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(float((high - low).max()), 1e-12)
    return ((points - (low + high) / 2) / side + 0.5).round(4)


def thumbnail(pixels: np.ndarray) -> str:
    """Returns an image, uint8 [H, W, 3], as a JPEG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
