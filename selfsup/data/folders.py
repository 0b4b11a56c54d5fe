"""Folders of image files as datasets. See `selfsup.data.layout` for how they may be arranged."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from selfsup.data import cache
from selfsup.data.dataset import Dataset
from selfsup.data.images import CONVERSIONS, BrokenImage, describe, printable, quiet_pillow, read_image
from selfsup.data.layout import Layout, find
from selfsup.data.tree import is_run
from selfsup.utils.clock import duration
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path
from selfsup.utils.status import StatusLine

THREADS: int | None = None
"""Threads that decode; None for a few more than there are cores. The result does not depend on it."""
CHUNK = 256
"""Images that are decoded before they are stored."""
PATIENCE = 2.0
"""Seconds after which decoding shows its progress."""
NAMED = 10
"""The most broken files that an error names."""


def read_folder(
    name: str, path: Path, image_size: int, cache_dir: Path | str | None, skip_broken: bool
) -> Dataset:
    """Reads a folder of image files.

    Args:
        name: of the dataset.
        path: the folder.
        image_size: height and width in pixels to which images are cropped and resized.
        cache_dir: folder in which decoded images are kept and from which they are memory-mapped, so that
            they need not fit in memory; None to decode them into memory.
        skip_broken: whether to leave out files that cannot be decoded, instead of raising an error.

    Returns:
        A dataset with labels if there are class folders. Its note says what was assumed, changed and left
        out.

    Raises:
        InputError: the arrangement of the folder is not understood, files cannot be decoded, a class or
            split has no readable image, or `cache_dir` cannot be written or lies in the folder.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(10):
        ...         Image.new("L", (40, 32)).save(Path(folder, f"{number}.png"))
        ...     data = read_folder("black", Path(folder), 32, cache_dir=None, skip_broken=False)
        >>> data.x_train.shape, data.note
        ((10, 32, 32, 3), 'no class folders: images are not labelled; images of 40x32 cropped to squares')
    """
    layout = find(path)
    decode = partial(_decode, path, layout, image_size, skip_broken)
    if cache_dir is None:
        memory = _Memory()
        changes, arrays = decode(memory), memory.arrays
    else:
        cache_dir = user_path("cache_dir", str(cache_dir))
        if _lies_among(cache_dir.resolve(), path.resolve()):
            raise InputError(
                f"the decoded images would be written to {printable(cache_dir)}, in the image folder "
                f"{printable(path)}; choose another --workdir or --cache_dir"
            )
        key = cache.key(path, layout, image_size, skip_broken)
        arrays, changes = cache.cached(cache_dir, key, decode)
    note = "; ".join([*layout.notes, *changes])
    return Dataset(name, **arrays, note=note, class_names=layout.class_names)


def _lies_among(cache_dir: Path, root: Path) -> bool:
    """Whether a folder lies where images are looked for: in `root`, and not in the folder of a run there."""
    inside = cache_dir.is_relative_to(root)
    return inside and not any(is_run(p) for p in cache_dir.parents if p != root and p.is_relative_to(root))


class _Memory:
    """Keeps decoded images in memory; the same methods as `cache.Writer`.

    Attributes:
        arrays: images and labels by name.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    @contextmanager
    def images(self, name: str, count: int, size: int) -> Iterator[Callable[[np.ndarray], None]]:
        """Yields a function that appends images to an array of up to `count`."""
        whole, used = np.empty((count, size, size, 3), np.uint8), 0

        def append(images: np.ndarray) -> None:
            nonlocal used
            whole[used : used + len(images)] = images
            used += len(images)

        yield append
        self.arrays[name] = whole[:used]

    def labels(self, name: str, values: np.ndarray) -> None:
        """Keeps labels."""
        self.arrays[name] = values


def _decode(
    root: Path, layout: Layout, size: int, skip_broken: bool, store: cache.Writer | _Memory
) -> list[str]:
    """Decodes all images in threads, in order, and returns notes of what was changed and left out."""
    broken: list[BrokenImage] = []
    sizes: set[tuple[int, int]] = set()
    made: Counter[str] = Counter()
    splits = {"train": layout.train, "test": layout.test} if layout.test else {"train": layout.train}
    labels: dict[str, list[int]] = {split: [] for split in splits}
    progress = _Progress(sum(map(len, splits.values())))
    with quiet_pillow(), ThreadPoolExecutor(THREADS) as pool:
        for split, files in splits.items():
            with store.images(f"x_{split}", len(files), size) as append:
                for start in range(0, len(files), CHUNK):
                    chunk, images = files[start : start + CHUNK], []
                    results = pool.map(lambda file: _attempt(Path(file[0]), size), chunk)
                    for (_, label), result in zip(chunk, results, strict=True):
                        if isinstance(result, BrokenImage):
                            broken.append(result)
                            continue
                        images.append(result[0])
                        sizes.add(result[1])
                        made.update(result[2])
                        labels[split].append(label)
                    if images:
                        append(np.stack(images))
                    progress.add(len(chunk))
    progress.finish()
    _check(root, layout, labels, broken, skip_broken)
    for split, values in labels.items():
        if layout.class_names:
            store.labels(f"y_{split}", np.array(values, np.int64))
    notes = [f"{made[text]} image{'s' * (made[text] > 1)} {text}" for text in CONVERSIONS if made[text]]
    notes += [f"{len(broken)} broken image{'s' * (len(broken) > 1)} left out"] if broken else []
    return [text for text in (describe(sizes, size), *notes) if text]


def _attempt(path: Path, size: int) -> tuple[np.ndarray, tuple[int, int], tuple[str, ...]] | BrokenImage:
    try:
        return read_image(path, size)
    except BrokenImage as error:
        return error


def _check(
    root: Path, layout: Layout, labels: dict[str, list[int]], broken: list[BrokenImage], skip_broken: bool
) -> None:
    """Raises an error for broken files, or if too little is left without them."""
    if not broken:
        return
    if not skip_broken:
        named = [f"{printable(error.path.relative_to(root))} ({error.reason})" for error in broken[:NAMED]]
        more = ", ..." * (len(broken) > NAMED)
        raise InputError(
            f"{printable(root)} has {len(broken)} broken image{'s' * (len(broken) > 1)}: {', '.join(named)}"
            f"{more}; repair or remove them, or skip them with --skip_broken"
        )
    empty = [f"no readable {split}ing image" for split, values in labels.items() if not values]
    if missing := sorted(set(range(len(layout.class_names))) - set(labels["train"])):
        empty.insert(0, f"no readable training image of class {layout.class_names[missing[0]]!r}")
    if empty:
        raise InputError(f"{printable(root)} has {empty[0]}; {broken[0]}")


class _Progress:
    """Shows how far decoding has come if it takes longer than `PATIENCE`."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.began, self.line = total, 0, time.monotonic(), StatusLine()

    def add(self, count: int) -> None:
        self.done += count
        if (passed := time.monotonic() - self.began) > PATIENCE:
            left = duration(passed / self.done * (self.total - self.done))
            self.line.show(f"decoding images: {self.done} of {self.total}, {left} left")

    def finish(self) -> None:
        if (passed := time.monotonic() - self.began) > PATIENCE:
            self.line.finish(f"decoded {self.total} images in {duration(passed)}")
