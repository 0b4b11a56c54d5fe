"""The command that evaluates a finished run on a share of the labels."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import fake_result, write_fake_run

from selfsup.analysis import evaluation, finetune, probe
from selfsup.analysis.encoder import export_encoder, load_encoder
from selfsup.commands.evaluate import main
from selfsup.data.labels import stratified
from selfsup.data.load import load_dataset
from selfsup.utils.interrupts import Interrupted

SHORT = ("--epochs=1", "--least_steps=10")


def write_data(path, rng, size=16, counts=(60, 40)):
    """Two classes that differ in brightness, with noise."""
    arrays = {}
    for split, count in zip(("train", "test"), counts, strict=True):
        labels = np.arange(count) % 2
        noise = rng.integers(0, 200, (count, size, size, 3)) + rng.integers(0, 50, (count, 1, 1, 3))
        arrays[f"x_{split}"] = (noise + 5 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"y_{split}"] = labels
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run with an encoder of one convolution, and its dataset."""
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    data = write_data(root / "data.npz", rng)
    result = fake_result("directpred", 70.0, "quick")
    keras.utils.set_random_seed(0)
    config = {**result.config, "dataset": str(data), "image_size": 16, "precision": "float32"}
    described = load_dataset(str(data), image_size=16).describe()
    write_fake_run(root / "run", replace(result, config=config, dataset=described))
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 4, strides=4, use_bias=False)(inputs))
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))
    export_encoder(backbone, root / "run" / "encoder.keras", (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))
    return root


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(evaluation, "LEAST_STEPS", 5)
    short = replace(probe.PAPER, epochs=3), replace(probe.TIAN, epochs=4, first_rate=0.1)
    monkeypatch.setattr(evaluation, "PROBES", dict(zip(("paper", "tian"), short, strict=True)))


def call(run, *arguments):
    return main(["evaluate", f"--run={run}", *map(str, arguments)])


def read(folder):
    return json.loads((folder / "evaluation.json").read_text())


def untrained_features(run, images, seed):
    """Features by the random weights of a seed, from images that are normalised here."""
    backbone = load_encoder(run).backbone
    backbone.set_weights(finetune.random_weights(backbone, seed))
    return backbone.predict((images / 255 - [0.5, 0.4, 0.3]) / 0.25, verbose=0)


