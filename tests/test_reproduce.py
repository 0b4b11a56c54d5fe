"""The grid's command as users type it, with runs of a tiny network in processes of their own."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import fake_result, write_fake_run

from selfsup.commands import reproduce
from selfsup.records import workdir
from selfsup.records.results import read_result
from selfsup.reproduction import grid, processes, report
from selfsup.reproduction.processes import Processes
from selfsup.reproduction.registry import make_config
from selfsup.reproduction.report import Report
from selfsup.reproduction.slots import Slot, slots
from selfsup.training import estimate

ROOT = Path(reproduce.__file__).resolve().parents[2]
TINY = (
    "--preset=quick",
    "--width=2",
    "--epochs=1",
    "--probe_epochs=2",
    "--batch_size=16",
    "--precision=float32",
)


def call(*arguments):
    return reproduce.main(["reproduce.py", *map(str, arguments)])


def flags_for(tiny_npz, out):
    return [*TINY, "--only=sgd,directcopy", f"--dataset={tiny_npz}", f"--out={out}"]


def start(flags, folder=ROOT):
    command = [sys.executable, str(ROOT / "experiments" / "reproduce.py"), *flags]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)


def accuracies(out):
    return {name: read_result(out / "runs" / name / "0").accuracy for name in ("sgd", "directcopy")}


@pytest.fixture(scope="module")
def finished(tiny_npz, tmp_path_factory):
    """A grid of two runs and what it printed, in a folder in which another package has the same name."""
    out, folder = tmp_path_factory.mktemp("grid"), tmp_path_factory.mktemp("elsewhere")
    (folder / "selfsup").mkdir()
    (folder / "selfsup" / "__init__.py").write_text("raise ImportError('another package')")
    with start(flags_for(tiny_npz, out), folder) as process:
        printed = process.communicate()[0]
        assert process.returncode == 0
    return out, printed


def test_the_grid_says_how_far_it_is_and_where_the_report_is(finished):
    out, printed = finished
    assert "2 runs, 0 already finished" in printed
    assert re.search(r"\[1/2\] sgd, seed 0: \d+\.\d\d %, .+; about .+ left", printed)
    assert "[2/2] directcopy, seed 0" in printed
    assert f"report: {out}/REPORT.md and {out}/report.html" in printed
    assert "linear probe, last epoch" in (out / "runs" / "sgd" / "0" / "run.log").read_text()
    assert "| sgd | 83.3 |" in (out / "REPORT.md").read_text()


def test_a_second_call_does_nothing(finished, tiny_npz, capsys, monkeypatch):
    out, _ = finished
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(reproduce.Processes, "_process", lambda *_: pytest.fail("a run was started"))
    assert call(*flags_for(tiny_npz, out)) == 0
    assert "2 runs, 2 already finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_killed_midway_it_resumes_to_the_same_accuracies(finished, tiny_npz, tmp_path):
    flags, killed = flags_for(tiny_npz, tmp_path), tmp_path / "runs" / "directcopy" / "0"
    shutil.copytree(finished[0] / "runs" / "sgd", tmp_path / "runs" / "sgd")
    with start(flags) as process:
        while not (killed / "config.json").exists():
            time.sleep(0.05)
            assert process.poll() is None
        process.kill()
    while _running(killed):
        time.sleep(0.1)
    assert read_result(killed) is None, "a run outlived its grid"
    with start(flags) as process:
        assert "2 runs, 1 already finished" in process.communicate()[0]
        assert process.returncode == 0
    assert accuracies(tmp_path) == accuracies(finished[0])


def test_a_failed_run_is_listed_with_its_reason_and_status_1(tmp_path, capsys):
    write_fake_run(tmp_path / "runs" / "byol" / "0", fake_result("byol", 70.0, "quick"))
    flags = ("--preset=quick", f"--out={tmp_path}")
    assert call(*flags, "--only=sgd", f"--dataset={tmp_path / 'none.npz'}") == 1
    error = capsys.readouterr().err
    assert "failed: sgd, seed 0: no file" in error
    assert "exit status 2" in error
    text = (tmp_path / "REPORT.md").read_text()
    assert "none.npz" in text
    assert "| byol | 84.2 | 70.00 (n = 1) |" in text


def test_a_run_that_ends_while_the_report_is_drawn_is_not_forgotten(tmp_path, monkeypatch, capsys):
    write_fake_run(tmp_path / "runs" / "byol" / "0", fake_result("byol", 70.0, "quick"))
    write = Report.write

    def slow(written: Report) -> None:
        write(written)
        if not (tmp_path / "runs" / "sgd").exists():
            write_fake_run(tmp_path / "runs" / "sgd" / "0", fake_result("sgd", 60.0, "quick"))

    monkeypatch.setattr(Report, "write", slow)
    for row in ("| sgd | 83.3 | no result |", "| sgd | 83.3 | 60.00 (n = 1) |"):
        report.write_report(tmp_path, ["byol", "sgd"], "quick")
        assert row in (tmp_path / "REPORT.md").read_text()


def _running(workdir):
    """Whether a process has this workdir on its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"--workdir={workdir}" in path.read_text().split("\0"):
                return True
    return False


