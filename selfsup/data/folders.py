"""Image folders, and the conversion of images of any size and mode to square RGB."""

from pathlib import Path

import numpy as np
from PIL import Image

from selfsup.utils.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""x_train, y_train, x_test, y_test: images uint8 [N, S, S, 3] and classes int64 [N]."""


def to_rgb(image: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """Converts an image to RGB and resizes it (bilinear).

    Args:
        image: a Pillow image, or uint8 [H, W], [H, W, 1] or [H, W, 3].
        size: height and width of the result.

    Returns:
        uint8 [size, size, 3].
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def read_folder(root: Path, size: int) -> tuple[Arrays, str]:
    """Reads root/train/CLASS/*.png or *.jpg and root/test/CLASS/...

    Args:
        root: the folder.
        size: height and width to which images are resized.

    Returns:
        The arrays, with classes numbered in the order of their names, and a note about what was changed.

    Raises:
        InputError: a split or all its images are missing, there are fewer than two classes, or an image
            cannot be read.
    """
    layout = "expected train/CLASS/*.png or *.jpg and test/CLASS/..."
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise InputError(f"{root} has no folder {split}; {layout}")
    classes = sorted(p.name for p in (root / "train").iterdir() if p.is_dir())
    if len(classes) < 2:
        raise InputError(f"{root / 'train'} has {len(classes)} class folders but needs at least 2; {layout}")
    unknown = sorted({p.name for p in (root / "test").iterdir() if p.is_dir()} - set(classes))
    if unknown:
        raise InputError(f"{root / 'test'} has a class {unknown[0]!r} that train lacks; {layout}")
    arrays: list[np.ndarray] = []
    resized: set[tuple[int, int]] = set()
    outside, home = 0, root.resolve()
    for split in ("train", "test"):
        images, labels = [], []
        for label, name in enumerate(classes):
            folder = (root / split / name).resolve()
            for path in sorted((root / split / name).glob("*")):
                if path.suffix.lower() not in SUFFIXES:
                    continue
                image = _read_image(path)
                outside += not (path.resolve() if path.is_symlink() else folder).is_relative_to(home)
                if image.size != (size, size):
                    resized.add(image.size)
                images.append(to_rgb(image, size))
                labels.append(label)
            if split == "train" and label not in labels:
                raise InputError(f"{root / split / name} has no .png or .jpg images; {layout}")
        if not images:
            raise InputError(f"{root / split} has no .png or .jpg images; {layout}")
        arrays += [np.stack(images), np.array(labels, np.int64)]
    notes = []
    if resized:
        sizes = ", ".join("x".join(map(str, s)) for s in sorted(resized)[:3])
        notes.append(f"images of {sizes}{', ...' if len(resized) > 3 else ''} resized to {size}x{size} RGB")
    if outside:
        noun = "image" if outside == 1 else "images"
        notes.append(f"{outside} {noun} behind links that lead out of the folder")
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train, x_test, y_test), "; ".join(notes)


def _read_image(path: Path) -> Image.Image:
    try:
        if not path.is_file():  # opening a pipe would block
            raise OSError
        with Image.open(path) as image:
            image.load()
            return image
    except Exception:  # Pillow raises many types on damaged files
        raise InputError(f"{path} is not a readable image; repair or remove it") from None
