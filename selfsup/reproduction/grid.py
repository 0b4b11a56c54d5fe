"""The grid of runs behind the report: which runs there are, and how each one stands."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfsup.config import Config
from selfsup.records.results import DIVERGED, Result, is_complete, read_result, write_json
from selfsup.records.workdir import CONFIG, check_workdir, in_use
from selfsup.reproduction.registry import EXPERIMENTS, SECTIONS, canonical, make_config
from selfsup.utils.errors import InputError, first_line
from selfsup.utils.files import or_warning
from selfsup.utils.options import parse_share

RUNS, FAILURE = "runs", "failure.json"


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
        result = read_result(self.workdir)
        if result is not None and is_complete(result, self.config):
            return "finished"
        if (self.workdir / FAILURE).exists():
            return "failed"
        return "interrupted" if (self.workdir / CONFIG).exists() else "missing"


def named(sections: Iterable[str]) -> tuple[str, ...]:
    """Returns the experiments in sections of the report, or by their own names.

    Raises:
        InputError: a name is neither a section nor an experiment.
    """
    chosen: list[str] = []
    for name in sections:
        if name not in SECTIONS and name not in EXPERIMENTS:
            raise InputError(
                f"{name!r} is neither a section of the report ({', '.join(SECTIONS)}) nor an experiment "
                "(`selfsup run --list`)"
            )
        chosen += SECTIONS[name].experiments if name in SECTIONS else (name,)
    return tuple(chosen)


def experiments_of(sections: Iterable[str]) -> tuple[str, ...]:
    """Returns the experiments to run for sections of the report, or by their own names; each once.

    Raises:
        InputError: a name is neither a section nor an experiment.
    """
    return tuple(dict.fromkeys(canonical(name) for name in named(sections)))


def plan(
    preset: str, sections: Iterable[str], seeds: int, out: Path, overrides: Mapping[str, Any] | None = None
) -> list[Job]:
    """Returns the runs of a grid: all experiments with seed 0, then all with seed 1, and so on.

    Raises:
        InputError: an unknown name, an invalid value, or `out` holds runs with other settings.
    """
    jobs = []
    for seed in range(seeds):
        for experiment in experiments_of(sections):
            config = make_config(preset, experiment, seed=seed, **(overrides or {}))
            job = Job(experiment, config, out / RUNS / experiment / str(seed))
            check_workdir(job.workdir, config, flag="out")
            jobs.append(job)
    return jobs


def shard(jobs: Sequence[Job], which: str) -> list[Job]:
    """Returns every n-th job, starting with the i-th, where `which` is "i/n" and i counts from 1.

    Raises:
        InputError: `which` does not have this form.
    """
    index, count = parse_share("shard", which)
    return list(jobs[index::count])


def execute(
    jobs: Sequence[Job],
    runner: Callable[[Job], str | None],
    workers: int = 1,
    stop: Callable[[BaseException], None] = lambda _: None,
) -> dict[Job, str]:
    """Runs what has not finished. A failure is recorded in the job's folder; the rest continue.

    Args:
        jobs: the runs.
        runner: makes a run and returns None, or the reason why it failed. What it raises stops the grid.
        workers: how many runs are in progress at a time, each in a thread.
        stop: called with the exception that stops the grid, such as an interruption; only then does this
            function wait for the runs in progress.

    Returns:
        The jobs without an accuracy and the reasons, including those that diverged earlier.
    """
    stopped = threading.Event()
    reasons = {job: failure_of(job.workdir, read_result(job.workdir)) for job in jobs}

    def make(job: Job) -> None:
        if stopped.is_set():
            return
        try:
            reasons[job] = runner(job)
            if not in_use(job.workdir):  # by a process of another grid
                _keep_failure(job.workdir, reasons[job])
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(workers) as pool:
        try:
            for made in as_completed([pool.submit(make, job) for job in jobs if job.state != "finished"]):
                made.result()
        except BaseException as error:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            stop(error)
            raise
    return {job: reason for job, reason in reasons.items() if reason is not None}


def _keep_failure(workdir: Path, reason: str | None) -> None:
    if reason is None:
        (workdir / FAILURE).unlink(missing_ok=True)
        return
    with or_warning(f"the failure to {workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / FAILURE, {"reason": reason})


def failure_of(workdir: Path, result: Result | None) -> str | None:
    """Returns why the run in a folder has no accuracy; None if it has one or has not ended.

    Args:
        workdir: the folder.
        result: the result in it, or None.

    Raises:
        InputError: the record of the failure is damaged.
    """
    if result is not None:
        return DIVERGED if result.diverged else None
    path = workdir / FAILURE
    try:
        return str(json.loads(path.read_text())["reason"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}); delete it") from None


@dataclass(frozen=True)
class Run:
    """The records of a run in the folder of a grid; `result` is None if it has not finished."""

    experiment: str
    seed: int
    workdir: Path
    result: Result | None
    failure: str | None


def collect(out: Path) -> list[Run]:
    """Returns all runs in the folder of a grid, ordered by experiment as in the registry, then by seed.

    Raises:
        InputError: a record is damaged, or in the folder of another run.
    """
    runs = []
    for experiment in EXPERIMENTS:
        folder = out / RUNS / experiment
        workdirs = [path for path in folder.glob("*") if path.name.isdecimal()] if folder.is_dir() else []
        for workdir in sorted(workdirs, key=lambda path: int(path.name)):
            result = read_result(workdir)
            _check_place(workdir, result)
            failure = failure_of(workdir, result)
            if result is not None or failure is not None:
                runs.append(Run(experiment, int(workdir.name), workdir, result, failure))
    return runs


def _check_place(workdir: Path, result: Result | None) -> None:
    """Checks that a run lies in the folder of its experiment and seed, so that no run counts twice."""
    if result is None:
        return
    experiment, seed = result.config["experiment"], result.config["seed"]
    if workdir.parts[-2:] != (experiment, str(seed)):
        raise InputError(f"{workdir} holds a run of experiment {experiment} with seed {seed}; move it away")
