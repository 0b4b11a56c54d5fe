"""Files that are written whole or not at all."""

import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}~.+")


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A temporary path, of the same suffix, whose file takes the place of `path` at the end.

    On an error `path` is left alone. The file is on the disk before it gets its name.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}~{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO]:
    """A file open for writing that takes the place of `path` at the end, or leaves it alone on an error."""
    as_text = {} if "b" in mode else {"newline": "", "encoding": "utf-8"}
    with replacement(path) as temporary, temporary.open(mode, **as_text) as file:
        yield file


def sweep(folder: Path) -> None:
    """Deletes what killed processes left half-written in a folder; nobody else may be writing there."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()


@contextmanager
def or_warning(what: str) -> Iterator[None]:
    """Goes on where the disk refuses to take `what`, with a warning on stderr."""
    try:
        yield
    except OSError as error:
        print(f"warning: cannot write {what} ({error.strerror}); going on", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[IO]:
    """Holds the lock of a file, which is made if need be, and gives the file open for reading and appending.

    Where the file system knows no locks it goes on without, with a warning.

    Args:
        path: the file.
        wait: for another process to be done; else it is an error.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be written.
    """
    with path.open("a+") as file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError as error:
            print(f"warning: {path} cannot be locked ({error.strerror}); going on", file=sys.stderr)
        yield file
