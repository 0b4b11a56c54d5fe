"""Checkpoints of a run: complete files with a checksum and the identity of the run."""

import hashlib
import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing

KEPT = 2
_NAME = "checkpoint-{:09d}.ckpt"
_PATTERN = re.compile(r"checkpoint-(\d{9})\.ckpt")
_MAGIC = b"selfsup checkpoint 1\n"
MODEL, FINAL = "model", "final"
"""Groups of arrays: the variables of the model after the last step, and others with which training ended."""

Identity = Mapping[str, str | int]
"""The identity of a run: fingerprints of its config and data, seed, backend and precision, by name."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `steps` training steps, as arrays by name, and the identity of the run."""

    steps: int
    arrays: Mapping[str, np.ndarray]
    identity: Identity = field(default_factory=dict)

    def groups(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns the arrays by group, the part of a name before its first slash, and by the rest."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for name, array in self.arrays.items():
            group, _, key = name.partition("/")
            found.setdefault(group, {})[key] = array
        return found

    def variables(self) -> dict[str, np.ndarray]:
        """Returns the variables of the model by index and path; if training has ended, as at its end."""
        groups = self.groups()
        return groups.get(FINAL) or groups.get(MODEL, {})


class DamagedError(Exception):
    """A file is not an intact checkpoint of this run; the message says why."""


def found(workdir: Path) -> list[Path]:
    """Returns the paths of the checkpoints in a run's folder, latest step first."""
    return sorted((path for path in workdir.iterdir() if _PATTERN.fullmatch(path.name)), reverse=True)


def save(workdir: Path, identity: Identity, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint, then deletes all others except the previous one.

    Checkpoints of later steps are deleted too: the run resumed from an earlier one because they were
    unusable.

    Args:
        workdir: the run's folder.
        identity: the run's identity.
        checkpoint: the state to save.

    Returns:
        The path of the checkpoint.

    Raises:
        OSError: the checkpoint cannot be written; the others are unchanged.
    """
    buffer = io.BytesIO()
    buffer.write(json.dumps({"identity": dict(identity), "steps": checkpoint.steps}).encode() + b"\n")
    arrays: dict[str, Any] = dict(checkpoint.arrays)
    np.savez(buffer, **arrays)
    content = buffer.getbuffer()
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
    """Reads a checkpoint.

    Args:
        path: the file.
        identity: the identity that the checkpoint must have; empty for any.

    Raises:
        DamagedError: the file is truncated or was changed.
        InputError: it belongs to another run.
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
    if identity:
        check_same(path.parent, theirs, identity)
    with np.load(io.BytesIO(arrays), allow_pickle=False) as file:
        return Checkpoint(header["steps"], dict(file), theirs)


def check_same(workdir: Path, theirs: Identity, identity: Identity) -> None:
    """Raises an `InputError` that names the differences if a folder holds a run with another identity."""
    names = {**theirs, **identity}
    default = "the default"  # of a component that is not replaced
    different = [name for name in names if theirs.get(name) != identity.get(name)]
    if not different:
        return
    fields = "; ".join(
        f"{name} {theirs.get(name, default)} there, {identity.get(name, default)} here" for name in different
    )
    if set(different) == {"backend"}:
        advice = f"resume it with KERAS_BACKEND={theirs['backend']}, or choose another --workdir"
    elif set(different) == {"precision"}:
        advice = f"resume it with --precision={theirs['precision']}, or choose another --workdir"
    elif set(different) == {"init_from"}:
        advice = "choose another --workdir, or the --init_from with the weights that the run began with"
    elif set(different) == {"backbone"}:
        advice = "choose another --workdir, or give a function, which makes the same weights each time"
    else:
        advice = "choose another --workdir, or delete that run with --overwrite"
    raise InputError(f"workdir {workdir} holds another run ({fields}); {advice}")


def latest(workdir: Path, identity: Identity) -> Checkpoint | None:
    """Reads the latest usable checkpoint in a run's folder, with a warning on stderr for each unusable one.

    Args:
        workdir: the run's folder.
        identity: the run's identity; empty for any.

    Returns:
        The checkpoint, or None if there are no checkpoints.

    Raises:
        InputError: there are checkpoints, but none is usable, or they belong to another run.
    """
    paths = found(workdir)
    for path in paths:
        try:
            return read(path, identity)
        except DamagedError as error:
            print(f"warning: {path} cannot be used: {error}", file=sys.stderr, flush=True)
    if paths:
        raise InputError(
            f"none of the {len(paths)} checkpoints in {workdir} can be used; start that run again with "
            "--overwrite, or choose another folder"
        )
    return None


def delete(workdir: Path, keep: int = 0) -> None:
    """Deletes the checkpoints of a run, except the latest if it has at most `keep` bytes."""
    for index, path in enumerate(found(workdir)):
        if index or path.stat().st_size > keep:
            path.unlink()
