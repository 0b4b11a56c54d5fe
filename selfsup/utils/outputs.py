"""Checks of the files that a command will write, before its work begins."""

import os
from pathlib import Path

from selfsup.utils.errors import InputError


def output_file(flag: str, text: str, suffixes: tuple[str, ...] = ()) -> Path:
    """Returns the path of a file that can be written. Links are followed.

    Args:
        flag: name of the flag, for error messages.
        text: the value of the flag. "~" is the home folder.
        suffixes: the accepted suffixes; empty for any.

    Raises:
        InputError: the path is empty, has another suffix, is a folder or a device, or cannot be written; or
            its folder does not exist.

    Example:
        >>> output_file("out", "features.txt", (".npz", ".csv"))
        Traceback (most recent call last):
            ...
        selfsup.utils.errors.InputError: out must be a .npz or .csv file, not 'features.txt'
    """
    if suffixes and Path(text).suffix.lower() not in suffixes:
        raise InputError(f"{flag} must be a {' or '.join(suffixes)} file, not {text!r}")
    path = _real(flag, text)
    if path.is_dir():
        raise InputError(f"{flag} {path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path} is not a regular file; choose another --{flag}")
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


def _real(flag: str, text: str) -> Path:
    if not text.strip():
        raise InputError(f"{flag} is empty; name a file")
    try:
        path = Path(text).expanduser().resolve()
        parent = path.parent
        if not parent.is_dir():
            raise InputError(f"{flag}: there is no folder {parent}; create it first")
        writable = os.access(parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{flag} {text!r} cannot be used ({error}); choose another --{flag}") from None
    if not writable:
        raise InputError(f"cannot write {flag} {path} (Permission denied); choose another --{flag}")
    return path
