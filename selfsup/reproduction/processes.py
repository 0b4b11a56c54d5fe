"""The runs of a grid, each in its own process, and their progress."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from selfsup.records.results import STATUS_DIVERGED, read_result
from selfsup.reproduction import grid
from selfsup.reproduction.slots import Slot
from selfsup.utils.clock import duration
from selfsup.utils.interrupts import STOP_AT_EOF, Interrupted
from selfsup.utils.status import StatusLine
from selfsup.utils.text import counted

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
        self.todo = [job for job in jobs if job.state != "finished"]
        self.flags = [f"--preset={preset}", *(f"--{name}={value}" for name, value in overrides.items())]
        self._slots = len(slots)
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._running: dict[grid.Job, subprocess.Popen[str]] = {}
        self._stopping = False
        self._progress = _Progress(len(self.todo), len(slots))

    def run(self) -> dict[grid.Job, str]:
        """Makes the missing runs. Returns the jobs without an accuracy and the reasons.

        Raises:
            Interrupted: a signal arrived. It was passed on to the runs, which have saved their state.
        """
        finished = len(self.jobs) - len(self.todo)
        print(f"{counted(len(self.jobs), 'run')}, {finished} already finished", flush=True)
        return grid.execute(self.jobs, self._make, self._slots, self._stop)

    def _stop(self, reason: BaseException) -> None:
        """Passes a signal on to the runs under way."""
        self._stopping = True
        under_way = list(self._running.values())
        self._progress.note(f"stopping {counted(len(under_way), 'run')}, which first save their state")
        for process in under_way:
            _stop(process, reason.signum if isinstance(reason, Interrupted) else signal.SIGTERM)

    def _make(self, job: grid.Job) -> str | None:
        slot, began = self._free.get(), time.perf_counter()
        try:
            reason = self._process(job, slot)
        except OSError as error:  # of the folder
            reason = f"{error.strerror}: {error.filename}"
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
        command = [sys.executable, "-P", "-m", "selfsup", "run", *self.flags, *flags]
        last = ""
        with (
            (job.workdir / LOG).open("ab", buffering=0) as log,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
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
                with suppress(OSError):  # on a full disk, the run itself may still go on
                    log.write(line.encode())
                last = line.strip() or last
                if not self._stopping:
                    self._progress.show(job, last)
        del self._running[job]
        if process.returncode < 0:
            return f"ended by {signal.Signals(-process.returncode).name}"
        # With another exit status, a result in the folder is that of an earlier run.
        if process.returncode in (0, STATUS_DIVERGED):
            return grid.failure_of(job.workdir, read_result(job.workdir))
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
            room = max(0, (self._line.room + len(gap)) // len(self._last) - len(gap))
            runs = (f"{job.experiment}, seed {job.seed}: {text}" for job, text in self._last.items())
            self._line.show(gap.join(text[:room].ljust(room) for text in runs))

    def note(self, text: str) -> None:
        with self._lock:
            self._line.finish(text)

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
    own = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8", STOP_AT_EOF: "1"}
    return {**os.environ, **slot.environment, **own}
