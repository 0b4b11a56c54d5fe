"""The recordings of a training run: `eigenspace.npz` and `log.csv`."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from selfsup import eigenspace
from selfsup.records.moments import Moments
from selfsup.utils.errors import InputError

EIGENSPACES, LOG = "eigenspace.npz", "log.csv"
TIMING = "timing.csv"
EVALUATED = ("knn", "rankme", "lidar", "view_alignment", "uniformity")
"""Columns of `log.csv` that only some epochs have."""
_ALWAYS = ("epoch", "loss", "embedding_std", "effective_rank", "asymmetry")
LOG_FIELDS = (*_ALWAYS, "online_linear", *EVALUATED)


@dataclass(frozen=True)
class Eigenspaces(Moments):
    """The eigenspaces of F and W_p at R moments of a training run, in order. D is 128.

    Values are NaN if they do not exist: F before training, or matrices that are no longer finite.

    Attributes:
        epoch: completed epochs, int32 [R]; 0 for the untrained network.
        correlation_eigenvalues: eigenvalues of F, ascending, float32 [R, D].
        predictor_eigenvalues: real parts of the eigenvalues of W_p, ascending, float32 [R, D].
        alignment: cos(u_j, W_p u_j) in the order of F's eigenvalues, float32 [R, D].
        asymmetry: asymmetry of W_p, float32 [R].
        effective_rank: effective rank of F at that moment, float32 [R]; `log.csv` has means over epochs.
    """

    FILE: ClassVar[str] = EIGENSPACES
    KIND: ClassVar[str] = "eigenspaces"

    epoch: np.ndarray
    correlation_eigenvalues: np.ndarray
    predictor_eigenvalues: np.ndarray
    alignment: np.ndarray
    asymmetry: np.ndarray
    effective_rank: np.ndarray

    @classmethod
    def measure(cls, epoch: int, weight: np.ndarray, correlation: np.ndarray | None = None) -> "Eigenspaces":
        """Measures one moment.

        Args:
            epoch: completed epochs.
            weight: W_p, [D, D], acting on columns.
            correlation: F, [D, D]; None before training.

        Returns:
            A recording with R = 1.
        """
        unknown = np.full(len(weight), np.nan)
        eigenvalues = predictor = aligned = unknown
        rank = np.nan
        if np.isfinite(weight).all():
            predictor = eigenspace.predictor_spectrum(weight)
            if correlation is not None and np.isfinite(correlation).all():
                eigenvalues, _ = eigenspace.spectrum(correlation)
                aligned = eigenspace.alignment(correlation, weight)
                rank = eigenspace.effective_rank(eigenvalues)
        row = (epoch, eigenvalues, predictor, aligned, eigenspace.asymmetry(weight), rank)
        return cls(np.array([epoch], np.int32), *(np.array([value], np.float32) for value in row[1:]))


def read_eigenspaces(workdir: str | Path) -> Eigenspaces:
    """Reads `eigenspace.npz` from a run's folder.

    Raises:
        InputError: the file is missing or damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as workdir:
        ...     Eigenspaces.measure(0, np.eye(3)).write(Path(workdir))
        ...     recorded = read_eigenspaces(workdir)
        >>> recorded.predictor_eigenvalues.tolist()
        [[1.0, 1.0, 1.0]]
    """
    return Eigenspaces.read(workdir)


def read_log(workdir: str | Path) -> dict[str, np.ndarray]:
    """Reads `log.csv` from a run's folder.

    Returns:
        The columns by name, float64 [epochs] each: `epoch`, `loss`, `embedding_std`, `effective_rank`,
        `asymmetry`; `online_linear` and `knn` in percent; `rankme`, `lidar`, `view_alignment` and
        `uniformity`, see `selfsup.quality`. NaN where there is no value, as in logs of older versions.

    Raises:
        InputError: the file is missing or damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as workdir:
        ...     columns = "epoch,loss,embedding_std,effective_rank,asymmetry"
        ...     lines = [columns, "1,-1.5,0.8,4.2,0.1", "2,-1.6,0.9,5.0,0.1"]
        ...     _ = (Path(workdir) / LOG).write_text("\\n".join([*lines, ""]))
        ...     log = read_log(workdir)
        >>> log["loss"].tolist()
        [-1.5, -1.6]
    """
    path = Path(workdir) / LOG
    try:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("it is cut off")
        rows = list(csv.DictReader(text.splitlines()))
        columns = {name: np.full(len(rows), np.nan) for name in LOG_FIELDS}
        for name in {*_ALWAYS, *(rows[0] if rows else ())} & set(LOG_FIELDS):
            columns[name] = np.array([float(row[name]) for row in rows])
        return columns
    except FileNotFoundError:
        raise InputError(f"no {LOG} in {workdir}; pass the folder of a run") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not the log of a run ({error})") from None
