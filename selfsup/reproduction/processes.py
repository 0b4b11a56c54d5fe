"""The runs of a grid in processes of their own, one after the other, and how far they are."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfsup.records.results import read_result
from selfsup.reproduction import grid
from selfsup.utils.clock import duration
from selfsup.utils.interrupts import Interrupted

ROOT = Path(__file__).resolve().parents[2]
LOG = "run.log"


class Processes:
    """Makes the runs of a grid by run.py; what each prints is kept in its folder, in run.log.

    Args:
        jobs: the runs.
        preset, overrides: flags that all of them share.
    """

    def __init__(self, jobs: Sequence[grid.Job], preset: str, overrides: Mapping[str, Any]) -> None:
        self.jobs = jobs
        self.flags = [f"--preset={preset}", *(f"--{name}={value}" for name, value in overrides.items())]
        self.todo = sum(job.state != "finished" for job in jobs)
        self.seconds: list[float] = []

    def run(self) -> dict[grid.Job, str]:
        """Makes what is missing; returns the jobs that gave no accuracy, with their reasons."""
        print(f"{len(self.jobs)} runs, {len(self.jobs) - self.todo} of them finished before", flush=True)
        return grid.execute(self.jobs, self._make)

    def _make(self, job: grid.Job) -> str | None:
        title = f"[{len(self.seconds) + 1}/{self.todo}] {job.experiment}, seed {job.seed}"
        began = time.perf_counter()
        reason = self._process(job, title)
        self.seconds.append(time.perf_counter() - began)
        left = (self.todo - len(self.seconds)) * sum(self.seconds) / len(self.seconds)
        outcome = f"failed: {reason}" if reason else _outcome(job)
        text = f"{title}: {outcome}, {duration(self.seconds[-1])}; about {duration(left)} left"
        print(f"\r{text}\033[K" if sys.stdout.isatty() else text, flush=True)
        return reason

    def _process(self, job: grid.Job, title: str) -> str | None:
        """Runs one job to its end; None, or why it gave no result."""
        job.workdir.mkdir(parents=True, exist_ok=True)
        flags = [f"--experiment={job.experiment}", f"--seed={job.seed}", f"--workdir={job.workdir}"]
        command = [sys.executable, "-m", "selfsup", "run", *self.flags, *flags]
        last = ""
        with (
            (job.workdir / LOG).open("a") as log,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=_environment(),
                start_new_session=True,  # Ctrl-C reaches the grid alone, which passes it on once
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            ) as process,
        ):
            try:
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    last = line.strip() or last
                    if sys.stdout.isatty():
                        room = shutil.get_terminal_size().columns - 1
                        print(f"\r{f'{title}: {last}'[:room]}\033[K", end="", flush=True)
            except Interrupted as stop:
                process.send_signal(stop.signum)
                log.write(process.stdout.read())
                process.wait()
                raise
        if process.returncode < 0:
            return f"ended by {signal.Signals(-process.returncode).name}"
        if read_result(job.workdir) is not None:
            return grid.failure_of(job.workdir)
        return f"{last.removeprefix('error: ')} (exit status {process.returncode}, see {job.workdir / LOG})"


def _outcome(job: grid.Job) -> str:
    result = read_result(job.workdir)
    return f"{result.accuracy['linear']:.2f} %" + (", collapsed" if result.collapsed else "")


def _environment() -> dict[str, str]:
    """This process' environment, with this package first on the module path, installed or not."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _die_with_parent() -> None:
    """Ends the run when the grid is killed, so that no two runs ever share a folder (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
