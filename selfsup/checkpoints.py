"""Checkpoints of a run: files that are whole or absent, each with a checksum and the config it belongs to."""

import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfsup.config import Config
from selfsup.errors import InputError
from selfsup.files import replacing

KEPT = 2
_NAME = "checkpoint-{:09d}.ckpt"
_PATTERN = re.compile(r"checkpoint-(\d{9})\.ckpt")
_MAGIC = b"selfsup checkpoint 1\n"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after so many steps, as arrays by name."""

    steps: int
    arrays: Mapping[str, np.ndarray]


class DamagedError(Exception):
    """A file is not a whole checkpoint of this run; the text says why."""


def found(workdir: Path) -> list[Path]:
    """The checkpoints in a run's folder, the newest first."""
    return sorted((path for path in workdir.iterdir() if _PATTERN.fullmatch(path.name)), reverse=True)


def save(workdir: Path, config: Config, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint, then deletes all but the last two.

    Raises:
        OSError: the disk refused; older checkpoints are as they were.
    """
    content = io.BytesIO()
    np.savez(content, **checkpoint.arrays)
    content = content.getbuffer()
    header = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "config": config.fingerprint,
        "seed": config.seed,
        "steps": checkpoint.steps,
    }
    path = workdir / _NAME.format(checkpoint.steps)
    with replacing(path, "wb") as file:
        file.write(_MAGIC + json.dumps(header).encode() + b"\n")
        file.write(content)
    for old in found(workdir)[KEPT:]:
        old.unlink()
    return path


def read(path: Path, config: Config) -> Checkpoint:
    """A checkpoint of a run.

    Raises:
        DamagedError: it was cut, changed, or belongs to another run.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(error.strerror) from None
    if not content:
        raise DamagedError("it is empty")
    magic, _, rest = content.partition(b"\n")
    line, _, arrays = rest.partition(b"\n")
    try:
        header = json.loads(line)
        sound = magic + b"\n" == _MAGIC and hashlib.sha256(arrays).hexdigest() == header["sha256"]
        run = (header["config"], header["seed"])
        steps = int(header["steps"])
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise DamagedError("its checksum is wrong")
    if run != (config.fingerprint, config.seed):
        raise DamagedError("it belongs to another run")
    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as file:
            return Checkpoint(steps, dict(file))
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DamagedError(str(error)) from None


def latest(workdir: Path, config: Config) -> Checkpoint | None:
    """The newest usable checkpoint in a run's folder; None where there is no checkpoint at all.

    Damaged ones are named on stderr.

    Raises:
        InputError: there are checkpoints, and none can be used.
    """
    paths = found(workdir)
    for path in paths:
        try:
            return read(path, config)
        except DamagedError as error:
            print(f"warning: {path} cannot be used: {error}", file=sys.stderr, flush=True)
    if paths:
        raise InputError(
            f"none of the {len(paths)} checkpoints in {workdir} can be used; delete {workdir}, "
            "or start anew with --overwrite"
        )
    return None


def delete(workdir: Path) -> None:
    """Deletes all checkpoints of a run."""
    for path in found(workdir):
        path.unlink()
