"""Expected pixels are computed with NumPy, never with the code under test."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from selfsup.data.images import BrokenImage, describe, printable, quiet_pillow, read_image, to_rgb
from selfsup.utils.errors import InputError

SIXTEEN = np.array([[0, 128, 129], [1799, 32768, 40000], [65406, 65407, 65535]], np.uint16)
EIGHT = np.array([[0, 0, 1], [7, 128, 156], [254, 255, 255]])  # SIXTEEN / 257, rounded


def colours(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey(values):
    return np.repeat(np.asarray(values)[..., None], 3, axis=2)


def reopened(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def png16(pixels):
    """Returns a PNG file of 16 bits with 2 to 4 channels, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 16, {2: 4, 3: 2, 4: 6}[pixels.shape[2]], 0, 0, 0)
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(SIXTEEN),
        reopened(Image.fromarray(SIXTEEN)),
        reopened(Image.fromarray(SIXTEEN), "TIFF"),
        Image.frombytes("I;16B", (3, 3), SIXTEEN.astype(">u2").tobytes()),
        Image.fromarray(SIXTEEN.astype(np.int32)),
        SIXTEEN,
        SIXTEEN[..., None],
        grey(SIXTEEN),
    ],
    ids=["I;16", "PNG", "TIFF", "I;16B", "I", "array", "array with channel", "RGB array"],
)
def test_sixteen_bits_are_scaled(image):
    np.testing.assert_array_equal(to_rgb(image, 3), grey(EIGHT))


def test_sixteen_bit_rgb_keeps_the_high_byte():
    pixels = np.random.default_rng(0).integers(0, 65536, (4, 4, 3)).astype(np.uint16)
    np.testing.assert_array_equal(to_rgb(Image.open(io.BytesIO(png16(pixels))), 4), pixels >> 8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([[0, 0.5], [0.2, 1]], [[0, 128], [51, 255]]), ([[0, 1], [100.4, 255]], [[0, 1], [100, 255]])],
)
def test_floats_are_in_0_to_1_or_0_to_255(values, expected):
    np.testing.assert_array_equal(to_rgb(Image.fromarray(np.float32(values)), 2), grey(expected))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.float32([[-0.1, 1]])),
        Image.fromarray(np.float32([[0, 256]])),
        Image.fromarray(np.float32([[0, np.nan]])),
        Image.fromarray(np.int32([[0, 65536]])),
        Image.fromarray(np.int32([[-1, 5]])),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((3, 2, 2, 3), np.uint8),
        np.zeros((0, 2, 3), np.uint8),
    ],
)
def test_values_that_cannot_be_converted(image):
    with pytest.raises(InputError, match=r"^(float|integer) values must|^an image must"):
        to_rgb(image, 2)


def transparent():
    pixels = colours((4, 4, 4))
    pixels[0, 0, 3], pixels[1, 1, 3] = 0, 255
    return pixels


def on_white(pixels):
    opacity = pixels[..., -1:] / 255
    return pixels[..., :-1] * opacity + 255 * (1 - opacity)


def test_transparent_pixels_are_white():
    pixels = transparent()
    for image in (pixels, Image.fromarray(pixels), reopened(Image.fromarray(pixels))):
        np.testing.assert_allclose(to_rgb(image, 4), on_white(pixels), atol=1)
    two = pixels[..., 2:]
    image = Image.frombytes("LA", (4, 4), two.tobytes())
    np.testing.assert_allclose(to_rgb(image, 4), grey(on_white(two)[..., 0]), atol=1)


def test_one_colour_may_be_transparent():
    pixels = colours((4, 4, 3))
    pixels[2, 1] = (1, 2, 3)
    expected = pixels.copy()
    expected[2, 1] = 255
    image = reopened(Image.fromarray(pixels), transparency=(1, 2, 3))
    np.testing.assert_array_equal(to_rgb(image, 4), expected)
    image = reopened(Image.fromarray(pixels[..., 0]), transparency=1)
    np.testing.assert_array_equal(to_rgb(image, 4), grey(np.where(pixels[..., 0] == 1, 255, pixels[..., 0])))
    image = reopened(Image.fromarray(SIXTEEN), transparency=1799)
    np.testing.assert_array_equal(to_rgb(image, 3), grey(np.where(EIGHT == 7, 255, EIGHT)))


