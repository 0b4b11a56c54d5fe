"""The report's tables and figures from real runs: makes the runs that are missing, then REPORT.md."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from selfsup import cli
from selfsup.config import OPTIONS
from selfsup.records.results import RESULT, read_result
from selfsup.records.workdir import LOCK
from selfsup.reproduction import grid
from selfsup.reproduction.processes import Processes
from selfsup.reproduction.registry import EXPERIMENTS, PARTS, PRESETS
from selfsup.utils.clock import duration
from selfsup.utils.errors import InputError
from selfsup.utils.files import locked
from selfsup.utils.interrupts import Interrupted, Interruption
from selfsup.utils.options import Option

FAILED = 1

ABOUT = """\
Makes the runs behind the report's tables and figures, one after the other, and writes REPORT.md and
report.html. Finished runs are kept, so that the same command goes on where it was stopped.

  python experiments/reproduce.py --preset=quick                        half an hour on two cores
  python experiments/reproduce.py --preset=paper --seeds=3              the report's setting, for a GPU
  python experiments/reproduce.py --preset=paper --seeds=3 --shard=2/8  the second of eight machines' share"""

OWN = {
    "preset": (Option("scale of the runs", str, choices=tuple(PRESETS)), "paper"),
    "seeds": (Option("runs per experiment; a verdict needs at least 2", int, low=1), 1),
    "only": (
        Option(f"parts ({', '.join(PARTS)}) or experiments, with commas", str, "all; quick: no weight_decay"),
        None,
    ),
    "out": (Option("folder of the runs and the report", str, "runs/reproduce/PRESET"), None),
    "shard": (Option("I/N: make the I-th of N shares of the runs only", str), None),
    "dry_run": (Option("print what would run, and how long it would take", bool), False),
    "report_only": (Option("make no run, write the report of those that are there", bool), False),
}
_FIXED = {"seed", "probe_untrained", *(name for e in EXPERIMENTS.values() for name in e.settings)}
FIELDS = tuple(name for name in cli.FIELDS if OPTIONS[name].group != "Method" and name not in _FIXED)


def execute(values: dict[str, Any], overrides: dict[str, Any]) -> int:
    """Plans, runs, reports; returns the exit status."""
    preset = values["preset"]
    out = Path(values["out"] or f"runs/reproduce/{preset}")
    default = [part for part in PARTS if preset != "quick" or part != "weight_decay"]
    chosen = values["only"].split(",") if values["only"] else default
    if values["report_only"]:
        return report_only(out, grid.experiments_of(chosen))
    jobs = grid.plan(preset, chosen, values["seeds"], out, overrides)
    planned = [job.experiment for job in jobs]
    if values["shard"]:
        jobs = grid.shard(jobs, values["shard"])
    if values["dry_run"]:
        return dry_run(jobs)
    try:
        with Interruption():
            failed = Processes(jobs, preset, overrides).run()
    except Interrupted as stop:
        print(f"\n{stop}; the same command goes on, within the run that was stopped", file=sys.stderr)
        return stop.status
    write_report(out, planned)
    for job, reason in failed.items():
        print(f"failed: {job.experiment}, seed {job.seed}: {reason}", file=sys.stderr)
    return FAILED if failed else 0


def report_only(out: Path, experiments: Iterable[str]) -> int:
    """Writes the report of the runs that have ended, whatever their settings; the exit status."""
    if not grid.collect(out):
        raise InputError(f"no run has ended in {out}; check --out and --preset")
    write_report(out, experiments, anew=True)
    return 0


def up_to_date(out: Path) -> bool:
    """Whether the report is younger than every record."""
    page = out / grid.PAGE
    records = [path for name in (RESULT, grid.FAILURE) for path in out.glob(f"{grid.RUNS}/*/*/{name}")]
    return page.exists() and all(path.stat().st_mtime < page.stat().st_mtime for path in records)


def write_report(out: Path, planned: Iterable[str], anew: bool = False) -> None:
    """Writes REPORT.md and report.html of all parts that have an experiment planned or run in `out`.

    Processes that share the folder take turns. The page gets the time at which the records were read, so
    that one that ended while it was drawn is seen to be missing.

    Args:
        out: folder of the grid.
        planned: experiments to show, even without a run.
        anew: whether to write it even if it has all records.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK, wait=True):
        if anew or not up_to_date(out):
            from selfsup.reproduction.report import Report

            (out / LOCK).touch()
            read = (out / LOCK).stat().st_mtime_ns
            shown = {*planned, *(run.experiment for run in grid.collect(out))}
            parts = [name for name, part in PARTS.items() if shown & set(part.experiments)]
            Report(out, parts).write()
            os.utime(out / grid.PAGE, ns=(read, read))
    print(f"report: {out / grid.REPORT} and {out / grid.PAGE}")


def dry_run(jobs: Sequence[grid.Job]) -> int:
    """Prints the plan, with an estimate of the time it takes; the exit status."""
    for job in jobs:
        print(f"{job.state:12}{job.experiment:36}seed {job.seed}  {job.workdir}")
    todo = [job for job in jobs if job.state != "finished"]
    seconds = estimate(jobs, todo) if todo else 0.0
    print(f"{len(jobs)} runs, {len(todo)} of them to make: about {duration(seconds)}")
    return 0


def estimate(jobs: Sequence[grid.Job], todo: Sequence[grid.Job]) -> float:
    """Seconds of the runs in `todo`: by those that have finished, else by a few training steps timed here."""
    done = [read_result(job.workdir).seconds["total"] for job in jobs if job.state == "finished"]
    if done:
        return len(todo) * sum(done) / len(done)
    with cli.silent_stderr():
        from selfsup.training.estimate import total_seconds
    return total_seconds([job.config for job in todo])


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, FIELDS), execute, argv)
