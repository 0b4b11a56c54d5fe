"""Which files of a folder are training and test images, and of which class. No file is opened.

Folders with classes:
    train/CLASS/... and test/CLASS/... (or val, validation, valid). Without a test folder, or if the class
    folders lie in the folder itself, a tenth of each class is held out for testing.
Folders without classes, in which all images are training images:
    images in the folder itself or in train: alone, with a single class folder, or with class folders that
    hold fewer images.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from selfsup.data.labels import hold_out
from selfsup.data.tree import Folder, Found, list_folder, walk, walk_classes
from selfsup.utils.errors import InputError

TEST_NAMES = ("test", "val", "validation", "valid")
"""Names of the test folder, in any case. The first that has class folders is used."""
_EXPECTED = "expected train/CLASS/ and test/CLASS/ with images, CLASS/ with images, or images without classes"

Files = list[tuple[str, int]]
"""Paths and classes."""


@dataclass(frozen=True)
class Layout:
    """Images of a folder.

    Attributes:
        train: paths and classes of the training images, by class, then by name.
        test: the same for the test images; empty without classes.
        class_names: names of the classes in Unicode NFC, sorted by code point; () without classes.
        notes: what was assumed and left out, as text.
    """

    train: Files
    test: Files = field(default_factory=list)
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find(root: Path, split: bool = True) -> Layout:
    """Finds the images of a folder.

    Symbolic links are followed. Hidden files and folders are left out, and so are the folders of runs and
    files with other suffixes than `tree.SUFFIXES`.

    Args:
        root: the folder.
        split: whether the images are for training: then images are held out if there is no test folder, and
            each class needs some.

    Raises:
        InputError: there are no images, a class has none, a test class has no training images, or a folder
            cannot be read.
    """
    here = Folder.root(root)
    top = list_folder(here)
    train, *others = (_only(name, here, top.folders) for name in ("train", *TEST_NAMES))
    tests = [folder for folder in others if folder]
    if train:
        inner = list_folder(train)
        rest = [folder for folder in top.folders if folder not in (train, *tests)]
        if inner.images and not inner.folders and walk(rest, [here, train]).images:
            raise InputError(
                f"{here} has images in train and in {_names(rest)}; if these are classes, move them into a "
                "folder train, otherwise move all but train elsewhere"
            )
        return _arrange([here, train], inner, top.without_images(), tests, [*tests, *rest], split)
    if tests and split:
        raise InputError(f"{here} has {_names(tests)} but no folder train; {_EXPECTED}")
    if len(top.folders) == 1 and not top.images and _only("train", here, list_folder(top.folders[0]).folders):
        raise InputError(f"{here} has no images of its own; did you mean {top.folders[0]}?")
    return _arrange([here], top, Counter(), [], [], split)


def _arrange(
    above: Sequence[Folder],
    base: Found,
    skipped: Counter[str],
    tests: Sequence[Folder],
    unused: Sequence[Folder],
    split: bool,
) -> Layout:
    """Arranges the images in and below the folder `above[-1]`.

    Args:
        above: the folders from the root on.
        base: entries of the last of them.
        skipped: what was skipped so far.
        tests: folders that may hold the test images.
        unused: all folders beside `above[-1]`, including `tests`.
        split: see `find`.
    """
    where, found = above[-1], walk_classes(base.folders, above)
    labels = {name: label for label, name in enumerate(name for name in found if found[name].images)}
    if not labels and not base.images:
        raise InputError(f"{where} has no images; {_EXPECTED}")
    empty = sorted(name for name in found.keys() - labels.keys() if not found[name].counts["runs"])
    if split and empty and labels and (len(labels) > 1 or len(above) > 1):
        raise InputError(f"{where} has a class {empty[0]!r} without images; add some or remove it")
    skipped = sum((below.counts for below in found.values()), skipped)
    inside = [path for below in found.values() for path in below.images]
    if len(labels) < 2 or len(base.images) > len(inside):
        images = [*base.images, *inside]
        assumed = f"only one class folder, {next(iter(labels))}" if labels else "no class folders"
        if len(labels) > 1:
            assumed = f"most images lie outside the {len(labels)} folders"
        notes = [f"{assumed}: images are not labelled", *_left_out(skipped + base.counts, unused)]
        return Layout([(path, 0) for path in images], notes=tuple(notes))
    train = _labelled(found, labels)
    skipped += base.without_images()
    folder = next((test for test in tests if list_folder(test).folders), None)
    if folder is None and not split:
        return Layout(train, [], tuple(labels), tuple(_left_out(skipped, unused)))
    if folder is None:
        held = hold_out(np.array([label for _, label in train]))
        test = [file for file, out in zip(train, held, strict=True) if out]
        train = [file for file, out in zip(train, held, strict=True) if not out]
        if not test:
            raise InputError(f"{where} has one image per class, so that none can be held out; {_EXPECTED}")
        notes = [f"{_number(len(test), 'image')} held out for testing"]
    else:
        base, notes = list_folder(folder), []
        found = walk_classes(base.folders, [*above, folder])
        _check_known(found, labels, folder, where)
        test = _labelled(found, labels)
        if not test:
            raise InputError(f"{folder} has no images; {_EXPECTED}")
        skipped = sum((below.counts for below in found.values()), skipped + base.without_images())
    missing = len(labels) - len({label for _, label in test})
    if missing and split:
        notes.append(f"{_number(missing, 'class', 'classes')} without test images")
    notes += _left_out(skipped, [other for other in unused if other != folder])
    return Layout(train, test, tuple(labels), tuple(notes))


def _labelled(found: Mapping[str, Found], labels: Mapping[str, int]) -> Files:
    return [(path, labels[name]) for name, below in found.items() for path in below.images]


def _check_known(found: Iterable[str], known: Iterable[str], test: Folder, train: Folder) -> None:
    if unknown := sorted(set(found) - set(known)):
        alike = [name for name in known if name.casefold() == unknown[0].casefold()]
        hint = f"{train.name} has {alike[0]!r}; rename one of them" if alike else "rename or remove it"
        raise InputError(f"{test} has a class {unknown[0]!r} that {train} lacks; {hint}")


def _only(name: str, parent: Folder, folders: Iterable[Folder]) -> Folder | None:
    """Returns the folder of this name in any case."""
    same = [folder for folder in folders if folder.name.lower() == name]
    if len(same) > 1:
        raise InputError(f"{parent} has {_names(same)}, which differ only in case; keep one of them")
    return same[0] if same else None


def _left_out(counts: Counter[str], unused: Sequence[Folder]) -> list[str]:
    """Returns notes of what was skipped, and of images outside."""
    skipped = [
        _number(counts["loose"], "image") + " outside the folders used",
        _number(counts["other"], "other file"),
        _number(counts["hidden"], "hidden file or folder", "hidden files or folders"),
        _number(counts["runs"], "folder of a run", "folders of runs"),
        _number(counts["repeated"], "repeated folder"),
    ]
    notes = [f"{text} skipped" for text in skipped if not text.startswith("0 ")]
    if unused:
        notes.insert(0, f"{_names(unused)} not used")
    if counts["outside"]:
        notes.append(f"{_number(counts['outside'], 'image')} behind links that lead out of the folder")
    return notes


def _names(folders: Sequence[Folder]) -> str:
    names = ", ".join(folder.name for folder in folders[:3]) + ", ..." * (len(folders) > 3)
    return f"folder{'s' * (len(folders) > 1)} {names}"


def _number(count: int, noun: str, nouns: str = "") -> str:
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"