def test_evaluations_equal_their_parts(run, made, quick, capsys):
    flags = ("--labels=1,0.1", "--seeds=2", "--probe=paper,tian", "--k=3", "--temperature=0.5")
    assert call(run, *flags, *SHORT, "--from_scratch", "--from_untrained") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert (run / "evaluation.png").stat().st_size > 10_000
    record = read(run)
    frozen = {"linear", "linear_tian_last", "linear_tian_best", "knn"}
    names = frozen | {f"untrained_{name}" for name in frozen} | {"finetune", "supervised"}
    found = {(m["name"], m["labels"], m["seed"]): m for m in record["measurements"]}
    assert set(found) == {(name, share, seed) for name in names for share in (0.1, 1.0) for seed in (0, 1)}
    with np.load(made / "data.npz") as file:
        x, y, x_test, y_test = (file[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    encoder = load_encoder(run)
    train, test = encoder(x), encoder(x_test)
    untrained = [untrained_features(run, images, seed=1) for images in (x, x_test)]
    for share, images in ((0.1, 6), (1.0, 60)):
        chosen = stratified(y, share, seed=1)
        assert found["knn", share, 1]["images"] == len(chosen) == images
        parts = (train[chosen], y[chosen], test, y_test)
        assert found["knn", share, 1]["accuracy"] == pytest.approx(probe.knn(*parts, 3, 0.5), abs=1e-3)
        *_, last = probe.probe_epochs(*parts, replace(probe.PAPER, epochs=5), seed=1)
        assert found["linear", share, 1]["accuracy"] == pytest.approx(last(), abs=1e-3)
        parts = (untrained[0][chosen], y[chosen], untrained[1], y_test)
        assert found["untrained_knn", share, 1]["accuracy"] == pytest.approx(
            probe.knn(*parts, 3, 0.5), abs=1e-3
        )
        best = found["linear_tian_best", share, 1]["accuracy"]
        assert best >= found["linear_tian_last", share, 1]["accuracy"]
    assert found["finetune", 0.1, 0]["settings"]["steps"] == 10
    for trained, fresh in (("finetune", "supervised"), ("linear", "untrained_linear")):
        pairs = [
            [found[name, share, seed]["accuracy"] for share in (0.1, 1.0) for seed in (0, 1)]
            for name in (trained, fresh)
        ]
        assert pairs[0] != pairs[1], "these start from the same weights"
    for summary in record["summary"]:
        values = [found[summary["name"], summary["labels"], seed]["accuracy"] for seed in (0, 1)]
        assert summary["mean"] == pytest.approx(np.mean(values), abs=1e-3)
        assert summary["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-3)
        assert summary["seeds"] == [0, 1]
        line = next(line for line in said.out.splitlines() if line.split()[:1] == [summary["name"]])
        assert f"{summary['mean']:.2f} \N{PLUS-MINUS SIGN} {summary['std']:.2f}" in line
    (fingerprint,) = record["datasets"]
    assert {m["dataset"] for m in record["measurements"]} == {fingerprint}


def test_a_second_call_makes_only_what_is_missing(run, quick, capsys, monkeypatch):
    flags = ("--labels=0.2", "--seeds=1", *SHORT)
    assert call(run, *flags) == 0
    before, record = (run / "evaluation.json").read_bytes(), read(run)
    with monkeypatch.context() as patched:
        for module, name in ((probe, "probe_epochs"), (probe, "knn"), (finetune, "Finetuner")):
            patched.delattr(module, name)
        assert call(run, *flags) == 0
    assert "all measured before" in capsys.readouterr().out
    assert (run / "evaluation.json").read_bytes() == before
    kept = {**record, "measurements": [m for m in record["measurements"] if m["name"] != "finetune"]}
    (run / "evaluation.json").write_text(json.dumps(kept))
    assert call(run, *flags) == 0
    said = capsys.readouterr().out
    assert "3 measurements, 1 new" in said
    (old,) = (m for m in record["measurements"] if m["name"] == "finetune")
    assert read(run)["measurements"][-1]["accuracy"] == old["accuracy"]
    (line,) = (line for line in said.splitlines() if line.startswith("3/3 finetune"))
    assert f", seed 0: {old['accuracy']:.2f} %, " in line
    assert call(run, *flags, "--only=knn", "--k=7") == 0
    assert "1 measurement, 1 new" in capsys.readouterr().out
    assert call(run, "--labels=0.2", "--seeds=3", "--only=knn") == 0
    assert "3 measurements, 2 new" in capsys.readouterr().out
    assert len(read(run)["measurements"]) == 6


def test_an_interruption_keeps_what_is_measured(run, quick, capsys, monkeypatch):
    def stop(*_):
        raise Interrupted(signal.SIGINT)

    flags = ("--labels=0.2,1", "--seeds=1", "--only=linear,knn")
    with monkeypatch.context() as patched:
        patched.setattr(probe, "knn", stop)
        assert call(run, *flags) == 128 + signal.SIGINT
    said = capsys.readouterr()
    assert "the same command adds what is missing" in said.err
    assert [m["name"] for m in read(run)["measurements"]] == ["linear"]
    assert not (run / "evaluation.png").exists()
    assert call(run, *flags) == 0
    assert "4 measurements, 3 new" in capsys.readouterr().out


def test_transfer_to_images_of_another_size(run, quick, tmp_path, rng, capsys):
    other = write_data(tmp_path / "other.npz", rng, size=24, counts=(30, 20))
    out = tmp_path / "out"
    flags = (f"--dataset={other}", f"--out={out}", "--only=knn", "--labels=1", "--seeds=1")
    assert call(run, *flags) == 0
    assert "30 training and 20 test images" in capsys.readouterr().out
    record = read(out)
    assert [m["images"] for m in record["measurements"]] == [30]
    assert [data["name"] for data in record["datasets"].values()] == [str(other)]
    assert record["summary"][0]["std"] is None
    assert not (run / "evaluation.json").exists()


def test_images_that_have_changed_since_the_run_must_be_named(made, run, quick, tmp_path, capsys):
    """Otherwise test images may have been trained on, as where a tenth of a folder is held out."""
    data = tmp_path / "data.npz"
    shutil.copy(made / "data.npz", data)
    result = json.loads((run / "result.json").read_text())
    result["config"]["dataset"] = str(data)
    (run / "result.json").write_text(json.dumps(result))
    flags = ("--only=knn", "--labels=1", "--seeds=1")
    assert call(run, *flags) == 0
    write_data(data, np.random.default_rng(1))
    capsys.readouterr()
    assert call(run, *flags) == 2
    assert "data.npz does not hold the images of the run" in capsys.readouterr().err
    assert call(run, f"--dataset={data}", *flags) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--run="], "--run is missing"),
        (["--run=nowhere"], "nowhere holds no finished run"),
        (["--run=diverged"], "diverged"),
        (["--only=linear,svm"], "some of linear, knn, finetune, not 'svm'"),
        (["--only="], "only must be names"),
        (["--probe=mine"], "some of paper, tian"),
        (["--labels=0.1,2"], "not '0.1,2'"),
        (["--labels=0"], "above 0"),
        (["--labels=nan"], "above 0"),
        (["--labels=all"], "above 0"),
        (["--seeds=0"], "seeds must be a whole number of at least 1"),
        (["--temperature=0"], "temperature must be a number above 0"),
        (["--dataset=unlabelled.npz"], "has no labels"),
        (["--dataset=nowhere.npz"], "nowhere.npz"),
        (["--dataset="], "dataset"),
        (["--out="], "out is empty"),
        (["--out=nowhere/there"], "there is no folder"),
        (["--out=unlabelled.npz"], "is a file"),
        (["--out=damaged"], "is not an evaluation.json"),
        (["--width=3"], "width"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, named, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fake_run(Path("diverged"), fake_result("directpred", None))
    np.savez("unlabelled.npz", x_train=np.zeros((4, 16, 16, 3), np.uint8))
    Path("damaged").mkdir()
    Path("damaged/evaluation.json").write_text('{"schema": 1}')
    before = {path for path in tmp_path.rglob("*") if path.name != ".lock"}
    assert call(run, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error
    assert {path for path in tmp_path.rglob("*") if path.name != ".lock"} == before
