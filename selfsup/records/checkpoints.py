"""Checkpoints of a run: files that are whole or absent, each with a checksum and the run it belongs to."""

import hashlib
import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing

KEPT = 2
_NAME = "checkpoint-{:09d}.ckpt"
_PATTERN = re.compile(r"checkpoint-(\d{9})\.ckpt")
_MAGIC = b"selfsup checkpoint 1\n"


Identity = Mapping[str, str | int]
"""What a run is, by name: the fingerprints of its config and its data, its seed, and what computes it."""


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


def save(workdir: Path, identity: Identity, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint, then deletes all but this one and the one before.

    A newer one goes as well: it could not be used when the run went on from an older.

    Raises:
        OSError: the disk refused; older checkpoints are as they were.
    """
    content = io.BytesIO()
    content.write(json.dumps({"identity": dict(identity), "steps": checkpoint.steps}).encode() + b"\n")
    np.savez(content, **checkpoint.arrays)
    content = content.getbuffer()
    path = workdir / _NAME.format(checkpoint.steps)
    with replacing(path, "wb") as file:
        file.write(_MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n")
        file.write(content)
    others = found(workdir)
    kept = others[others.index(path) :][:KEPT]
    for other in set(others) - set(kept):
        other.unlink()
    return path


def read(path: Path, identity: Identity) -> Checkpoint:
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
    magic, _, content = content.partition(b"\n")
    checksum, _, content = content.partition(b"\n")
    if magic + b"\n" != _MAGIC or hashlib.sha256(content).hexdigest().encode() != checksum:
        raise DamagedError("its checksum is wrong")
    header, _, arrays = content.partition(b"\n")
    header = json.loads(header)
    theirs = header["identity"]
    different = [f"{n} {theirs.get(n)}, here {identity[n]}" for n in identity if theirs.get(n) != identity[n]]
    if different:
        raise DamagedError(f"it is of a run with {'; '.join(different)}")
    with np.load(io.BytesIO(arrays), allow_pickle=False) as file:
        return Checkpoint(header["steps"], dict(file))


def latest(workdir: Path, identity: Identity) -> Checkpoint | None:
    """The newest usable checkpoint in a run's folder; None where there is no checkpoint at all.

    Damaged ones are named on stderr.

    Raises:
        InputError: there are checkpoints, and none can be used.
    """
    paths = found(workdir)
    for path in paths:
        try:
            return read(path, identity)
        except DamagedError as error:
            print(f"warning: {path} cannot be used: {error}", file=sys.stderr, flush=True)
    if paths:
        raise InputError(
            f"none of the {len(paths)} checkpoints in {workdir} can be used here; delete {workdir}, "
            "or start anew with --overwrite"
        )
    return None


def delete(workdir: Path) -> None:
    """Deletes all checkpoints of a run."""
    for path in found(workdir):
        path.unlink()
