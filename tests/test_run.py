"""The command as users type it: every method end to end, what it leaves behind, and bad input."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import selfsup
from selfsup import cli
from selfsup.__main__ import COMMANDS, main
from selfsup.commands import run
from selfsup.records.results import read_result
from selfsup.training import run as training
from selfsup.utils.interrupts import Interrupted

ROOT = Path(run.__file__).resolve().parents[2]
TINY = ("--width=2", "--epochs=2", "--probe_epochs=3", "--batch_size=16", "--precision=float32")


def call(*arguments):
    return run.main(["run.py", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tiny_npz, tmp_path_factory):
    """The main command on a tiny network, from a process of its own."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    command = [sys.executable, "experiments/run.py", "--method=directpred", "--ema", *TINY]
    command += [f"--dataset={tiny_npz}", f"--workdir={workdir}", "--probe_untrained"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_main_command_says_what_it_does(finished):
    workdir, done = finished
    for words in (
        "directpred, EMA target",
        "96 training and 32 test images",
        "trained parameters",
        "device",
        "%",
    ):
        assert words in done.stdout
    assert str(workdir) in done.stdout
    assert "Traceback" not in done.stderr


def test_main_command_leaves_its_records(finished):
    workdir, _ = finished
    assert sorted(p.name for p in workdir.iterdir()) == [
        ".lock", "checkpoint-000000012.ckpt", "config.json", "curves.png", "dynamics.npz",
        "eigenspace.npz", "eigenspace.png", "encoder.keras", "log.csv", "result.json", "timing.csv",
    ]  # fmt: skip
    result = json.loads((workdir / "result.json").read_text())
    assert set(result) >= {
        "config", "accuracy", "collapsed", "diverged", "seconds", "images_per_second", "environment",
        "dataset", "weights", "commit",
    }  # fmt: skip
    assert set(result["accuracy"]) == {"linear", "knn", "untrained_linear"}
    assert set(result["seconds"]) >= {
        "load", "compile", "steps", "callbacks", "records", "checkpoints", "probe", "knn", "other", "total",
    }  # fmt: skip
    parts = {name: value for name, value in result["seconds"].items() if name != "total"}
    assert sum(parts.values()) == pytest.approx(result["seconds"]["total"], abs=0.01)
    assert min(parts.values()) >= 0
    assert result["config"]["method"] == "directpred"
    assert result["dataset"]["train"] == 96
    assert result["environment"]["precision"] == "float32"
    assert selfsup.Config(**result["config"]) == selfsup.Config(
        **json.loads((workdir / "config.json").read_text())
    )


def test_log_has_a_row_per_epoch(finished):
    workdir, _ = finished
    with (workdir / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == [
        "epoch", "loss", "embedding_std", "effective_rank", "asymmetry",
        "online_linear", "knn", "rankme", "lidar", "view_alignment", "uniformity",
    ]  # fmt: skip
    assert all(np.isfinite([float(v) for v in row.values()]).all() for row in rows)
    assert (workdir / "timing.csv").read_text().startswith("epoch,seconds,images_per_second\n1,")


def test_encoder_loads_without_selfsup(finished, tmp_path):
    workdir, _ = finished
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    encoder = selfsup.load_encoder(workdir)
    result = read_result(workdir)
    assert encoder.mean == tuple(result.dataset["mean"])
    np.save(tmp_path / "x.npy", images)
    code = (
        "import sys, numpy as np, keras; model = keras.models.load_model(sys.argv[1], compile=False); "
        "np.save(sys.argv[3], np.asarray(model(np.load(sys.argv[2])))); assert 'selfsup' not in sys.modules; "
        "assert all(type(l).__module__.startswith('keras.') for l in model.layers)"
    )
    files = [workdir / "encoder.keras", tmp_path / "x.npy", tmp_path / "h.npy"]
    subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], check=True, cwd=tmp_path, capture_output=True
    )
    np.testing.assert_allclose(np.load(tmp_path / "h.npy"), encoder(images), atol=1e-4)
    assert encoder(images).shape == (3, 16)


def test_a_finished_run_is_not_run_again(finished, tiny_npz, capsys):
    workdir, _ = finished
    arguments = ("--method=directpred", *TINY, f"--dataset={tiny_npz}", f"--workdir={workdir}")
    before = (workdir / "result.json").read_bytes()
    assert call(*arguments) == 0
    assert "already finished" in capsys.readouterr().out
    assert (workdir / "result.json").read_bytes() == before
    assert call(*arguments, "--epochs=1") == 2
    assert "epochs 2 there, 1 here" in capsys.readouterr().err


