"""The shares of one machine that parallel runs use."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from selfsup.utils.errors import InputError


@dataclass(frozen=True)
class Slot:
    """The share of the machine that one run uses.

    Attributes:
        cores: CPU cores that the run is pinned to; empty for no limit.
        environment: variables for the process of the run, such as CUDA_VISIBLE_DEVICES.
    """

    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def pin(self, pid: int) -> None:
        """Pins a process that has just started, and all threads it starts, to the cores (Linux only)."""
        if self.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(pid, self.cores)


def slots(jobs: int) -> list[Slot]:
    """Divides the cores and GPUs of this machine among `jobs` runs.

    A single run gets the whole machine. With fewer GPUs than runs, several runs share a GPU and allocate its
    memory as they need it.

    Raises:
        InputError: there are fewer cores than runs.
    """
    if jobs == 1:
        return [Slot()]
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    cores = sorted(allowed(0))
    if jobs > len(cores):
        raise InputError(f"jobs must be at most {len(cores)}, the number of CPU cores, not {jobs}")
    gpus, size = _gpus(), len(cores) // jobs
    found = []
    for index in range(jobs):
        environment = {}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
        if gpus and jobs > len(gpus):
            environment |= {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        found.append(Slot(tuple(cores[index * size : (index + 1) * size]), environment))
    return found


def _gpus() -> list[str]:
    """Returns the GPUs as named in CUDA_VISIBLE_DEVICES, by default all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]  # MIG is indented
    return [str(index) for index in range(len(lines))] if listed.returncode == 0 else []
