import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from selfsup.reproduction.slots import Slot, slots
from selfsup.utils.errors import InputError

CORES = "import os; print(os.read(0, 1) and sorted(os.sched_getaffinity(0)))"


@pytest.fixture
def machine(monkeypatch):
    """Sets the number of cores and the GPUs of this machine."""

    def use(cores, gpus=""):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)

    return use


def test_one_run_gets_the_whole_machine(machine):
    machine(cores=8, gpus="0,1")
    assert slots(1) == [Slot()]


def test_cores_are_divided_without_overlap(machine):
    machine(cores=7)
    assert [slot.cores for slot in slots(3)] == [(0, 1), (2, 3), (4, 5)]
    assert not any(slot.environment for slot in slots(3))


def test_every_run_gets_a_gpu_and_several_share_one_only_if_they_must(machine):
    machine(cores=8, gpus="3,5")
    assert [slot.environment for slot in slots(2)] == [
        {"CUDA_VISIBLE_DEVICES": "3"},
        {"CUDA_VISIBLE_DEVICES": "5"},
    ]
    shared = slots(4)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in shared] == ["3", "5", "3", "5"]
    assert all(slot.environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" for slot in shared)


def test_a_line_of_nvidia_smi_is_a_gpu(machine, monkeypatch):
    machine(cores=4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    listed = (
        "GPU 0: NVIDIA GeForce RTX 3060 Laptop GPU (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-GPU 2)\n"
    )
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=listed, returncode=0))
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(2)] == ["0", "0"]


def test_more_runs_than_cores_are_refused(machine):
    machine(cores=2)
    with pytest.raises(InputError, match="at most 2"):
        slots(3)


@pytest.mark.skipif(sys.platform != "linux", reason="cores are pinned on Linux")
def test_a_process_is_pinned():
    core = min(os.sched_getaffinity(0))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CORES], **pipes) as process:
        Slot((core,)).pin(process.pid)
        assert process.communicate("x")[0].strip() == str([core])
