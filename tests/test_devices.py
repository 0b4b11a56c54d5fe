import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import selfsup
from selfsup.backend import devices

ROOT = Path(selfsup.__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("imported", "setting", "asked"),
    [("", None, True), ("tensorflow", None, False), ("tensorflow", "0", True)],
)
def test_whether_tensorflow_was_imported_before_onednn_was_enabled(imported, setting, asked):
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {"TF_ENABLE_ONEDNN_OPTS": setting} if setting else {}
    code = f"import sys; sys.modules[{imported!r}] = sys\nimport selfsup; print(selfsup.ASKED_FOR_ONEDNN)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(asked)


@pytest.mark.parametrize(
    ("flags", "asked", "lacks"),
    [
        (["avx2"], False, True),
        (["avx2", "avx512_vnni"], False, False),
        (["avx2"], True, False),
        ([], False, False),
    ],
)
def test_cpus_that_lack_onednn(monkeypatch, flags, asked, lacks):
    monkeypatch.setattr(selfsup, "ASKED_FOR_ONEDNN", asked)
    monkeypatch.setattr(devices, "_cpu", lambda: {"model": "a CPU", "flags": flags})
    assert devices.lacks_onednn() == (lacks and keras.backend.backend() == "tensorflow")


@pytest.mark.parametrize(("cores", "text"), [(1, "CPU (a CPU, 1 core)"), (2, "CPU (a CPU, 2 cores)")])
def test_a_cpu_as_text(monkeypatch, cores, text):
    monkeypatch.setattr(devices, "_cpu", lambda: {"model": "a CPU", "flags": []})
    monkeypatch.setattr(devices, "_cores", lambda: cores)
    monkeypatch.setattr(devices, "on_gpu", lambda: False)
    assert devices.describe_device() == text