def test_a_finished_run_without_its_config_file_is_not_taken_for_another(
    finished, tiny_npz, tmp_path, capsys
):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "config.json").unlink()
    flags = (*TINY, f"--dataset={tiny_npz}", f"--workdir={workdir}")
    assert call("--method=byol", "--seed=7", *flags) == 2
    assert "method directpred there, byol here" in capsys.readouterr().err


@pytest.mark.parametrize(("rate", "status"), [(0.03, 0), (1e30, 3)])
def test_a_run_on_a_folder_of_images_leaves_none_of_them(rate, status, tmp_path, capsys, shallow):
    rng = np.random.default_rng(0)
    for index in range(40):
        path = tmp_path / "photos" / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    flags = (f"--dataset={tmp_path / 'photos'}", f"--learning_rate={rate}", f"--workdir={tmp_path / 'run'}")
    assert call("--method=byol", *TINY, *flags) == status
    assert not (tmp_path / "run" / "images").exists()
    if not status:
        assert "linear probe, last epoch" in capsys.readouterr().out


def test_a_finished_run_belongs_to_its_data_wherever_they_lie(finished, tiny_npz, tmp_path, capsys):
    workdir, _ = finished
    arguments = ("--method=directpred", *TINY, f"--workdir={workdir}")
    before = sorted(workdir.iterdir())
    shutil.copy(tiny_npz, tmp_path / "moved.npz")
    assert call(*arguments, f"--dataset={tmp_path / 'moved.npz'}") == 0
    assert "already finished" in capsys.readouterr().out
    arrays = dict(np.load(tiny_npz))
    arrays["x_train"][0, 0, 0, 0] += 1
    np.savez(tmp_path / "moved.npz", **arrays)
    assert call(*arguments, f"--dataset={tmp_path / 'moved.npz'}") == 2
    assert re.search("holds another run .data [0-9a-f]+ there, [0-9a-f]+ here", capsys.readouterr().err)
    assert sorted(workdir.iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--tensorboard"], "tensorboard"), (["--epochs=2", "--batch_size=97"], "batch_size")],
)
def test_nothing_is_deleted_before_all_is_checked(
    flags, named, finished, tiny_npz, tmp_path, capsys, monkeypatch
):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    before = {path: path.read_bytes() for path in workdir.iterdir() if path.name != ".lock"}
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    arguments = ("--method=byol", *TINY, f"--dataset={tiny_npz}", f"--workdir={workdir}", "--overwrite")
    assert call(*arguments, *flags) == 2
    assert named in capsys.readouterr().err
    assert {path: path.read_bytes() for path in workdir.iterdir() if path.name != ".lock"} == before


def test_an_interruption_before_the_old_run_is_deleted(finished, tiny_npz, tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise Interrupted(signal.SIGINT)

    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    monkeypatch.setattr(training, "load", stop)
    flags = ("--method=byol", *TINY, f"--dataset={tiny_npz}", "--overwrite")
    assert call(*flags, f"--workdir={workdir}") == 130
    assert f"nothing has changed in {workdir}" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["torch", "numpy", "JAX", "tensorfow"])
