"""Labels of any form as classes that are numbered from 0, and choices of images to test on or learn from."""

import numpy as np

from selfsup.utils.errors import InputError

SHARE = 10
"""One of this many images of each class is held out where there are no test images."""


def one_label_each(labels: np.ndarray, count: int, where: str) -> np.ndarray:
    """Returns the labels as one value per image.

    Args:
        labels: [N] or [N, 1] whole numbers of any dtype, booleans or text, or one-hot rows [N, C].
        count: number of images N.
        where: the array and its source, for error messages.

    Returns:
        [N], int64, uint64 (only for values above the range of int64), text or bytes.

    Raises:
        InputError: there is not one label for each image, or the labels have another dtype, are not whole
            numbers, or are rows that are not one-hot.

    Example:
        >>> one_label_each(np.array([[0.0, 1.0], [1.0, 0.0]]), 2, "y_train").tolist()
        [1, 0]
        >>> one_label_each(np.array([[4], [7]], np.uint8), 2, "y_train").tolist()
        [4, 7]
    """
    kind, shape = labels.dtype.kind, list(labels.shape)
    if kind not in "biufUS" or labels.ndim not in (1, 2) or (labels.ndim == 2 and not shape[1]):
        raise InputError(
            f"{where} must be numbers or text [N] or [N, 1], or one-hot [N, C], not {labels.dtype} {shape}"
        )
    if len(labels) != count:
        raise InputError(f"{where} {shape} must have one label for each of the {count} images")
    if labels.ndim == 2 and shape[1] == 1:
        labels = labels[:, 0]
    if kind in "US" and labels.ndim == 1:
        return labels
    if labels.ndim == 2:
        if kind in "US" or not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise InputError(f"{where} {shape} is not one-hot: each row must be all 0 except one 1")
        return labels.argmax(axis=1).astype(np.int64)
    if kind == "f" and not (np.abs(labels) < 2**53).all():  # also for NaN
        raise InputError(f"{where} has values that are infinite, too large or not a number")
    if kind == "f" and (labels != np.rint(labels)).any():
        raise InputError(f"{where} must be whole numbers; it has {labels[labels != np.rint(labels)][0]:.6g}")
    if kind == "u" and count and int(labels.max()) > np.iinfo(np.int64).max:
        return labels.astype(np.uint64)
    return labels.astype(np.int64)


def number(
    y_train: np.ndarray, y_test: np.ndarray | None, source: str, named: bool = False
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...], str]:
    """Numbers the classes 0, 1, ... in the order of their labels.

    Args:
        y_train, y_test: labels as from `one_label_each`; None if there are no test images.
        source: the name of the dataset, for error messages.
        named: whether the classes have names; labels that all differ are then no ids.

    Returns:
        The two arrays as int64, the labels as text in the order of the classes, and a note. The last two are
        empty if the labels were 0, 1, ... already.

    Raises:
        InputError: there are fewer than two classes, labels differ from image to image like ids, -1 stands
            for "no label" (`has_none`), or `y_test` has a label that `y_train` lacks.

    Example:
        >>> number(np.array([7, 10**9, 7, 7]), np.array([10**9]), "ids.npz")
        (array([0, 1, 0, 0]), array([1]), ('7', '1000000000'), 'labels 7 to 1000000000 renumbered 0 to 1')
    """
    labels, classes = np.unique(y_train, return_inverse=True)
    if len(labels) < 2:
        raise InputError(
            f"{source}: y_train must have at least two classes; all its labels are {labels[0]!s}"
        )
    if 2 * len(labels) > len(y_train) and not named:
        raise InputError(
            f"{source}: y_train looks like ids, not classes: {len(labels)} different labels for "
            f"{len(y_train)} images; if they are classes, store their names as class_names"
        )
    numbers = labels.dtype.kind in "iu"
    if has_none(labels):
        raise InputError(
            f"{source}: y_train has the label -1 beside {labels[1]} to {labels[-1]}; store images without a "
            "label as x_extra, or number the classes from 0"
        )
    if y_test is not None:
        unknown = sorted(set(np.unique(y_test).tolist()) - set(labels.tolist()), key=str)
        if unknown:
            shown = ", ".join(map(str, unknown[:3])) + ", ..." * (len(unknown) > 3)
            raise InputError(f"{source}: y_test has labels that y_train lacks: {shown}")
        y_test = np.searchsorted(labels, y_test.astype(labels.dtype)).astype(np.int64)
    names = tuple(as_text(label) for label in labels)
    note = f"labels {names[0]} to {names[-1]} renumbered 0 to {len(names) - 1}" if numbers else ""
    if numbers and np.array_equal(labels, np.arange(len(labels))):
        names, note = (), ""
    return classes.reshape(-1).astype(np.int64), y_test, names, note


def has_none(labels: np.ndarray) -> bool:
    """Whether the least label is -1 and stands for "no label", as beside at least two others.

    Args:
        labels: all different labels in ascending order.

    Example:
        >>> has_none(np.array([-1, 0, 1])), has_none(np.array([-1, 1]))
        (True, False)
    """
    return labels.dtype.kind in "iu" and len(labels) > 2 and int(labels[0]) == -1


def hold_out(classes: np.ndarray) -> np.ndarray:
    """Chooses a tenth of the images of each class at random, and at least one of two or more.

    Args:
        classes: int [N], from 0.

    Returns:
        bool [N], true for the images to hold out.

    Example:
        >>> chosen = hold_out(np.repeat([0, 1, 2], [100, 5, 1]))
        >>> np.bincount(np.repeat([0, 1, 2], [100, 5, 1]), weights=chosen).tolist()
        [10.0, 1.0, 0.0]
    """
    chosen = np.zeros(len(classes), bool)
    order = np.argsort(classes, kind="stable")
    for label, members in enumerate(np.split(order, np.cumsum(np.bincount(classes))[:-1])):
        count = max(round(len(members) / SHARE), int(len(members) > 1))
        chosen[np.random.default_rng([0, label]).permutation(members)[:count]] = True
    return chosen


def stratified(classes: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Chooses a share of the images of each class at random, and at least one image of each.

    The choices of one seed are nested: a larger share contains a smaller one.

    Args:
        classes: int [N], from 0; each class has at least one image.
        share: in (0, 1].
        seed: of the choice.

    Returns:
        The chosen images in ascending order, int64.

    Example:
        >>> classes = np.repeat([0, 1, 2], [100, 5, 1])
        >>> np.bincount(classes[stratified(classes, share=0.3)]).tolist()
        [30, 2, 1]
    """
    order = np.argsort(classes, kind="stable")
    chosen = [
        np.random.default_rng([seed, label]).permutation(members)[: max(1, round(share * len(members)))]
        for label, members in enumerate(np.split(order, np.cumsum(np.bincount(classes))[:-1]))
    ]
    return np.sort(np.concatenate(chosen))


def split_off(
    images: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
    """Splits off the test images that `hold_out` chooses. The images are copied.

    Args:
        images: [N, ...].
        classes: int [N], from 0.

    Returns:
        Training images and classes, test images and classes, and a note with their number.
    """
    held = hold_out(classes)
    note = f"{held.sum():,} of {len(held):,} images held out for testing"
    return images[~held], classes[~held], images[held], classes[held], note


def as_text(label: str | bytes | np.integer) -> str:
    """Returns a label as text.

    Example:
        >>> as_text(b"cat"), as_text(np.int64(3))
        ('cat', '3')
    """
    return label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else str(label)
