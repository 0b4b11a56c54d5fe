"""The command `reproduce`: runs the experiments of the paper's tables and figures, and writes REPORT.md."""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from selfsup import cli
from selfsup.commands.run import import_train
from selfsup.config import OPTIONS
from selfsup.records.results import read_result
from selfsup.reproduction import grid
from selfsup.reproduction.processes import Processes
from selfsup.reproduction.registry import EXPERIMENTS, PRESETS, SECTIONS, sections_of
from selfsup.reproduction.slots import Slot, slots
from selfsup.utils.clock import duration
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path
from selfsup.utils.interrupts import Interrupted, Interruption
from selfsup.utils.options import Option
from selfsup.utils.outputs import nested_folder
from selfsup.utils.text import counted

FAILED = 1

ABOUT = """\
Runs the experiments behind the paper's tables and figures, and writes REPORT.md and
report.html. Finished runs are kept, so the same command resumes where it was stopped.

  {program} --preset=quick                        half an hour on two cores
  {program} --preset=paper --seeds=3              the paper's setting, for a GPU
  {program} --preset=paper --seeds=3 --shard=2/8  the second of eight shards"""

OWN = {
    "preset": (
        Option("scale of the runs; the defaults below are those of paper", str, choices=tuple(PRESETS)),
        "paper",
    ),
    "seeds": (Option("runs per experiment; claims are judged from 2", int, low=1), 1),
    "only": (
        Option(
            f"sections ({', '.join(SECTIONS)}) or experiments, separated by commas",
            str,
            "all; quick: no weight_decay",
        ),
        None,
    ),
    "out": (Option("folder of the runs and the report", str, "runs/reproduce/PRESET"), None),
    "jobs": (Option("runs in parallel, each on its share of the CPU cores or GPUs", int, low=1), 1),
    "shard": (Option("I/N: train only the I-th of N shards of the runs", str), None),
    "dry_run": (Option("print the runs and the estimated time, and exit", bool), False),
    "beside": (
        Option(
            "folders of other grids, separated by commas: the report draws their spectra, too", str, "none"
        ),
        None,
    ),
    "report_only": (Option("only write the report of the existing runs", bool), False),
}
_FIXED = {"seed", "probe_untrained", *(name for e in EXPERIMENTS.values() for name in e.settings)}
FIELDS = tuple(name for name in cli.FIELDS if OPTIONS[name].group != "Method" and name not in _FIXED)


def execute(values: dict[str, Any], overrides: dict[str, Any]) -> int:
    """Executes the command with its own flags and the given `Config` fields; returns the exit status."""
    preset = values["preset"]
    given = values["out"]
    out = nested_folder("out", f"runs/reproduce/{preset}" if given is None else given)
    beside = grids("beside", values["beside"], out)
    chosen = sections_of(preset) if values["only"] is None else cli.split_names("only", values["only"])
    if values["report_only"] and values["dry_run"]:
        raise InputError("--dry_run writes no report; drop it or --report_only")
    if values["report_only"]:
        return report_only(out, grid.named(chosen), preset, beside)
    jobs = grid.plan(preset, chosen, values["seeds"], out, overrides)
    planned = grid.named(chosen)
    if values["shard"] is not None:
        jobs = grid.shard(jobs, values["shard"])
    shares = slots(values["jobs"])
    if values["dry_run"]:
        return dry_run(jobs, shares)
    report = import_report()
    try:
        with Interruption():
            failed = Processes(jobs, preset, overrides, shares).run()
    except Interrupted as stop:
        print(f"\n{stop}; the same command resumes in the middle of the interrupted run", file=sys.stderr)
        return stop.status
    for job, reason in failed.items():
        print(f"failed: {job.experiment}, seed {job.seed}: {reason}", file=sys.stderr)
    report.write_report(out, planned, preset, force=bool(beside), beside=beside)
    return FAILED if failed else 0


def report_only(out: Path, experiments: Iterable[str], preset: str, beside: Sequence[Path]) -> int:
    """Writes the report of all finished runs, whatever their settings; returns the exit status."""
    report = import_report()
    if not grid.collect(out):
        raise InputError(f"no run has ended in {out}; check --out and --preset")
    report.write_report(out, experiments, preset, force=True, beside=beside)
    return 0


def grids(flag: str, value: str | None, out: Path) -> list[Path]:
    """Returns the folders of other grids than `out` that a flag names, separated by commas.

    Raises:
        InputError: no run has ended in one of them, or two of the grids would have the same name in figures.
    """
    folders = [] if value is None else [user_path(flag, name) for name in cli.split_names(flag, value)]
    for folder in folders:
        if not grid.collect(folder):
            raise InputError(f"{flag}: no run has ended in {folder}; pass the folder of a grid")
    names = [folder.resolve().name for folder in (out, *folders)]
    if len(set(names)) < len(names):
        raise InputError(f"{flag}: the folders {', '.join(names)} need different names, which figures show")
    return folders


def import_report() -> ModuleType:
    """Imports `selfsup.reproduction.report`, or raises an `InputError` that names a missing package."""
    try:
        from selfsup.reproduction import report
    except ModuleNotFoundError as error:
        raise InputError(f"the report needs {error.name}; pip install markdown scipy") from None
    return report


def dry_run(jobs: Sequence[grid.Job], shares: Sequence[Slot]) -> int:
    """Prints the planned runs and the estimated time; returns the exit status.

    Parallel runs save time on several GPUs. On the cores of a CPU each of them takes longer.
    """
    for job in jobs:
        print(f"{job.state:12}{job.experiment:36}seed {job.seed}  {job.workdir}")
    todo = [job for job in jobs if job.state != "finished"]
    devices = {share.environment.get("CUDA_VISIBLE_DEVICES") for share in shares}
    rounds = math.ceil(len(todo) / len(devices))
    seconds = rounds * estimate(jobs, todo) / len(todo) if todo else 0.0
    print(f"{counted(len(jobs), 'run')}, {len(todo)} still to train: about {duration(seconds)}")
    return 0


def estimate(jobs: Sequence[grid.Job], todo: Sequence[grid.Job]) -> float:
    """Estimates the seconds of the runs in `todo` from finished runs, or else from a few training steps."""
    results = [read_result(job.workdir) for job in jobs]
    done = [result.seconds["total"] for result in results if result is not None and not result.diverged]
    if done:
        return len(todo) * sum(done) / len(done)
    import_train()  # reports a missing backend
    from selfsup.training.estimate import total_seconds

    return total_seconds([job.config for job in todo])


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, FIELDS), execute, argv)
