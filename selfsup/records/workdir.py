"""The folder of a run: the run it belongs to, and a lock that keeps other processes out."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from selfsup.config import ADDED, Config
from selfsup.records import checkpoints
from selfsup.records.dynamics import DYNAMICS
from selfsup.records.evaluations import EVALUATION, EVALUATION_FIGURE
from selfsup.records.recordings import EIGENSPACES, LOG, TIMING
from selfsup.records.results import RESULT, write_json
from selfsup.utils.errors import InputError
from selfsup.utils.files import held, locked, sweep

CONFIG, LOCK, TENSORBOARD = "config.json", ".lock", "tensorboard"
ENCODER = "encoder.keras"
IMAGES = "images"
"""Folder of decoded image files, which a resumed run reads; deleted when the run ends."""
EIGENSPACE_FIGURE, CURVES_FIGURE = "eigenspace.png", "curves.png"
RECORDS = (
    RESULT, CONFIG, LOG, TIMING, EIGENSPACES, DYNAMICS, ENCODER, EIGENSPACE_FIGURE, CURVES_FIGURE,
    EVALUATION, EVALUATION_FIGURE,
)  # fmt: skip
"""The files of a run besides its checkpoints."""
_ASIDE, _DISCARDED = ".overwritten", ".discarded"


def check_workdir(workdir: Path, config: Config | None, flag: str = "workdir") -> None:
    """Checks that a folder does not belong to another run. Writes nothing.

    Args:
        workdir: the folder.
        config: the config of the run; None if it may overwrite another, but nothing else.
        flag: name of the flag that chooses the folder, for error messages.

    Raises:
        InputError: the folder belongs to a run with another config or seed, or its config is unreadable or
            not that of a run.
    """
    path = workdir / CONFIG
    try:
        found = json.loads(path.read_text()) if path.exists() else None
    except (OSError, ValueError):
        if config is None:
            return
        raise InputError(f"{path} cannot be read; choose another --{flag} or delete {workdir}") from None
    if found is None:
        return
    if not isinstance(found, dict) or "method" not in found:
        raise InputError(f"{path} is not the config of a run; choose another --{flag}")
    if config is not None:
        check_config(workdir, found, config, flag)


def check_config(workdir: Path, found: Mapping[str, Any], config: Config, flag: str = "workdir") -> None:
    """Checks that the recorded config of the run in a folder is that of a run, which may be longer.

    Raises:
        InputError: another setting or the seed differs.
    """
    wanted = {**config.settings, "seed": config.seed}
    found = {**ADDED, **found}
    del wanted["dataset"]  # the same data may lie elsewhere: their fingerprint is checked when they are read
    if checkpoints.found(workdir):
        del wanted["precision"]  # checkpoints hold the one that was used
    if checkpoints.found(workdir) or not (workdir / RESULT).exists():
        del wanted["probe_epochs"]  # only the evaluation is repeated
        longer = isinstance(found.get("epochs"), int) and found["epochs"] <= config.epochs
        if longer and not config.resolved.fixed_length:
            del wanted["epochs"]  # the run continues
    different = [name for name, value in wanted.items() if found.get(name) != value]
    if different:
        fields = ", ".join(f"{name} {found.get(name)} there, {wanted[name]} here" for name in different)
        if different == ["epochs"] and config.resolved.fixed_length:
            fields += "; under a cosine schedule a run keeps its length"
        deleted = "that run with --overwrite" if flag == "workdir" else "that folder"
        raise InputError(
            f"{workdir} holds another run ({fields}); choose another --{flag}, or delete {deleted}"
        )


def in_use(workdir: Path) -> bool:
    """Whether another process is making the run in a folder."""
    if not (workdir / LOCK).exists():
        return False
    try:
        with locked(workdir / LOCK, wait=False):
            return False
    except BlockingIOError:
        return True


@contextmanager
def owned(workdir: Path, config: Config, overwrite: bool = False) -> Iterator[None]:
    """Creates a run's folder and keeps other processes out of it inside the block.

    A folder created here is removed again if the block raises an `InputError`.

    Args:
        workdir: the folder.
        config: the config of the run.
        overwrite: whether the folder may hold another run, which the caller then clears.

    Raises:
        InputError: the folder cannot be written, is used by another process, or belongs to another run.
    """
    created = [path for path in (workdir, *workdir.parents) if not path.exists()]
    with _lock(workdir):
        try:
            _discard(workdir)
            _bring_back(workdir)
            check_workdir(workdir, None if overwrite else config)
            sweep(workdir)
            yield
        except InputError:
            if workdir in created or (workdir / RESULT).exists():
                shutil.rmtree(workdir / IMAGES, ignore_errors=True)
            if workdir in created:
                with suppress(OSError):
                    (workdir / LOCK).unlink()  # while it is held, so that no other process can hold it, too
            for path in created:
                with suppress(OSError):
                    path.rmdir()
            raise


@contextmanager
def _lock(workdir: Path) -> Iterator[None]:
    """Creates the folder and holds its lock."""
    with ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(workdir / LOCK, "workdir"))
        except OSError as error:
            raise _unwritable(workdir, error) from None
        yield


@contextmanager
def cleared(workdir: Path) -> Iterator[None]:
    """Takes the records and checkpoints of a run out of its folder, and deletes them after the block.

    They are moved aside first. If the block raises, or the process dies in it, they come back. All other
    files stay where they are.
    """
    aside = workdir / _ASIDE
    aside.mkdir()
    for path in [workdir / name for name in (*RECORDS, TENSORBOARD)] + checkpoints.found(workdir):
        if path.exists():
            path.rename(aside / path.name)
    try:
        yield
    except BaseException:
        _bring_back(workdir)
        raise
    aside.rename(workdir / _DISCARDED)  # at once: a run that is only partly deleted must not come back
    _discard(workdir)


def _bring_back(workdir: Path) -> None:
    """Restores the records that `cleared` has moved aside, if there are any."""
    aside = workdir / _ASIDE
    if not aside.is_dir():
        return
    for path in aside.iterdir():
        target = workdir / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    aside.rmdir()


def _discard(workdir: Path) -> None:
    """Deletes a run that another has overwritten, if there is one."""
    if (workdir / _DISCARDED).is_dir():
        shutil.rmtree(workdir / _DISCARDED)


def write_config(workdir: Path, config: Config) -> None:
    """Writes `config.json`, which marks the folder as belonging to the run.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        write_json(workdir / CONFIG, config.to_dict())
    except OSError as error:
        raise _unwritable(workdir, error) from None


def _unwritable(workdir: Path, error: OSError) -> InputError:
    return InputError(f"cannot write to workdir {workdir} ({error.strerror}); choose another --workdir")
