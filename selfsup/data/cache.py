"""Decoded image files on disk: one folder per state of the files, with .npy arrays and `meta.json`.

An entry is written under a temporary name and renamed when it is complete, so that a crash leaves no partial
entry. Of two processes that write the same entry, the second uses that of the first.
"""

import hashlib
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL

from selfsup.data.images import VERSION, printable
from selfsup.data.layout import Layout
from selfsup.utils.errors import InputError

STALE = 24 * 3600
"""Seconds after which an unchanged temporary folder is taken for that of a killed process."""


def key(root: Path, layout: Layout, image_size: int, skip_broken: bool) -> str:
    """Returns 32 hex digits that change with the files, their classes, and the way they are decoded.

    A file is known by its path, its size, and its time of modification.
    """
    how = [VERSION, PIL.__version__, image_size, skip_broken, os.path.realpath(root)]
    digest, prefix = hashlib.sha256(json.dumps(how).encode()), len(os.fspath(root))
    for split, files in (("train", layout.train), ("test", layout.test)):
        for path, label in files:
            try:
                status = os.stat(path)  # noqa: PTH116 (Path.stat takes twice the time)
                state = f"{status.st_size} {status.st_mtime_ns}"
            except OSError as error:  # a link to nothing
                state = f"error {error.errno}"
            digest.update(os.fsencode(f"\0{split} {label} {state} {path[prefix:]}"))
    return digest.hexdigest()[:32]


class Writer:
    """Writes the arrays of an entry.

    Images are appended to files and not written by a memory map, because a full disk would then kill the
    process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def images(self, name: str, count: int, size: int) -> Iterator[Callable[[np.ndarray], None]]:
        """Yields a function that appends images, uint8 [n, size, size, 3], to the array `name`.

        Raises:
            OSError: the file cannot be written.
        """
        written = 0

        def append(images: np.ndarray) -> None:
            nonlocal written
            written += len(images)
            file.write(np.ascontiguousarray(images).data)

        with (self._folder / f"{name}.npy").open("wb") as file:
            file.write(_header((count, size, size, 3)))
            yield append
            file.seek(0)
            file.write(_header((written, size, size, 3)))
            _flush(file)

    def labels(self, name: str, values: np.ndarray) -> None:
        """Writes labels, int64 [N]."""
        with (self._folder / f"{name}.npy").open("wb") as file:
            np.save(file, values)
            _flush(file)


def cached(
    folder: Path, key: str, write: Callable[[Writer], list[str]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Opens an entry, after writing it if it is missing or damaged.

    Args:
        folder: of all entries.
        key: name of the entry.
        write: writes the arrays and returns notes.

    Returns:
        The arrays by name, images memory-mapped and read-only, and the notes.

    Raises:
        InputError: the entry cannot be written.
    """
    entry = folder / key
    if found := _open(entry):
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        with _temporary(folder, key) as temporary:
            notes = write(Writer(temporary))
            sizes = {path.stem: path.stat().st_size for path in sorted(temporary.glob("*.npy"))}
            with (temporary / "meta.json").open("w", encoding="utf-8") as file:
                json.dump({"sizes": sizes, "notes": notes}, file, indent=1)
                _flush(file)
            if _open(entry) is None:  # else another process was faster
                _remove(entry)
                try:
                    temporary.rename(entry)
                except OSError:
                    if not entry.exists():  # else another process was faster, just now
                        raise
    except OSError as error:
        raise InputError(
            f"cannot write decoded images to {printable(folder)}: {error.strerror or error}"
        ) from None
    if found := _open(entry):
        return found
    raise InputError(f"the decoded images in {printable(entry)} are damaged; remove that folder")


def _open(entry: Path) -> tuple[dict[str, np.ndarray], list[str]] | None:
    """Opens an entry; None if it is missing or damaged."""
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        arrays = {}
        for name, size in meta["sizes"].items():
            path = entry / f"{name}.npy"
            if path.stat().st_size != size:
                return None
            arrays[name] = np.load(path, mmap_mode="r" if name.startswith("x") else None)
        return arrays, list(meta["notes"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError):
        return None


def _header(shape: tuple[int, ...]) -> bytes:
    """Returns the header of an .npy file. It is padded, so that its length does not depend on the count."""
    buffer = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def _flush(file: IO[Any]) -> None:
    """Writes a file to the disk itself, so that it is complete before the entry is renamed."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    path = folder / f".{secrets.token_hex(4)}~{name}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove(entry: Path) -> None:
    """Removes a damaged entry at once, so that no other process sees a part of it."""
    aside = entry.with_name(f".{secrets.token_hex(4)}~{entry.name}")
    with suppress(OSError):  # there is none, or another process was faster
        entry.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left."""
    for path in folder.glob(".????????~*"):
        with suppress(OSError):  # another process was faster
            changed = max(p.stat().st_mtime for p in (path, *path.iterdir()))
            if changed < time.time() - STALE:
                shutil.rmtree(path, ignore_errors=True)
