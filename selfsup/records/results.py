"""The result of a run, `result.json`."""

import json
import subprocess
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from selfsup import collapse
from selfsup.config import Config
from selfsup.utils.errors import InputError, first_line
from selfsup.utils.files import replacing

RESULT = "result.json"
SCHEMA = 2
"""Version of `result.json`. Records without one are of version 1, which lacks `swapped` and `skipped`."""
DIVERGED = "the loss became infinite or not a number"
STATUS_DIVERGED = 3
"""Exit status of a diverged run."""
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
        monitor: the last row of `log.csv`; its epoch is less than that of `config` if a callback ended the
            run. None for a value that is not finite.
        seconds: wall time of `load` (data, network), `compile`, `steps`, `evaluations` (while training),
            `callbacks` (log, progress), `records` (eigenspaces, encoder), `checkpoints`, `probe` (including
            features), `knn`, `other`, and `total`.
        images_per_second: training speed, without the first execution, which compiles; None if there was no
            other.
        parameters: number of trainable parameters of the online network and predictor.
        environment: backend, device, precision, versions.
        dataset: name, sizes, `mean`, `std` and `fingerprint`.
        weights: SHA-256 of all variables after training, including the optimizer's: runs with the same value
            are bit-identical.
        commit: git commit of the code, with "-dirty" after local changes; None if unknown.
        skipped: reasons for skipped evaluations, by name.
        swapped: descriptions of what replaced the paper's components, by the names in `run`: backbone,
            augmentation, loss, optimizer, init_from.
        schema: version of the format of the record.
    """

    config: dict[str, Any]
    accuracy: dict[str, float | None]
    collapsed: bool
    diverged: bool
    monitor: dict[str, float | None]
    seconds: dict[str, float]
    images_per_second: float | None
    parameters: int
    environment: dict[str, Any]
    dataset: dict[str, Any]
    weights: str
    commit: str | None
    swapped: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def epochs(self) -> float:
        """Number of the last epoch; less than in `config` if a callback ended the run."""
        return self.monitor.get("epoch") or self.config["epochs"]  # older records have only the latter

    @property
    def outcome(self) -> str:
        """How training ended: "diverged", "collapsed", "healthy" or "too short to tell"."""
        if self.diverged:
            return "diverged"
        if self.epochs < collapse.MIN_EPOCHS:
            return "too short to tell"
        return "collapsed" if self.collapsed else "healthy"

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
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        reason = first_line(error)
        raise InputError(
            f"{path} is not the result of a run ({reason}); move it away, then repeat the run"
        ) from None


def _from_json(record: Any) -> Result:
    """Raises `TypeError` or `ValueError` about the first thing that is not as in a `Result`."""
    if not isinstance(record, dict):
        raise TypeError("it holds no JSON object")
    schema = record.get("schema", 1)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ValueError(
            f"schema {schema}: written by a newer selfsup, this one reads up to {SCHEMA}; upgrade it"
        )
    types: dict[str, Any] = {f.name: f.type for f in fields(Result)}
    if unknown := set(record) - set(types):
        raise ValueError(f"unknown field {min(unknown)!r}")
    required = {f.name for f in fields(Result) if f.default is MISSING and f.default_factory is MISSING}
    if missing := required - set(record):
        raise ValueError(f"no field {min(missing)!r}")
    for name, value in record.items():
        expected = getattr(types[name], "__origin__", types[name])
        if name == "images_per_second" and isinstance(value, int):
            continue
        if not isinstance(value, expected):
            raise ValueError(f"{name} is {value!r}")
    return Result(**{"schema": 1, **record})


def is_complete(finished: Result, config: Config) -> bool:
    """Whether a finished run has all that a config asks for; a diverged run does not continue."""
    there = finished.config
    evaluated = there["probe_epochs"] == config.probe_epochs
    evaluated &= "untrained_linear" in finished.accuracy or not config.probe_untrained
    return finished.diverged or (there["epochs"] == config.epochs and (evaluated or not finished.accuracy))


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
