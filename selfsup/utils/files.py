"""Files that are written completely or not at all, and file locks."""

import os
import platform
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from selfsup.utils.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_BYTE = 2**30
"""On Windows one byte far beyond the end of the file is locked, so that others may read its content."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}~.+")


def user_path(flag: str, text: str) -> Path:
    """Returns the path that a user names. "~" is the home folder. Nothing needs to be there.

    Args:
        flag: name of the flag or argument, for error messages.
        text: the path.

    Raises:
        InputError: the path is empty, or cannot be reached.

    Example:
        >>> user_path("workdir", "~/runs") == Path.home() / "runs"
        True
    """
    if not text.strip():
        raise InputError(f"{flag} is empty; name a path, or leave it out")
    try:
        path = Path(text).expanduser()
        path.exists()
    except OSError as error:  # a folder above it cannot be searched
        raise InputError(
            f"{flag} {text} cannot be used ({error.strerror}); choose another --{flag}"
        ) from None
    except RuntimeError:
        raise InputError(f"{flag} {text}: there is no such home folder; check the path") from None
    return path


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Yields a temporary path whose file replaces `path` at the end of the block.

    The temporary path has the same suffix. Its content reaches the disk before it is renamed, so a crash
    leaves either the old file or the new one. An error inside the block leaves `path` unchanged.

    Raises:
        OSError: the file cannot be written.
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
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Yields a file open for writing that replaces `path` at the end of the block; see `replacement`.

    Args:
        path: the file to replace.
        mode: "w" for UTF-8 text without newline translation, "wb" for bytes.

    Raises:
        OSError: the file cannot be written.
    """
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    with replacement(path) as temporary, temporary.open(mode, encoding=encoding, newline=newline) as file:
        yield file


def sweep(folder: Path) -> None:
    """Deletes the temporary files that killed processes left in a folder.

    No other process may be writing to the folder.
    """
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()


@contextmanager
def or_warning(what: str) -> Iterator[None]:
    """Turns an `OSError` inside the block into a warning on stderr that names `what` was not written."""
    try:
        yield
    except OSError as error:
        print(f"warning: cannot write {what} ({error.strerror}); continuing", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[IO[str]]:
    """Holds the lock of a file and yields the file, open for reading and appending.

    The file is created if needed. The holder of the lock may delete it. On a file system without locks,
    nothing is locked, and a warning is printed to stderr.

    Args:
        path: the file.
        wait: whether to wait for a process that holds the lock, instead of raising an error.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
        OSError: the file cannot be written.
    """
    while True:
        with path.open("a+") as file:
            try:
                _lock(file, wait)
            except BlockingIOError:
                raise
            except OSError as error:
                print(f"warning: cannot lock {path} ({error.strerror}); continuing", file=sys.stderr)
            if not _is_at(file, path):
                continue  # its last holder deleted it
            yield file
            return


@contextmanager
def held(path: Path, flag: str) -> Iterator[None]:
    """Holds the lock of a file in which others read which process holds it.

    Args:
        path: the file.
        flag: name of the flag that chooses the file's folder, for the error message.

    Raises:
        InputError: another process holds the lock.
        OSError: the file cannot be written.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(locked(path, wait=False))
        except BlockingIOError:
            owner = f"process {path.read_text().strip()} is using {path.parent}"
            raise InputError(f"{owner}; wait until it ends or choose another --{flag}") from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _lock(file: IO[str], wait: bool) -> None:
    """Locks an open file; the lock ends when it is closed."""
    if sys.platform == "win32":
        file.seek(_LOCKED_BYTE)
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:  # LK_LOCK gives up after ten seconds
                if not wait:
                    raise BlockingIOError(error.errno, error.strerror) from None
    else:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file still lies at its path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