def test_dry_run_prints_the_plan_and_leaves_nothing(tiny_npz, tmp_path, capsys, monkeypatch):
    """A run has 6 steps, and features that take as long as 0.88 steps; two of four experiments have EMA."""
    monkeypatch.setattr(estimate, "step_seconds", lambda config, data: 100.0 if config.resolved.ema else 10.0)
    out = tmp_path / "out"
    assert (
        call(*TINY, "--only=table1", "--seeds=2", f"--dataset={tiny_npz}", f"--out={out}", "--dry_run") == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert lines[0].split()[:4] == ["missing", "byol_symmetric", "seed", "0"]
    assert lines[-1] == "8 runs, 8 still to train: about 54 min"
    assert not out.exists()


@pytest.mark.parametrize("flag", ["--schedule=cosine", "--images_on=host"])
def test_dry_run_takes_what_a_run_takes(flag, tiny_npz, tmp_path, capsys, shallow):
    assert call(*flags_for(tiny_npz, tmp_path), flag, "--dry_run") == 0
    assert "2 still to train: about" in capsys.readouterr().out


def test_a_run_that_fails_beside_an_older_result_has_failed(tiny_npz, tmp_path, capsys):
    write_fake_run(tmp_path / "runs" / "sgd" / "0", fake_result("sgd", 50.0, "quick"))
    job = grid.Job(
        "sgd", make_config("quick", "sgd", epochs=2, dataset="missing.npz"), tmp_path / "runs/sgd/0"
    )
    assert job.state != "finished"
    flags = {"epochs": 2, "dataset": "missing.npz"}
    (reason,) = Processes([job], "quick", flags, slots(1)).run().values()
    assert "exit status 2" in reason


@pytest.fixture
def broken_child(tmp_path, monkeypatch):
    """Runs that print a byte that is no text, and fail."""
    child = tmp_path / "child"
    child.write_text("#!/bin/sh\nprintf 'error: caf\\351\\n'\nexit 2\n")
    child.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(child))


def test_neither_odd_output_nor_a_full_disk_stops_a_grid(broken_child, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "runs" / "sgd" / "0").mkdir(parents=True)
    (out / "runs" / "sgd" / "0" / "run.log").symlink_to("/dev/full")
    (out / "runs" / "byol").write_text("a file in the place of a folder")
    jobs = grid.plan("quick", ["sgd", "byol", "simsiam"], 1, out)
    reasons = {job.experiment: reason for job, reason in Processes(jobs, "quick", {}, slots(1)).run().items()}
    assert list(reasons) == ["sgd", "byol", "simsiam"]
    assert reasons["sgd"].startswith("caf\ufffd (exit status 2")
    assert reasons["simsiam"].startswith("caf\ufffd (exit status 2")
    assert "Not a directory" in reasons["byol"]
    assert "cannot write the failure" in capsys.readouterr().err
    assert (out / "runs" / "simsiam" / "0" / "run.log").read_text() == "error: caf\ufffd\n"


def test_a_run_that_another_grid_is_making_has_not_failed(broken_child, tmp_path):
    (job,) = grid.plan("quick", ["sgd"], 1, tmp_path)
    with workdir.owned(job.workdir, job.config):
        assert list(Processes([job], "quick", {}, slots(1)).run()) == [job]
    assert grid.collect(tmp_path) == []


def test_dry_run_estimates_from_finished_runs(tmp_path, capsys, monkeypatch):
    write_fake_run(tmp_path / "runs" / "byol" / "0", fake_result("byol", 70.0, "quick"))
    short = fake_result("sgd", None, "quick", seconds={"total": 1.0})
    write_fake_run(tmp_path / "runs" / "sgd" / "0", short)
    assert call("--preset=quick", "--only=table1", f"--out={tmp_path}", "--dry_run") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 runs, 3 still to train: about 3 min"
    monkeypatch.setattr(
        reproduce, "slots", lambda jobs: [Slot((), {"CUDA_VISIBLE_DEVICES": n}) for n in "01"]
    )
    assert call("--preset=quick", "--only=table1", f"--out={tmp_path}", "--dry_run", "--jobs=2") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 runs, 3 still to train: about 2 min"


def test_ctrl_c_says_how_to_resume(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(reproduce.Processes, "run", interrupt)
    assert call("--preset=quick", f"--out={tmp_path}") == 128 + signal.SIGINT
    assert "the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--only=table7"], "table7"),
        (["--shard=3/2"], "shard"),
        (["--shard="], "shard"),
        (["--dry_run", "--report_only"], "drop it"),
        (["--seeds=0"], "at least 1"),
        (["--report_only"], "no run has ended"),
        (["--method=byol"], "method"),
        (["--learning_rate=1"], "learning_rate"),
        (["--width=0"], "width"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(flags, named, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("--preset=quick", f"--out={out}", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error
    assert not out.exists()
