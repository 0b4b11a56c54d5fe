"""Locks between processes, which the system takes back when one ends, however it ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None


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
