"""The record of a run: its schema, written whole or not at all."""

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing

RESULT = "result.json"
DIVERGED = "the loss became infinite or not a number"


@dataclass(frozen=True)
class Result:
    """What a finished run leaves in `result.json`.

    Attributes:
        config: the fields of `Config`.
        accuracy: test accuracies in percent: `linear`, after the probe's last epoch; `knn`, weighted, k =
            200; `linear_reused`, on the projector's first block (3-layer projectors); `untrained_linear`,
            before training, where it was asked for. None where the run diverged.
        collapsed: by the fixed rule of `selfsup.collapse`; never before 5 epochs.
        diverged: whether the loss stopped being finite.
        monitor: of the last epoch, the means of `loss`, `embedding_std` and `effective_rank`, and the last
            `asymmetry`.
        seconds: wall time: `load` (data, network), `compile`, `steps`, `callbacks` (log, progress),
            `records` (eigenspaces, encoder), `checkpoints`, `probe` (features too), `knn`, `other`, and in
            `total`.
        images_per_second: in training, without its first step.
        parameters: trainable ones of the online network and predictor.
        environment: backend, device, precision, versions.
        dataset: name, sizes, `mean`, `std`, `fingerprint` of all bytes.
        weights: SHA-256 of all variables after training, the optimizer's included: two runs that agree in
            it are the same to the last bit.
        commit: of the code, with "-dirty" if it was changed since, or None.
    """

    config: dict[str, Any]
    accuracy: dict[str, float | None]
    collapsed: bool
    diverged: bool
    monitor: dict[str, float]
    seconds: dict[str, float]
    images_per_second: float
    parameters: int
    environment: dict[str, Any]
    dataset: dict[str, Any]
    weights: str
    commit: str | None

    def write(self, workdir: Path) -> None:
        """Writes `result.json`."""
        write_json(workdir / RESULT, asdict(self))


def read_result(workdir: str | Path) -> Result | None:
    """The result in a run's folder, or None if the run has not finished.

    Raises:
        InputError: the file is there but is not a run's result.
    """
    path = Path(workdir) / RESULT
    if not path.exists():
        return None
    try:
        return Result(**json.loads(path.read_text()))
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{path} is not the result of a run ({error}); move it away") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def commit() -> str | None:
    """The git commit of this package's code, if it stands in a repository of its own."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