def test_another_backend_gets_one_line(backend, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert call(f"--workdir={tmp_path / 'run'}") == 2
    assert capsys.readouterr().err == (
        f"error: KERAS_BACKEND is {backend!r}, which selfsup does not support; "
        "set KERAS_BACKEND to tensorflow or jax\n"
    )
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text(json.dumps({"backend": backend}))
    assert call(f"--workdir={tmp_path / 'run'}") == 2
    assert f"{tmp_path / 'keras.json'} is {backend!r}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_home_folder_is_needed(monkeypatch):
    def homeless(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(cli.Path, "expanduser", homeless)
    cli.check_backend()


@pytest.mark.parametrize(
    "flags",
    [
        ("--method=byol", "--symmetric"),
        ("--method=byol", "--noema"),
        ("--method=sgd", "--projector_layers=3"),
        ("--method=directcopy", "--freq=2"),
    ],
    ids=lambda flags: "".join(flags),
)
def test_every_method_end_to_end(flags, tiny_npz, tmp_path, capsys, shallow):
    assert call(*flags, *TINY, f"--dataset={tiny_npz}", f"--workdir={tmp_path / 'run'}", "--epochs=1") == 0
    out = capsys.readouterr().out
    result = read_result(tmp_path / "run")
    assert 0 <= result.accuracy["linear"] <= 100
    assert f"{result.accuracy['linear']:.2f} %" in out
    assert ("linear_reused" in result.accuracy) == ("--projector_layers=3" in flags)
    assert ("byol without EMA is simsiam" in out) == ("--noema" in flags)


@pytest.mark.parametrize("method", ["simsiam", "directpred"])
def test_divergence_is_reported(method, tiny_npz, tmp_path, capsys, shallow):
    workdir = tmp_path / "run"
    flags = (f"--method={method}", *TINY, "--learning_rate=1e30")
    assert call(*flags, f"--dataset={tiny_npz}", f"--workdir={workdir}") == 3
    result = read_result(workdir)
    assert result.diverged
    assert result.accuracy["linear"] is None
    assert "learning_rate" in capsys.readouterr().err


def broken_npz(tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 not really")
    return path


def one_image(tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        (tmp_path / "folder" / split / "ant").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "folder" / split / "ant" / "0.png")
    return tmp_path / "folder"


def a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


BAD = {
    "method": (lambda t: ["--method=magic"], "directpred"),
    "experiment": (lambda t: ["--experiment=byoll"], "--list"),
    "preset": (lambda t: ["--preset=huge"], "paper, lite, long, stl10, quick"),
    "simsiam with ema": (lambda t: ["--method=simsiam", "--ema"], "byol"),
    "symmetric directpred": (lambda t: ["--symmetric"], "symmetric"),
    "symmetric directcopy": (lambda t: ["--method=directcopy", "--symmetric"], "symmetric"),
    "freq": (lambda t: ["--freq=0"], "at least 1"),
    "eps": (lambda t: ["--eps=-0.5"], "[0, 1]"),
    "rho": (lambda t: ["--rho=1"], "[0, 1)"),
    "tau": (lambda t: ["--tau=1.01"], "[0, 1]"),
    "not a number": (
        lambda t: ["--epochs=ten"],
        "epochs must be a whole number of at least 1, not 'ten'",
    ),
    "not a switch": (lambda t: ["--ema=some"], "ema must be true or false, not 'some'"),
    "a value for no": (lambda t: ["--noema=3"], "noema"),
    "no text": (lambda t: ["--eps="], "eps must be a number in [0, 1], not ''"),
    "unknown flag": (lambda t: ["--learning_rat=1"], "learning_rat"),
    "stray argument": (lambda t: ["directpred"], "directpred"),
    "flag against experiment": (lambda t: ["--experiment=byol", "--noema"], "ema is fixed to True"),
    "batch": (lambda t: ["--batch_size=97", f"--dataset={t}/tiny.npz"], "96 training images"),
    "missing npz": (lambda t: [f"--dataset={t}/none.npz"], "none.npz"),
    "broken npz": (lambda t: [f"--dataset={broken_npz(t)}"], "cannot be read"),
    "one image": (lambda t: [f"--dataset={one_image(t)}"], "larger than the 1 training images"),
    "workdir": (lambda t: [*TINY, f"--workdir={a_file(t)}/run", f"--dataset={t}/tiny.npz"], "workdir"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_status_2(case, tmp_path, tiny_npz, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.npz").write_bytes(tiny_npz.read_bytes())
    arguments, named = BAD[case]
    arguments = arguments(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert named in captured.err
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"


def test_help_answers_at_once():
    """Without the libraries that take seconds to import."""
    command = [sys.executable, "-X", "importtime", "experiments/run.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "selfsup" in imported
    assert not imported & {"keras", "tensorflow", "jax", "matplotlib", "scipy", "tensorflow_datasets"}
    for words in (
        "Method:",
        "Optimisation:",
        "Data:",
        "--[no]ema",
        "[0.03]",
        "--preset=paper|lite|long|stl10|quick",
    ):
        assert words in done.stdout


def test_help_shows_the_command_as_it_was_typed(capsys, monkeypatch):
    for name in COMMANDS:
        for typed, program in (("__main__.py", "python -m selfsup"), ("selfsup", "selfsup")):
            monkeypatch.setattr(sys, "argv", [f"/somewhere/{typed}"])
            assert main([name, "--help"]) == 0
            assert f"\n  {program} {name} " in capsys.readouterr().out
    run.main(["experiments/run.py", "--help"])
    assert "\n  python experiments/run.py --preset=quick " in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"selfsup {selfsup.__version__}\n"


def test_list_shows_published_accuracies(capsys):
    assert call("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 36
    assert any(line.startswith("directpred ") and "84.7 %" in line for line in lines)
    assert any(
        line.startswith("byol_decay_none ") and "81.34 %" in line and "raw: 80.42 %" in line for line in lines
    )
