"""Output that cannot be written does not stop a command."""

import contextlib
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import selfsup
from selfsup import cli
from selfsup.utils.status import StatusLine
from selfsup.utils.streams import Tolerant, tolerant_output

ROOT = Path(selfsup.__file__).resolve().parents[1]


class Broken(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_stream_that_cannot_be_written_is_ignored(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (Broken(), closed):
        monkeypatch.setattr(sys, "stdout", stream)
        with tolerant_output():
            print("unwritten", flush=True)
            StatusLine().finish("unwritten")
        assert sys.stdout is stream


def test_characters_that_an_encoding_lacks_become_question_marks():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, "ascii", write_through=True)
    with contextlib.redirect_stdout(out), tolerant_output():
        print("\u0160iroka \U0001f600")
    assert raw.getvalue() == b"?iroka ?\n"


def test_what_can_be_written_is_unchanged():
    out = io.StringIO()
    tolerant = Tolerant(out)
    assert tolerant.write("\u0160iroka") == 6
    assert out.getvalue() == "\u0160iroka"
    assert tolerant.isatty() is False


@pytest.mark.parametrize("arguments", ["experiments/run.py --help", "-m selfsup", "-m selfsup run --list"])
@pytest.mark.parametrize("target", ["full", "closed"])
def test_a_command_ends_as_usual(target, arguments):
    command = [sys.executable, *arguments.split()]
    if target == "full":
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_from_the_start(closed):
    command = f"exec {shlex.quote(sys.executable)} -m selfsup compare --help {closed}"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


def test_ctrl_c_is_one_line(capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    assert cli.main(cli.CommandLine("", {}, fields=()), interrupted, ["command"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
