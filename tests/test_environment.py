"""Commands in environments that lack a package or have settings that cannot work: one line each."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import selfsup
from selfsup import cli
from selfsup.reproduction import processes
from selfsup.utils.errors import InputError

ROOT = Path(selfsup.__file__).resolve().parents[1]
SCRIPTS = ("run.py", "reproduce.py", "embed.py", "export_npz.py", "compare.py", "benchmark")


def call(*arguments, **environment):
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_without_packages(script):
    """-S: without site-packages."""
    done = call("-S", "-I", f"experiments/{script}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: absl-py is not installed for ")
    assert done.stderr.count("\n") == 1


UNSUPPORTED = [("experiments/run.py", "torch"), ("-m selfsup export --run=runs/mine", "JAX")]


@pytest.mark.parametrize(("command", "backend"), UNSUPPORTED)
def test_a_backend_that_is_not_supported_is_named(command, backend):
    done = call(*command.split(), KERAS_BACKEND=backend)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: KERAS_BACKEND is {backend!r}, which selfsup does not support; "
        "set KERAS_BACKEND to tensorflow or jax\n"
    )


def test_a_plotting_backend_that_is_unknown(monkeypatch):
    done = call("experiments/run.py", "--dataset=shapes", MPLBACKEND="nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: MPLBACKEND is 'nonsense', which matplotlib does not know; unset it\n"
    monkeypatch.setenv("MPLBACKEND", "agg")
    cli.check_plotting()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    cli.check_plotting()


@pytest.mark.skipif(not (find_spec("jax") and find_spec("tensorflow")), reason="needs both backends")
def test_tensorflow_is_silent_on_jax():
    code = "from selfsup.commands.run import import_train; import_train(); import tensorflow"
    done = call("-c", code, KERAS_BACKEND="jax")
    assert (done.returncode, done.stderr) == (0, "")


def test_imports_work_on_windows(tmp_path):
    """`fcntl` and `resource` are missing there, and so are some signals."""
    code = (
        "import sys, signal, socket, subprocess, types, numpy\n"
        "sys.modules |= {'fcntl': None, 'resource': None, 'msvcrt': types.ModuleType('msvcrt')}\n"
        "sys.platform = 'win32'\n"
        "del signal.SIGHUP, signal.pthread_kill\n"
        "import selfsup.utils.files, selfsup.utils.interrupts as interrupts\n"
        "import selfsup.reproduction.grid, selfsup.reproduction.slots\n"
        "assert interrupts.SIGNALS == (signal.SIGINT, signal.SIGTERM)\n"
        "with interrupts.Interruption(): pass"
    )
    done = call("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_on_windows_are_asked_to_stop_by_the_end_of_their_input(monkeypatch):
    code = "import sys; sys.exit(len(sys.stdin.read()) + 7)"
    monkeypatch.setattr(processes.sys, "platform", "win32")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True) as process:
        processes._stop(process, signal.SIGINT)
        assert process.wait(60) == 7


def test_names_of_a_flag():
    with pytest.raises(InputError, match="only must be names separated by commas"):
        cli.split_names("only", "sgd,")
