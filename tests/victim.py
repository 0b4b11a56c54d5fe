"""A nursery of runs that die: forks a process for each, which has TensorFlow imported, and runs the command.

Reads a JSON line per life: `flags` of run.py, `moment` and `delay` of its death. Answers with exit statuses.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selfsup.analysis import probe
from selfsup.commands import run
from selfsup.records import checkpoints
from selfsup.training import run as train
from selfsup.training.progress import Progress
from shallow import make_shallow

FULL = 200_000
"""Bytes that a file may have on a full disk: less than a checkpoint, more than any record."""

make_shallow()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(seconds: float) -> None:
    threading.Timer(seconds, die).start()


def before(owner: object, name: str, action: object) -> None:
    """Does something each time before a function is called."""
    original = getattr(owner, name)

    def wrapped(*args: object, **kwargs: object) -> object:
        action()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def die_writing(share: float, skipped: int) -> None:
    """Dies in the middle of a checkpoint's bytes; at a share of 1 after the last, before it is renamed."""
    replacing = checkpoints.replacing
    left = [skipped]

    class Dying:
        def __init__(self, file: object) -> None:
            self.file = file

        def write(self, content: bytes) -> None:
            whole = len(content) < 1000  # the header
            self.file.write(content if whole else content[: int(share * len(content))])
            if not whole:
                self.file.flush()
                die()

    @contextlib.contextmanager
    def dying(*args: object) -> object:
        with replacing(*args) as file:
            left[0] -= 1
            yield Dying(file) if left[0] < 0 else file

    checkpoints.replacing = dying


def arm(moment: str, delay: float) -> None:
    """Arranges the death: `delay` in [0, 1] is a share of the time that the moment takes."""
    if moment == "anytime":
        die_after(delay * 14)
    elif moment == "first step":
        before(Progress, "on_train_begin", lambda: die_after(delay * 6))
    elif moment == "checkpoint":
        die_writing(delay, skipped=int(delay * 100) % 3)
    elif moment == "probe":
        before(probe, "linear_probe", lambda: die_after(delay))
    elif moment == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))
    elif moment.startswith("SIG"):
        signum = signal.Signals[moment]
        before(
            Progress, "on_epoch_end", lambda: threading.Timer(0.01, os.kill, (os.getpid(), signum)).start()
        )


def live(order: dict) -> None:
    """One life, in a forked process."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    arm(order["moment"], order["delay"])
    os._exit(run.main(["run.py", *order["flags"]]))


def main() -> None:
    print(f"ready {train.__name__}", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            live(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
