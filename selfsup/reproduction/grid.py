"""The grid of runs behind the report: what there is to do, and doing it one run at a time."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfsup.config import Config
from selfsup.records.results import DIVERGED, Result, read_result
from selfsup.records.workdir import CONFIG, check_workdir
from selfsup.reproduction.registry import EXPERIMENTS, PARTS, canonical, make_config
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing
from selfsup.utils.options import parse_share

RUNS, FAILURE = "runs", "failure.json"
REPORT, PAGE = "REPORT.md", "report.html"


@dataclass(frozen=True)
class Job:
    """A run of the grid: an experiment, a seed, and the folder of its records."""

    experiment: str
    config: Config
    workdir: Path

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def state(self) -> str:
        """finished, failed, interrupted or missing."""
        if read_result(self.workdir) is not None:
            return "finished"
        if (self.workdir / FAILURE).exists():
            return "failed"
        return "interrupted" if (self.workdir / CONFIG).exists() else "missing"


def experiments_of(parts: Iterable[str]) -> tuple[str, ...]:
    """The experiments to run for parts of the report (or experiments by name), each once.

    Raises:
        InputError: a name is neither.
    """
    chosen = []
    for name in parts:
        if name not in PARTS and name not in EXPERIMENTS:
            raise InputError(
                f"{name!r} is not a part of the report ({', '.join(PARTS)}) nor an experiment (run.py --list)"
            )
        chosen += PARTS[name].experiments if name in PARTS else (name,)
    return tuple(dict.fromkeys(canonical(name) for name in chosen))


def plan(
    preset: str, parts: Iterable[str], seeds: int, out: Path, overrides: Mapping[str, Any] | None = None
) -> list[Job]:
    """The runs of a grid, all experiments with seed 0 first, then with seed 1, ...

    Raises:
        InputError: an unknown name, a bad value, or `out` holds runs of other settings.
    """
    jobs = []
    for seed in range(seeds):
        for experiment in experiments_of(parts):
            config = make_config(preset, experiment, seed=seed, **(overrides or {}))
            job = Job(experiment, config, out / RUNS / experiment / str(seed))
            check_workdir(job.workdir, config)
            jobs.append(job)
    return jobs


def shard(jobs: Sequence[Job], which: str) -> list[Job]:
    """Every n-th of the jobs, from the i-th on, for `which` = "i/n", i from 1: n shards make the whole.

    Raises:
        InputError: `which` is not written so.
    """
    index, count = parse_share("shard", which)
    return list(jobs[index::count])


def execute(jobs: Sequence[Job], runner: Callable[[Job], str | None]) -> dict[Job, str]:
    """Runs what has not finished; a failure is kept in the job's folder and does not stop the rest.

    Args:
        jobs: the runs.
        runner: makes a run and returns None, or the reason why it could not.

    Returns:
        The jobs that gave no accuracy, with their reasons, those that had diverged before included.
    """
    failed = {}
    for job in jobs:
        if job.state != "finished":
            _keep_failure(job.workdir, runner(job))
        if (reason := failure_of(job.workdir)) is not None:
            failed[job] = reason
    return failed


def _keep_failure(workdir: Path, reason: str | None) -> None:
    if reason is None:
        (workdir / FAILURE).unlink(missing_ok=True)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with replacing(workdir / FAILURE) as file:
        json.dump({"reason": reason}, file)


def failure_of(workdir: Path) -> str | None:
    """Why the run in a folder gave no accuracy, or None where it gave one or has not ended."""
    result = read_result(workdir)
    if result is not None:
        return DIVERGED if result.diverged else None
    path = workdir / FAILURE
    return json.loads(path.read_text())["reason"] if path.exists() else None


@dataclass(frozen=True)
class Run:
    """The records of a run in the folder of a grid; `result` is None where it has not finished."""

    experiment: str
    seed: int
    workdir: Path
    result: Result | None
    failure: str | None


def collect(out: Path) -> list[Run]:
    """All runs in the folder of a grid, by experiment in the registry's order, then by seed.

    Raises:
        InputError: a record is damaged.
    """
    runs = []
    for experiment in EXPERIMENTS:
        folder = out / RUNS / experiment
        workdirs = [path for path in folder.glob("*") if path.name.isdigit()] if folder.is_dir() else []
        for workdir in sorted(workdirs, key=lambda path: int(path.name)):
            result, failure = read_result(workdir), failure_of(workdir)
            if result is not None or failure is not None:
                runs.append(Run(experiment, int(workdir.name), workdir, result, failure))
    return runs