def test_palettes():
    places, palette = colours((4, 4)) % 5, colours((5, 3), seed=1)
    image = Image.frombytes("P", (4, 4), places.tobytes())
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(to_rgb(image, 4), palette[places])
    expected = np.where((places == 3)[..., None], 255, palette[places])
    np.testing.assert_array_equal(to_rgb(reopened(image, transparency=3), 4), expected)
    np.testing.assert_array_equal(to_rgb(image.convert("PA"), 4), palette[places])


def test_cmyk_and_one_bit():
    inks = np.zeros((2, 2, 4), np.uint8)
    inks[0, 1, 0] = inks[1, 0, 3] = 255
    image = Image.frombytes("CMYK", (2, 2), inks.tobytes())
    expected = [[[255, 255, 255], [0, 255, 255]], [[0, 0, 0], [255, 255, 255]]]
    np.testing.assert_array_equal(to_rgb(image, 2), expected)
    bits = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(to_rgb(Image.fromarray(bits), 2), grey(bits * 255))


SEEN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""What a viewer shows for each EXIF orientation."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [*SEEN, 0, 9])
def test_exif_orientation(orientation, kind):
    pixels, exif = colours((4, 4, 3)), Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = reopened(Image.fromarray(pixels), kind, exif=exif, **options)
    np.testing.assert_array_equal(to_rgb(image, 4), SEEN.get(orientation, SEEN[1])(pixels))


def test_damaged_exif_counts_as_none():
    pixels = colours((4, 4, 3))
    image = reopened(Image.fromarray(pixels), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    with quiet_pillow():
        np.testing.assert_array_equal(to_rgb(image, 4), pixels)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((4, 8), (0, 4), (2, 6)),
        ((9, 4), (2, 6), (0, 4)),
        ((4, 4), (0, 4), (0, 4)),
    ],
)
def test_the_largest_central_square_is_kept(shape, rows, columns):
    pixels = colours((*shape, 3))
    np.testing.assert_array_equal(to_rgb(pixels, 4), pixels[slice(*rows), slice(*columns)])


def triangles(source, target):
    """The matrix of bilinear resizing with antialiasing, [target, source]."""
    scale = source / target
    centres, places = (np.arange(target) + 0.5) * scale, np.arange(source) + 0.5
    weights = np.maximum(0, 1 - np.abs(places - centres[:, None]) / max(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("source", "target"), [(64, 32), (45, 32), (8, 32), (50, 7), (1, 5)])
def test_resizing_is_bilinear_and_antialiased(source, target):
    pixels = colours((source, source, 3))
    matrix = triangles(source, target)
    np.testing.assert_allclose(
        to_rgb(pixels, target), np.einsum("ir,rcd,jc->ijd", matrix, pixels.astype(float), matrix), atol=1.01
    )


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 1), (5, 5, 3)])
def test_arrays_of_the_right_size_are_unchanged(shape):
    pixels = colours(shape)
    expected = pixels if len(shape) == 3 and shape[2] == 3 else grey(pixels.reshape(5, 5))
    np.testing.assert_array_equal(to_rgb(pixels, 5), expected)
    np.testing.assert_array_equal(to_rgb(Image.fromarray(expected), 5), expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_files_of_each_lossless_format(tmp_path, kind):
    pixels, path = colours((4, 4, 3)) // 64 * 64, tmp_path / "image.jpg"  # whatever the suffix
    Image.fromarray(pixels).save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))
    found, size, _ = read_image(path, 4)
    np.testing.assert_array_equal(found, pixels)
    assert size == (4, 4)


@pytest.mark.parametrize("suffix", ["gif", "png", "tiff", "webp"])
def test_the_first_image_of_an_animation_counts(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black", "red")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (read_image(tmp_path / f"a.{suffix}", 4)[0] == 255).all()


def test_large_jpegs_are_decoded_at_a_reduced_scale(tmp_path, monkeypatch):
    path, decoded = tmp_path / "a.jpg", []
    y, x = np.mgrid[:400, :600]
    pixels = np.stack([y / 400, x / 600, (x + y) / 1000], axis=-1) * 255
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
    whole = to_rgb(Image.open(path), 32)
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: decoded.append(image.size) or load(image))
    found, size, _ = read_image(path, 32)
    assert size == (600, 400)
    assert (100, 67) not in decoded
    assert (150, 100) in decoded  # a quarter, still at least 2 * 32
    np.testing.assert_allclose(found, whole.astype(int), atol=3)


