"""Records of moments of a run: arrays with one row per moment, in one `.npz` file."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing


def is_due(epoch: Any, every: int, epochs: int) -> Any:
    """Whether a run records after `epoch` completed epochs: untrained, after epoch 1, every few, and last.

    Args:
        epoch: completed epochs, an int or an array.
        every: epochs between two recordings.
        epochs: epochs of the run.

    Example:
        >>> [epoch for epoch in range(13) if is_due(epoch, every=5, epochs=12)]
        [0, 1, 6, 11, 12]
    """
    return (epoch == 0) | ((epoch - 1) % every == 0) | (epoch == epochs)


@dataclass(frozen=True)
class Moments:
    """R moments, in order. The fields of a subclass are arrays whose first axis is R.

    Attributes:
        FILE: name of the file in a run's folder.
        KIND: what the file holds, for error messages.
    """

    FILE: ClassVar[str]
    KIND: ClassVar[str]

    def __add__(self, later: Self) -> Self:
        """Appends the moments of `later`."""
        pairs = zip(self.arrays().values(), later.arrays().values(), strict=True)
        return type(self)(*(np.concatenate(pair) for pair in pairs))

    def __len__(self) -> int:
        return len(next(iter(self.arrays().values())))

    def __getitem__(self, rows: slice | np.ndarray) -> Self:
        """Selects moments by a slice, a mask or indices."""
        return type(self)(*(array[rows] for array in self.arrays().values()))

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def write(self, workdir: Path) -> None:
        """Writes the file, completely or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        arrays: dict[str, Any] = self.arrays()
        with replacing(workdir / self.FILE, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Returns the moments whose fields are among named arrays."""
        return cls(*(arrays[field.name] for field in fields(cls)))

    @classmethod
    def read(cls, workdir: str | Path) -> Self:
        """Reads the file from a run's folder.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = Path(workdir) / cls.FILE
        if not path.is_file():
            raise InputError(f"no {cls.FILE} in {workdir}; pass the folder of a run")
        try:
            with path.open("rb") as file, np.load(file) as arrays:  # NumPy leaves damaged files open
                return cls(**arrays)
        except Exception as error:  # NumPy and zipfile raise many types on damaged files
            raise InputError(f"{path} is not a recording of {cls.KIND} ({error})") from None
