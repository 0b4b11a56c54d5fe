"""The features of many images: computed as a stream, with their neighbours, written as .npz or .csv."""

import csv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.analysis.encoder import Encoder
from selfsup.analysis.probe import nearest
from selfsup.analysis.sources import Source
from selfsup.data.batches import ahead
from selfsup.data.images import BrokenImage, quiet_pillow
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing

CHUNK = 256
"""Images that are decoded at a time."""


@dataclass(frozen=True)
class Embedding:
    """Features of N images.

    Attributes:
        features: float32 [N, D].
        names: names of the images, see `Source`.
        places: places of the images in their source, int64 [N]: broken ones are left out.
        labels: classes, int64 [N], -1 for none; None without labels.
        class_names: names of the classes; () without labels.
        neighbours: rows of the nearest images, int64 [N, K], nearest first; None if not computed.
        cosines: cosines to them, float32 [N, K].
    """

    features: np.ndarray
    names: list[str]
    places: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    neighbours: np.ndarray | None = None
    cosines: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def with_neighbours(self, count: int) -> "Embedding":
        """Adds the `count` nearest neighbours of each image by cosine, or all others if there are fewer.

        Example:
            >>> features = np.array([[1, 0], [0, 1], [1, 0.1]], np.float32)
            >>> Embedding(features, ["a", "b", "c"], np.arange(3)).with_neighbours(1).neighbours.tolist()
            [[2], [2], [0]]
        """
        indices, cosines = neighbours(self.features, count)
        return replace(self, neighbours=indices, cosines=cosines)

    def write(self, path: Path) -> None:
        """Writes an .npz or .csv file, completely or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        if path.suffix == ".csv":
            with replacing(path) as file:
                csv.writer(file, lineterminator="\n").writerows(self._rows())
            return
        arrays: dict[str, Any] = {"features": self.features, "names": np.array(self.names)}
        if self.labels is not None:
            arrays |= {"labels": self.labels, "class_names": np.array(self.class_names)}
        if self.neighbours is not None:
            arrays |= {"neighbours": self.neighbours, "cosines": self.cosines}
        with replacing(path, "wb") as file:
            np.savez(file, **arrays)

    def _rows(self) -> Any:
        """Yields the header and one row per image. Numbers have the digits that float32 needs."""
        count = 0 if self.neighbours is None else self.neighbours.shape[1]
        yield [
            "name",
            *(["label"] if self.labels is not None else []),
            *(f"feature{index}" for index in range(self.features.shape[1])),
            *(f"neighbour{index + 1}" for index in range(count)),
            *(f"cosine{index + 1}" for index in range(count)),
        ]
        for row, name in enumerate(self.names):
            fields = [name]
            if self.labels is not None:
                fields.append(self.class_names[self.labels[row]] if self.labels[row] >= 0 else "")
            fields += [str(value) for value in self.features[row]]
            if self.neighbours is not None and self.cosines is not None:
                fields += [self.names[index] for index in self.neighbours[row]]
                fields += [str(value) for value in self.cosines[row]]
            yield fields


def neighbours(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest other features by cosine.

    Args:
        features: float32 [N, D].
        count: number of neighbours K; all others if there are fewer.

    Returns:
        Rows, int64 [N, K], nearest first, and cosines, float32 [N, K]. No row is its own neighbour.
    """
    count = min(count, len(features) - 1)
    indices, cosines = nearest(features, features, count + 1)
    own = indices == np.arange(len(features))[:, None]
    own[:, -1] |= ~own.any(axis=1)  # among more than `count` duplicates a row may not find itself
    shape = (len(features), count)
    return indices[~own].reshape(shape), cosines[~own].astype(np.float32).reshape(shape)


def embed_source(
    encoder: Encoder,
    source: Source,
    skip_broken: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Embedding:
    """Computes the features of all images. Only a few chunks of them are in memory at a time.

    Args:
        encoder: the encoder.
        source: the images.
        skip_broken: whether to leave out files that cannot be decoded, instead of raising an error.
        progress: called with the number of images done so far.

    Raises:
        InputError: a file cannot be decoded, or none can.
    """
    features = np.empty((len(source), encoder.dimensions), np.float32)
    places: list[int] = []
    starts = range(0, len(source), CHUNK)
    with quiet_pillow(), ThreadPoolExecutor() as pool:

        def decode(start: int) -> list[np.ndarray | BrokenImage]:
            chunk = range(start, min(start + CHUNK, len(source)))
            return list(pool.map(lambda index: _attempt(source, index, encoder.image_size), chunk))

        for start, results in zip(starts, ahead(decode, iter(starts), depth=2), strict=True):
            good = []
            for index, result in enumerate(results, start):
                if isinstance(result, np.ndarray):
                    good.append(result)
                    places.append(index)
                elif not skip_broken:
                    raise InputError(f"{result}; remove the file, or skip such files with --skip_broken")
            if good:
                features[len(places) - len(good) : len(places)] = encoder(np.stack(good))
            progress(start + len(results))
    if not places:
        raise InputError(f"none of the {len(source)} files can be decoded")
    kept = np.array(places, np.int64)
    labels = None if source.labels is None else source.labels[kept]
    return Embedding(
        features[: len(kept)], [source.names[index] for index in kept], kept, labels, source.class_names
    )


def _attempt(source: Source, index: int, size: int) -> np.ndarray | BrokenImage:
    try:
        return source.read(index, size)
    except BrokenImage as error:
        return error
