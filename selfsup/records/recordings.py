"""What a run records while it trains, read back: `eigenspace.npz` and `log.csv`."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from selfsup import eigenspace
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing

EIGENSPACES, LOG = "eigenspace.npz", "log.csv"
TIMING = "timing.csv"
LOG_FIELDS = ("epoch", "loss", "embedding_std", "effective_rank", "asymmetry")


@dataclass(frozen=True)
class Eigenspaces:
    """The eigenspaces of F and W_p at R moments of a training, in its order; D is 128.

    The untrained network has no F yet, and a diverged one none that is finite: NaN stands there.

    Attributes:
        epoch: epochs done, int32 [R]; 0 is the untrained network.
        correlation_eigenvalues: of F, ascending, float32 [R, D].
        predictor_eigenvalues: of W_p, real parts, ascending, float32 [R, D].
        alignment: cos(u_j, W_p u_j) in the order of F's eigenvalues, float32 [R, D].
        asymmetry: of W_p, float32 [R].
        effective_rank: of F at that moment (`log.csv` has the epochs' means), float32 [R].
    """

    epoch: np.ndarray
    correlation_eigenvalues: np.ndarray
    predictor_eigenvalues: np.ndarray
    alignment: np.ndarray
    asymmetry: np.ndarray
    effective_rank: np.ndarray

    @classmethod
    def measure(cls, epoch: int, weight: np.ndarray, correlation: np.ndarray | None = None) -> "Eigenspaces":
        """One moment, from W_p and F, [D, D] each; no F before training."""
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

    def __add__(self, later: "Eigenspaces") -> "Eigenspaces":
        """The moments of both, in this order."""
        pairs = zip(self.arrays().values(), later.arrays().values(), strict=True)
        return Eigenspaces(*(np.concatenate(pair) for pair in pairs))

    def __len__(self) -> int:
        return len(self.epoch)

    def __getitem__(self, rows: slice | np.ndarray) -> "Eigenspaces":
        """Some of the moments, by a slice, a mask or indices."""
        return Eigenspaces(*(array[rows] for array in self.arrays().values()))

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def write(self, workdir: Path) -> None:
        """Writes `eigenspace.npz`, whole or not at all."""
        with replacing(workdir / EIGENSPACES, "wb") as file:
            np.savez(file, **self.arrays())


def read_eigenspaces(workdir: str | Path) -> Eigenspaces:
    """The recording in a run's folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(workdir) / EIGENSPACES
    if not path.is_file():
        raise InputError(f"no {EIGENSPACES} in {workdir}; give the folder of a run")
    try:
        with np.load(path) as arrays:
            return Eigenspaces(**arrays)
    except Exception as error:  # NumPy and zipfile raise a dozen kinds on damaged files
        raise InputError(f"{path} is not a recording of eigenspaces ({error})") from None


def read_log(workdir: str | Path) -> dict[str, np.ndarray]:
    """The columns of a run's `log.csv` by name, float64 [epochs] each.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(workdir) / LOG
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in LOG_FIELDS}
    except FileNotFoundError:
        raise InputError(f"no {LOG} in {workdir}; give the folder of a run") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not the log of a run ({error})") from None
