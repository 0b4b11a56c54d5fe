"""The result of a run, `result.json`."""

import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing

RESULT = "result.json"
DIVERGED = "the loss became infinite or not a number"
NO_LABELS = "the dataset has no labels"


@dataclass(frozen=True)
class Result:
    """The result of a finished run, as stored in `result.json`.

    Attributes:
        config: the fields of `Config`.
        accuracy: test accuracies in percent: `linear` after the probe's last epoch; `knn`, weighted with k =
            200; `linear_reused` on the projector's first block (3-layer projectors); `untrained_linear`
            before training, if requested. None for a diverged run; empty without labels.
        collapsed: whether the run collapsed by the fixed rule of `selfsup.collapse`.
        diverged: whether the loss stopped being finite.
        monitor: of the last epoch, the means of `loss`, `embedding_std` and `effective_rank`, and the last
            `asymmetry`. None for a value that is not finite.
        seconds: wall time of `load` (data, network), `compile`, `steps`, `callbacks` (log, progress),
            `records` (eigenspaces, encoder), `checkpoints`, `probe` (including features), `knn`, `other`,
            and `total`.
        images_per_second: training speed, without the first execution, which compiles.
        parameters: number of trainable parameters of the online network and predictor.
        environment: backend, device, precision, versions.
        dataset: name, sizes, `mean`, `std` and `fingerprint`.
        weights: SHA-256 of all variables after training, including the optimizer's: runs with the same value
            are bit-identical.
        commit: git commit of the code, with "-dirty" after local changes; None if unknown.
        skipped: evaluations that were not made, and why, by name.
        swapped: descriptions of a backbone, augmentation or loss that replaced the paper's, by name.
    """

    config: dict[str, Any]
    accuracy: dict[str, float | None]
    collapsed: bool
    diverged: bool
    monitor: dict[str, float | None]
    seconds: dict[str, float]
    images_per_second: float
    parameters: int
    environment: dict[str, Any]
    dataset: dict[str, Any]
    weights: str
    commit: str | None
    swapped: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def write(self, workdir: Path) -> None:
        """Writes `result.json`, completely or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        write_json(workdir / RESULT, asdict(self))


def read_result(workdir: str | Path) -> Result | None:
    """Reads `result.json` from a run's folder.

    Returns:
        The result, or None if the run is not finished.

    Raises:
        InputError: the file exists but is not the result of a run.

    Example:
        >>> read_result("runs/not-started") is None
        True
    """
    path = Path(workdir) / RESULT
    if not path.exists():
        return None
    try:
        return Result(**json.loads(path.read_text()))
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{path} is not the result of a run ({error}); move it away") from None


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, completely or not at all.

    Raises:
        OSError: the file cannot be written.
        TypeError: `value` cannot be represented in JSON.
    """
    with replacing(path) as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def commit() -> str | None:
    """Returns the git commit of this package's code, or None if it is not in its own git repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