@pytest.fixture
def pillow_limit(monkeypatch):
    """Pillow warns about 100 pixels and refuses 200."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


@pytest.mark.usefixtures("pillow_limit")
def test_large_scans_are_read_quietly_up_to_a_limit(tmp_path):
    Image.new("L", (12, 12), 7).save(tmp_path / "large.png")
    with warnings.catch_warnings(), quiet_pillow():
        assert (read_image(tmp_path / "large.png", 4)[0] == 7).all()
    Image.new("L", (20, 20)).save(tmp_path / "huge.png")
    with pytest.raises(BrokenImage, match="it has more than 0 million pixels"):
        read_image(tmp_path / "huge.png", 4)


def damaged(kind, keep, shape=(64, 64, 3)):
    file = io.BytesIO()
    Image.fromarray(colours(shape)).save(file, kind)
    return file.getvalue()[:keep]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404 not found</html>", "not in a known image format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not in a known image format"),
        (damaged("JPEG", -500), "truncated"),
        (damaged("PNG", -500), "truncated"),
        (damaged("BMP", -500), "truncated"),
        (damaged("GIF", 900), "truncated"),
        (damaged("TIFF", 900), "."),
        (damaged("WEBP", -500), "."),
        (damaged("PNG", 20), "."),
    ],
)
def test_damaged_files(tmp_path, data, reason):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with quiet_pillow(), pytest.raises(BrokenImage, match=reason) as error:
        read_image(path, 8)
    assert str(error.value).startswith(f"{path} is not a readable image: ")
    assert "\n" not in str(error.value)
    assert error.value.path == path


def test_values_out_of_range_name_the_file(tmp_path):
    Image.fromarray(np.float32([[0, 1e6]])).save(tmp_path / "a.tiff")
    with pytest.raises(BrokenImage, match=r"a\.tiff .*float values must lie in"):
        read_image(tmp_path / "a.tiff", 8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([[0, np.nextafter(1, 2)]]), [0, 255]),  # resampling overshoots
        (np.float32([[-1e-4, 0.5]]), [0, 128]),
        (np.float32([[0, 200]]), [0, 200]),
        (np.uint16([[0, 65535]]), [0, 255]),
        (np.uint16([[0, 0]]), [0, 0]),
        (np.float32([[0, 1.5]]), "float values must lie in"),
        (np.uint16([[0, 255]]), "integer values only up to 255: nearly black"),
    ],
)
def test_no_range_is_mistaken_for_another(values, expected, tmp_path):
    Image.fromarray(np.repeat(values, 2, axis=0)).save(tmp_path / "a.tiff")
    if isinstance(expected, str):
        with pytest.raises(BrokenImage, match=expected):
            read_image(tmp_path / "a.tiff", 2)
    else:
        assert read_image(tmp_path / "a.tiff", 2)[0][0, :, 0].tolist() == expected


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_are_not_taken_for_black(channels, rng, tmp_path):
    opacity = channels % 2 == 0
    pixels = rng.integers(0, 256, (8, 8, channels)).astype(np.uint16)
    if opacity:
        pixels[..., -1] = 65535
    (tmp_path / "dark.png").write_bytes(png16(pixels))
    with pytest.raises(BrokenImage, match=r"dark\.png .*16-bit values only up to 255"):
        read_image(tmp_path / "dark.png", 8)
    colour = pixels[..., : channels - opacity]
    colour *= 257
    (tmp_path / "full.png").write_bytes(png16(pixels))
    found, _, changes = read_image(tmp_path / "full.png", 8)
    np.testing.assert_array_equal(found, np.broadcast_to(colour // 257, (8, 8, 3)))
    assert "of more than 8 bits, scaled to 8" in changes


def test_pipes_folders_and_dead_links_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name, reason in (
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("link", "No such file or directory"),
    ):
        with pytest.raises(BrokenImage, match=reason):
            read_image(tmp_path / name, 8)


def test_running_out_of_memory_is_not_a_broken_image(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "a.png", 4)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({(32, 32)}, ""),
        ({(32, 32), (28, 28)}, "images of 28x28 resized to 32x32"),
        ({(40, 32)}, "images of 40x32 cropped to squares"),
        ({(40, 36)}, "images of 40x36 cropped to squares, resized to 32x32"),
        (
            {(n, n) for n in range(1, 6)},
            "images of 1x1, 2x2, 3x3, ... resized to 32x32",
        ),
    ],
)
def test_description_of_what_was_changed(sizes, text):
    assert describe(sizes, 32) == text


def test_printable_paths():
    assert printable("猫/Größe é.png") == "猫/Größe é.png"
    assert printable("a\nb\t\x1b[0m") == "a\\nb\\t\\x1b[0m"
    assert printable(os.fsdecode(b"caf\xe9")).encode() == b"caf\\xe9"
