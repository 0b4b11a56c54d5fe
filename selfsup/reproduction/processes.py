"""The runs of a grid, each in its own process, and their progress."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from selfsup.records.results import STATUS_DIVERGED, read_result
from selfsup.reproduction import grid
from selfsup.reproduction.slots import Slot
from selfsup.utils.clock import duration
from selfsup.utils.interrupts import STOP_AT_EOF, Interrupted
from selfsup.utils.status import StatusLine

ROOT = Path(__file__).resolve().parents[2]
LOG = "run.log"


class Processes:
    """Makes the runs of a grid with `selfsup run`. The output of each is kept in its folder, in run.log.

    Args:
        jobs: the runs.
        preset: preset of all runs.
        overrides: fields of `Config` set for all runs.
        slots: shares of the machine; as many runs are in progress at a time.
    """

    def __init__(
        self, jobs: Sequence[grid.Job], preset: str, overrides: Mapping[str, Any], slots: Sequence[Slot]
    ) -> None:
        self.jobs = jobs
        self.flags = [f"--preset={preset}", *(f"--{name}={value}" for name, value in overrides.items())]
        self._slots = len(slots)
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._running: dict[grid.Job, subprocess.Popen[str]] = {}
        self._stopping = False
        self._progress = _Progress(sum(job.state != "finished" for job in jobs), len(slots))

    def run(self) -> dict[grid.Job, str]:
        """Makes the missing runs. Returns the jobs without an accuracy and the reasons.

        Raises:
            Interrupted: a signal arrived. It was passed on to the runs, which have saved their state.
        """
        finished = sum(job.state == "finished" for job in self.jobs)
        print(f"{len(self.jobs)} runs, {finished} of them already finished", flush=True)
        return grid.execute(self.jobs, self._make, self._slots, self._stop)

    def _stop(self, reason: BaseException) -> None:
        """Passes a signal on to the runs under way."""
        self._stopping = True
        for process in list(self._running.values()):
            _stop(process, reason.signum if isinstance(reason, Interrupted) else signal.SIGTERM)

    def _make(self, job: grid.Job) -> str | None:
        slot, began = self._free.get(), time.perf_counter()
        reason = self._process(job, slot)
        self._free.put(slot)
        if self._stopping:
            raise Interrupted(signal.SIGTERM)
        outcome = f"failed: {reason}" if reason else _outcome(job)
        self._progress.finished(job, outcome, time.perf_counter() - began)
        return reason

    def _process(self, job: grid.Job, slot: Slot) -> str | None:
        """Runs one job to its end. Returns None, or why it failed."""
        job.workdir.mkdir(parents=True, exist_ok=True)
        flags = [f"--experiment={job.experiment}", f"--seed={job.seed}", f"--workdir={job.workdir}"]
        flags.append("--nokeep_checkpoint")
        command = [sys.executable, "-m", "selfsup", "run", *self.flags, *flags]
        last = ""
        with (
            (job.workdir / LOG).open("a") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=_environment(slot),
                start_new_session=True,  # Ctrl-C reaches only the grid, which passes it on once
            ) as process,
        ):
            slot.pin(process.pid)
            self._running[job] = process
            if self._stopping:  # the signal came while the process was starting
                _stop(process, signal.SIGTERM)
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                last = line.strip() or last
                if not self._stopping:
                    self._progress.show(job, last)
        del self._running[job]
        if process.returncode < 0:
            return f"ended by {signal.Signals(-process.returncode).name}"
        # With another exit status, a result in the folder is that of an earlier run.
        if process.returncode in (0, STATUS_DIVERGED):
            return grid.failure_of(job.workdir)
        return f"{last.removeprefix('error: ')} (exit status {process.returncode}, see {job.workdir / LOG})"


class _Progress:
    """Shows the last line of every run, and a line for each that ends; can be called from any thread."""

    def __init__(self, todo: int, side_by_side: int) -> None:
        self.todo, self.side_by_side = todo, side_by_side
        self.seconds: list[float] = []
        self._last: dict[grid.Job, str] = {}
        self._line, self._lock = StatusLine(), threading.Lock()

    def show(self, job: grid.Job, text: str) -> None:
        with self._lock:
            self._last[job] = text
            gap = " | "
            room = (self._line.room + len(gap)) // len(self._last) - len(gap)
            runs = (f"{job.experiment}, seed {job.seed}: {text}" for job, text in self._last.items())
            self._line.show(gap.join(text[:room].ljust(room) for text in runs))

    def finished(self, job: grid.Job, outcome: str, seconds: float) -> None:
        with self._lock:
            self._last.pop(job, None)
            self.seconds.append(seconds)
            done, rounds = len(self.seconds), (self.todo - len(self.seconds)) / self.side_by_side
            self._line.finish(
                f"[{done}/{self.todo}] {job.experiment}, seed {job.seed}: {outcome}, {duration(seconds)}; "
                f"about {duration(rounds * sum(self.seconds) / done)} left"
            )


def _stop(process: subprocess.Popen[str], signum: int) -> None:
    """Asks a run to stop with a checkpoint."""
    if sys.platform == "win32":  # has no signals to other processes: the run stops at the end of its input
        assert process.stdin is not None
        process.stdin.close()
    else:
        process.send_signal(signum)


def _outcome(job: grid.Job) -> str:
    result = read_result(job.workdir)
    assert result is not None
    accuracy = result.accuracy.get("linear")
    return ("finished" if accuracy is None else f"{accuracy:.2f} %") + (
        ", collapsed" if result.collapsed else ""
    )


def _environment(slot: Slot) -> dict[str, str]:
    """Returns the environment of a run, with this package first on the module path."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **slot.environment, "PYTHONPATH": os.pathsep.join(paths), STOP_AT_EOF: "1"}
