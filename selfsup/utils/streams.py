"""Printing that never stops a run: to a full disk, a closed pipe, or a terminal that knows only ASCII."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any


class Tolerant:
    """A text stream that drops what cannot be written; otherwise it behaves like the stream that it wraps.

    Characters that the stream's encoding lacks become "?".

    Example:
        >>> import io
        >>> raw = io.BytesIO()
        >>> stream = io.TextIOWrapper(raw, "ascii", write_through=True)
        >>> print("caf\\u00e9", file=Tolerant(stream))
        >>> raw.getvalue()
        b'caf?\\n'
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes the text if possible; returns its length."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self.stream.isatty()
        except ValueError:
            return False

    def flush(self) -> None:
        """Flushes the stream if possible."""
        with suppress(OSError, ValueError):
            self.stream.flush()


@contextmanager
def tolerant_output() -> Iterator[None]:
    """Makes stdout and stderr `Tolerant` inside the block."""
    with redirect_stdout(_tolerant(sys.stdout)), redirect_stderr(_tolerant(sys.stderr)):
        yield


def _tolerant(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, Tolerant) else Tolerant(stream)


def discard_unwritable() -> None:
    """Before a process ends: discards buffered output that cannot be written, so that its end is silent."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None if it was closed from the start
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
