"""The folder of a run: which run it belongs to, and that only one works in it at a time."""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from selfsup.config import YOUNG, Config
from selfsup.records import checkpoints
from selfsup.records.recordings import EIGENSPACES, LOG, TIMING
from selfsup.records.results import RESULT, write_json
from selfsup.utils.errors import InputError
from selfsup.utils.files import locked, sweep

CONFIG, LOCK, TENSORBOARD = "config.json", ".lock", "tensorboard"
RECORDS = (
    RESULT, CONFIG, LOG, TIMING, EIGENSPACES, "encoder.keras", "eigenspace.png", "curves.png",
)  # fmt: skip
"""The files that a run leaves, beside its checkpoints; `result.json` is the first to go with --overwrite."""


def check_workdir(workdir: Path, config: Config) -> None:
    """Looks whose a folder is; writes nothing.

    Raises:
        InputError: the folder belongs to a run of another config or seed.
    """
    path = workdir / CONFIG
    try:
        found = json.loads(path.read_text()) if path.exists() else None
    except (OSError, ValueError):
        raise InputError(f"{path} cannot be read; choose another --workdir or delete {workdir}") from None
    if found is not None:
        _check_same(workdir, found, config)


def _check_same(workdir: Path, found: dict[str, Any], config: Config) -> None:
    wanted = {**config.settings, "seed": config.seed}
    found = {**YOUNG, **found}
    different = [name for name, value in wanted.items() if found.get(name) != value]
    if different:
        fields = ", ".join(f"{name} {found.get(name)} there, {wanted[name]} here" for name in different)
        raise InputError(
            f"workdir {workdir} holds another run ({fields}); choose another --workdir, "
            "or --overwrite what is there"
        )


@contextmanager
def owned(workdir: Path, config: Config, overwrite: bool = False) -> Iterator[None]:
    """Makes a run's folder and keeps other runs out of it while the block lasts.

    A folder that was made here goes again if the block ends in an `InputError`.

    Args:
        workdir: the folder.
        config: the run's.
        overwrite: whether it may hold another run, which is then to be cleared.

    Raises:
        InputError: it cannot be written, another run is at work in it, or it belongs to another config.
    """
    made = [path for path in (workdir, *workdir.parents) if not path.exists()]
    try:
        with _lock(workdir):
            if not overwrite:
                check_workdir(workdir, config)
            sweep(workdir)
            yield
    except InputError:
        for path in made:
            with suppress(OSError):
                (path / LOCK).unlink(missing_ok=True)
                path.rmdir()
        raise


@contextmanager
def _lock(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds its lock."""
    with ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(locked(workdir / LOCK, wait=False))
        except BlockingIOError:
            owner = f"process {(workdir / LOCK).read_text().strip()} is at work in {workdir}"
            raise InputError(f"{owner}; wait for it or choose another --workdir") from None
        except OSError as error:
            raise _unwritable(workdir, error) from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def clear(workdir: Path) -> None:
    """Deletes the records and checkpoints of a run, and nothing else."""
    for name in RECORDS:
        (workdir / name).unlink(missing_ok=True)
    checkpoints.delete(workdir)
    shutil.rmtree(workdir / TENSORBOARD, ignore_errors=True)


def write_config(workdir: Path, config: Config) -> None:
    """Writes `config.json`, which says whose the folder is.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_json(workdir / CONFIG, config.to_dict())
    except OSError as error:
        raise _unwritable(workdir, error) from None


def _unwritable(workdir: Path, error: OSError) -> InputError:
    return InputError(f"cannot write to workdir {workdir} ({error.strerror}); choose another --workdir")
