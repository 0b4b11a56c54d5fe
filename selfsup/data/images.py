"""Conversion of images of any size and mode to square 8-bit RGB, and the decoding of image files."""

import re
import stat
import unicodedata
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from selfsup.data.eight_bits import eight_bits, high_byte
from selfsup.utils.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The formats that are decoded, whatever the suffix of the file. Others, such as EPS, run programs."""

VERSION = 2
"""Increment this whenever a file would decode to different pixels, or to none, so that caches are rebuilt."""

CONVERSIONS = (
    "turned by EXIF orientation",
    "with transparency, laid on white",
    "of more than 8 bits, scaled to 8",
)
"""What may be done to an image file besides cropping and resizing, as text."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


class BrokenImage(InputError):
    """A file cannot be decoded as an image.

    Attributes:
        path: the file.
        reason: why, as text.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{printable(path)} is not a readable image: {reason}")
        self.path, self.reason = path, reason


def printable(path: Path | str) -> str:
    r"""Returns a path as text in one line: undecodable bytes and control characters are escaped.

    Example:
        >>> printable("caf\udce9\n.png")
        'caf\\xe9\\n.png'
    """
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    controls = {c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp")}
    return text.translate({ord(c): c.encode("unicode_escape").decode() for c in controls})


def to_rgb(image: Image.Image | np.ndarray, size: int) -> np.ndarray:
    """Converts an image to RGB, crops it to its largest central square, and resizes that.

    The EXIF orientation is applied. 16-bit values are scaled to 8 bits, floats in [0, 1] to [0, 255].
    Transparent pixels are composited on white. Resizing is bilinear with antialiasing, so that the crop and
    the size equal those of torchvision's `CenterCrop(min(image.size))` and `Resize(size)` on Pillow images.
    A square RGB image of the right size is returned unchanged.

    Args:
        image: a Pillow image of any mode, or uint8 or uint16 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]
            (the fourth channel is opacity).
        size: height and width of the result.

    Returns:
        uint8 [size, size, 3].

    Raises:
        InputError: the array has another dtype or shape, or the values of a float or 32-bit image are
            out of range.

    Example:
        >>> to_rgb(np.full((48, 40), 7, np.uint8), size=32)[0, 0].tolist()
        [7, 7, 7]
        >>> to_rgb(np.full((48, 40), 7 * 257, np.uint16), size=32)[0, 0].tolist()
        [7, 7, 7]
    """
    if not isinstance(image, Image.Image):
        image = _from_array(image)
    image = _opaque(_square(eight_bits(_turned(image))))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def read_image(path: Path, size: int) -> tuple[np.ndarray, tuple[int, int], tuple[str, ...]]:
    """Decodes an image file; of an animation or a stack of pages, the first image.

    JPEGs that are much larger than `size` are decoded at a reduced scale, at least twice `size`. Pillow warns
    about scans of more than 89 million pixels and about damaged metadata; see `quiet_pillow`.

    Args:
        path: the file. Pipes, devices and folders are never opened.
        size: height and width of the result.

    Returns:
        The pixels, uint8 [size, size, 3], as `to_rgb` gives them; width and height of the image in the file;
        and which of `CONVERSIONS` were made.

    Raises:
        BrokenImage: the file is missing, unreadable, damaged, no image, or has more than 178 million pixels.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BrokenImage(path, "not a regular file")
        if not status.st_size:
            raise BrokenImage(path, "the file is empty")
        with Image.open(path, formats=FORMATS) as image:
            found, deep = image.size, _is_deep(image)
            image.draft(image.mode, (2 * size, 2 * size))
            pixels = to_rgb(image, size)
            if deep and image.mode.startswith("RGB") and not np.asarray(image)[..., :3].any():
                raise InputError("black, or 16-bit values only up to 255; store the image with 8 bits")
            return pixels, found, _conversions(image, deep)
    except (BrokenImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise BrokenImage(path, "not in a known image format") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise BrokenImage(path, f"it has more than {limit} million pixels") from None
    except Exception as error:  # Pillow raises many types on damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BrokenImage(path, " ".join(reason.split())) from None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Hides Pillow's warnings, which name no file. Enter it in one thread only, before others decode."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def describe(sizes: Collection[tuple[int, int]], size: int) -> str:
    """Returns what `to_rgb` did to images of these sizes, for the note of a dataset; "" for nothing.

    Args:
        sizes: widths and heights of the images.
        size: height and width that they were given.

    Example:
        >>> describe({(40, 36), (32, 32)}, 32)
        'images of 40x36 cropped to squares, resized to 32x32'
        >>> describe({(28, 28)}, 32)
        'images of 28x28 resized to 32x32'
    """
    other = sorted(set(sizes) - {(size, size)})
    if not other:
        return ""
    named = ", ".join(f"{width}x{height}" for width, height in other[:3]) + ", ..." * (len(other) > 3)
    done = [f"resized to {size}x{size}"] if any(min(found) != size for found in other) else []
    if any(width != height for width, height in other):
        done.insert(0, "cropped to squares")
    return f"images of {named} {', '.join(done)}"


def _from_array(array: np.ndarray) -> Image.Image:
    """Wraps an array as a Pillow image of mode L, RGB or RGBA."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    grey_or_colour = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype not in (np.uint8, np.uint16) or not grey_or_colour or not array.size:
        raise InputError(
            "an image must be uint8 or uint16 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], "
            f"not {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(high_byte(array) if array.dtype == np.uint16 else array)


def _turned(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation."""
    image.load()  # TIFF images are turned by this
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Returns what undoes the EXIF orientation; damaged EXIF data counts as none."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # many types, as for damaged pixels
        return None


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether an image file that is not loaded yet has more than 8 bits per channel.

    Pillow reads those in colour, whose raw mode is such as RGB;16B, as 8 bits: the high byte of each value.
    """
    return image.mode[0] in "IF" or any(re.search(r";16[BLN]", str(tile[3])) for tile in image.tile)


def _conversions(image: Image.Image, deep: bool) -> tuple[str, ...]:
    """Returns the texts in `CONVERSIONS` that apply to a loaded image."""
    made = (_turn(image) is not None, image.has_transparency_data, deep)
    return tuple(text for text, applies in zip(CONVERSIONS, made, strict=True) if applies)


def _square(image: Image.Image) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    if width == height:
        return image
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def _opaque(image: Image.Image) -> Image.Image:
    """Converts to RGB; where an image is transparent, on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
