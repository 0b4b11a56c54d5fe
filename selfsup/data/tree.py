"""The image files in and below folders, by suffix. Only names are read."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from selfsup.data.images import printable
from selfsup.utils.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Suffixes of image files, in any case."""

_HIDDEN = ("__MACOSX", "@eaDir", "Thumbs.db")
_RUN = ".lock"
"""The file that marks the folder of a run, whose figures and decoded images are not data."""


@dataclass(frozen=True)
class Folder:
    """A folder in a tree.

    Attributes:
        path: how it was reached.
        outside: whether symbolic links lead from the root of the tree out of it.
        home: the root, without symbolic links.
    """

    path: str
    outside: bool
    home: Path

    @classmethod
    def root(cls, path: Path) -> "Folder":
        """Returns the root of a tree."""
        return cls(os.fspath(path), False, Path(os.path.realpath(path)))

    def __str__(self) -> str:
        return printable(self.path)

    @property
    def name(self) -> str:
        """The name in Unicode NFC, printable."""
        return unicodedata.normalize("NFC", printable(Path(self.path).name))


@dataclass
class Found:
    """Entries of folders.

    Attributes:
        folders: folders that are not hidden.
        images: paths of files with the suffix of an image; not all need to be readable files.
        counts: numbers of `hidden` entries, of `other` files, of folders of `runs`, of `repeated` folders,
            and of images `outside`, to which links lead out of the root.
    """

    folders: list[Folder] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def without_images(self) -> Counter[str]:
        """Returns the counts if the images are skipped because they lie beside folders."""
        return Counter({**self.counts, "outside": 0, "loose": len(self.images)})


def list_folder(folder: Folder) -> Found:
    """Returns the folders and images in a folder, sorted by name, and counts the other entries.

    Folders of runs are left out, so that a run may lie beside the images that it learns from.

    Raises:
        InputError: the folder cannot be read.
    """
    found = Found()
    with _readable(folder), os.scandir(folder.path) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself
            is_folder = False
        if entry.name.startswith(".") or entry.name in _HIDDEN:
            found.counts["hidden"] += 1
        elif not is_folder and not entry.name.lower().endswith(SUFFIXES):
            found.counts["other"] += 1
        elif is_folder and is_run(Path(entry.path)):
            found.counts["runs"] += 1
        else:
            outside = folder.outside
            if entry.is_symlink():
                outside = not Path(os.path.realpath(entry.path)).is_relative_to(folder.home)
            if is_folder:
                found.folders.append(Folder(entry.path, outside, folder.home))
            else:
                found.images.append(entry.path)
                found.counts["outside"] += outside
    return found


def walk(folders: Iterable[Folder], above: Iterable[Folder]) -> Found:
    """Finds the images in and below folders.

    Args:
        folders: where to start.
        above: folders that are left out if links lead to them, so that links cannot loop.

    Raises:
        InputError: a folder cannot be read.
    """
    found, seen, waiting = Found(), {_identity(folder) for folder in above}, list(folders)[::-1]
    while waiting:
        folder = waiting.pop()
        if (identity := _identity(folder)) in seen:
            found.counts["repeated"] += 1
            continue
        seen.add(identity)
        below = list_folder(folder)
        found.images += below.images
        found.counts += below.counts
        waiting += below.folders[::-1]
    return found


def walk_classes(folders: Iterable[Folder], above: Sequence[Folder]) -> dict[str, Found]:
    """Finds the images of each class, by its name and sorted by it.

    Folders that have the same name in Unicode NFC are one class.

    Args:
        folders: the class folders.
        above: as for `walk`.

    Raises:
        InputError: a folder cannot be read.
    """
    groups: dict[str, list[Folder]] = {}
    for folder in folders:
        groups.setdefault(folder.name, []).append(folder)
    return {name: walk(groups[name], above) for name in sorted(groups)}


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    with suppress(OSError):  # an unreadable folder, which is reported when it is listed
        return (folder / _RUN).exists()
    return False


@contextmanager
def _readable(folder: Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from None


def _identity(folder: Folder) -> tuple[int, int]:
    with _readable(folder):
        status = Path(folder.path).stat()
    return status.st_dev, status.st_ino
