"""A nursery of runs that die: forks a process for each, which has the backend imported, and runs the command.

Reads a JSON line per life: `flags` of run.py, `moment` and `delay` of its death, and `seconds`, which a whole
life takes. Answers with exit statuses. Lives are short: one residual block, views that are only flipped, and
figures that are not drawn.
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

from keras import ops

from selfsup import augment
from selfsup.analysis import probe
from selfsup.commands import run
from selfsup.networks import resnet
from selfsup.records import checkpoints, workdir
from selfsup.training import run as train
from selfsup.training.progress import Progress
from selfsup.utils.files import replacing
from shallow import make_shallow

FULL = 200_000
"""Bytes that a file may have on a full disk: less than a checkpoint, more than any record."""

make_shallow()
resnet.STAGES = 1
run.import_train()  # imports TensorFlow on JAX, too, as Keras does later


def flip(pixels: object, drawn: dict) -> object:
    """The part of the augmentation that compiles fastest."""
    return ops.where(drawn["flip"][:, None, None, None], ops.flip(pixels, axis=2), pixels)


def write_figures(_: str, folder: Path) -> None:
    for name in (workdir.EIGENSPACE_FIGURE, workdir.CURVES_FIGURE):
        with replacing(folder / name) as file:
            file.write("a figure")


augment.transform = flip
train.draw = write_figures


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


def arm(moment: str, delay: float, seconds: float) -> None:
    """Arranges the death: `delay` in [0, 1] is a share of the time that the moment takes."""
    if moment == "anytime":
        die_after(delay * seconds)
    elif moment == "first step":
        before(Progress, "on_train_begin", lambda: die_after(delay * 0.6 * seconds))
    elif moment == "checkpoint":
        die_writing(delay, skipped=int(delay * 100) % 3)
    elif moment == "probe":
        before(probe, "linear_probe", lambda: die_after(delay * 0.05 * seconds))
    elif moment == "records":
        before(train, "export_encoder", lambda: die_after(delay * 0.05 * seconds))
    elif moment == "overwrite":
        before(train, "cleared", lambda: die_after(delay * 0.5 * seconds))
    elif moment == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))
    elif moment.startswith("SIG"):
        signum = signal.Signals[moment]
        before(
            Progress, "on_epoch_end", lambda: threading.Timer(0.01, os.kill, (os.getpid(), signum)).start()
        )


def live(order: dict) -> None:
    """One life, in a forked process."""
    output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if order["moment"] == "full output":
        output = os.open("/dev/full", os.O_WRONLY)
    elif order["moment"] == "closed output":
        reader, output = os.pipe()
        os.close(reader)
    os.dup2(output, 1)
    os.dup2(output, 2)
    arm(order["moment"], order["delay"], order["seconds"])
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
