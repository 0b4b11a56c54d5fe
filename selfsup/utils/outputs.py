"""Checks of the files that a command will write, before its work begins."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path


def output_file(flag: str, text: str, suffixes: tuple[str, ...] = (), source: str = "") -> Path:
    """Returns the path of a file that can be written. Links are followed.

    Args:
        flag: name of the flag, for error messages.
        text: the value of the flag. "~" is the home folder.
        suffixes: the accepted suffixes, in lower case as Keras needs them; empty for any.
        source: a file that is read, and must not be replaced.

    Raises:
        InputError: the path is empty, has another suffix, is a folder, a device or the source, or cannot be
            written; or its folder does not exist.

    Example:
        >>> output_file("out", "features.txt", (".npz", ".csv"))
        Traceback (most recent call last):
            ...
        selfsup.utils.errors.InputError: out must end in .npz or .csv, not 'features.txt'
    """
    if suffixes and text.strip() and Path(text).suffix not in suffixes:
        raise InputError(f"{flag} must end in {' or '.join(suffixes)}, not {text!r}")
    path = _real(flag, text)
    if path.is_dir():
        raise InputError(f"{flag} {path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path} is not a regular file; choose another --{flag}")
    if source and _is_at(path, source):
        raise InputError(f"{flag} {path} is the file that is read; choose another --{flag}")
    return path


def output_folder(flag: str, text: str) -> Path:
    """Returns the path of a folder that can be created or replaced: it does not exist, or it is a folder.

    Args:
        flag: name of the flag, for error messages.
        text: the value of the flag. "~" is the home folder.

    Raises:
        InputError: the path is empty or a file, cannot be written, or lies in a folder that does not exist.
    """
    path = _real(flag, text)
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag} {path} is a file; name a folder")
    return path


def nested_folder(flag: str, text: str) -> Path:
    """Returns the path of a folder that exists or can be created, together with those above it.

    Args:
        flag: name of the flag, for error messages.
        text: the value of the flag. "~" is the home folder.

    Raises:
        InputError: the path is empty, a file is in its place or above it, or it cannot be written.
    """
    path = user_path(flag, text)
    places = (path, *path.absolute().parents)
    existing = next(place for place in places if place.exists() or place.is_symlink())
    if not existing.is_dir():
        raise InputError(f"{flag} {path}: {existing} is not a folder; choose another --{flag}")
    _check_writable(flag, path, os.access(existing, os.W_OK))
    return path


@contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """Turns an `OSError` inside the block, which writes a path, into an `InputError` that names the flag."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); choose another --{flag}") from None


def _real(flag: str, text: str) -> Path:
    """Returns a path without links, in a folder that exists and can be written."""
    path = user_path(flag, text)
    try:
        path = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{flag} {text!r} cannot be used ({error}); choose another --{flag}") from None
    parent = path.parent
    if not parent.is_dir():
        raise InputError(f"{flag}: there is no folder {parent}; create it first")
    writable = os.access(parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
    _check_writable(flag, path, writable)
    return path


def _is_at(path: Path, text: str) -> bool:
    """Whether a text names a path without links. One that cannot be used is left to its reader."""
    try:
        return path == user_path("", text).resolve()
    except (InputError, OSError):
        return False


def _check_writable(flag: str, path: Path, writable: bool) -> None:
    if not writable:
        raise InputError(f"cannot write {flag} {path} (Permission denied); choose another --{flag}")
