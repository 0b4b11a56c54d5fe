"""Shared fixtures: random arrays, a tiny dataset on disk, and records of runs that never ran."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from damage import SEED
from selfsup.records.recordings import LOG_FIELDS, Eigenspaces
from selfsup.records.results import Result, write_json
from selfsup.reproduction.registry import make_config
from selfsup.utils import clock
from shallow import SHALLOW

LONGEST = (
    "test_reproduce", "test_parity", "test_run", "test_machines", "test_resume", "test_model",
    "test_parallel",
)  # fmt: skip
"""Files of tests that start first, so that no worker is left with one of them at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """Lets pytest-xdist keep the order of `pytest_collection_modifyitems`."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests have counted by `record_property`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties if report.when == "call" else ():
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _printed_seed(request: pytest.FixtureRequest) -> None:
    """Prints the seed of a reliability test, which pytest shows if the test fails."""
    if request.node.get_closest_marker("reliability"):
        print(f"RELIABILITY_SEED={SEED}")


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time stands still for `selfsup.utils.clock`, and moves only by calls of this function."""
    now = [0.0]

    def move(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return move


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of two residual blocks, for tests of what does not depend on depth."""
    from selfsup.networks import resnet

    for name, value in SHALLOW.items():
        monkeypatch.setattr(resnet, name, value)


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[Path, tuple[int, int]], None]:
    """Opens a page in Chromium with a window of a width and height; checks that its console stays empty."""
    browsers = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    if (browser := next(filter(None, browsers), None)) is None:
        pytest.skip("no Chromium here")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]

    def open_page(page: Path, size: tuple[int, int]) -> None:
        picture = tmp_path / "page.png"
        command = [browser, *flags, f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}"]
        done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
        assert picture.stat().st_size > 20_000
        assert "CONSOLE" not in done.stderr

    return open_page


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 training and 32 test images of two classes that differ in brightness."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 96), ("test", 32)):
        labels = np.arange(count) % 2
        noise = rng.integers(0, 100, (count, 32, 32, 3))
        arrays[f"x_{split}"] = (noise + 100 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"y_{split}"] = labels
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, **arrays)
    return path


def fake_result(
    experiment: str, accuracy: float | None, preset: str = "paper", seed: int = 0, **changed: object
) -> Result:
    """A result as a run of an experiment would leave it; None: it diverged."""
    config = make_config(preset, experiment, seed=seed)
    accuracies = {"linear": accuracy, "knn": accuracy}
    if config.projector_layers > 2:
        accuracies["linear_reused"] = None if accuracy is None else accuracy - 2
    if config.probe_untrained:
        accuracies["untrained_linear"] = 30.0
    sizes = {"train": 50_000, "test": 10_000, "classes": 10}
    fields = {
        "config": config.to_dict(),
        "accuracy": accuracies,
        "collapsed": False,
        "diverged": accuracy is None,
        "monitor": {"loss": -1.5, "embedding_std": 0.8, "effective_rank": 8.0, "asymmetry": 0.1},
        "seconds": {"load": 1.0, "train": 50.0, "probe": 9.0, "total": 60.0},
        "images_per_second": 100.0,
        "parameters": 1000,
        "environment": {
            "backend": "tensorflow",
            "device": "a device",
            "precision": "float32",
            "python": "3.11.7",
            "system": "Linux",
            "versions": {"keras": "3.15.1"},
        },
        "dataset": {
            "name": config.dataset, **sizes, "mean": [0.5] * 3, "std": [0.2] * 3,
            "fingerprint": "0" * 16, "note": "",
        },
        "weights": "0" * 64,
        "commit": "c0ffee",
    }  # fmt: skip
    return Result(**{**fields, **changed})


def fake_recording(seed: int = 0, epochs: Sequence[int] = (1, 2, 3), dims: int = 16) -> Eigenspaces:
    """Eigenspaces of a random F that loses rank and of a W_p that aligns with it."""
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    noise = rng.normal(size=(dims, dims)) / dims
    recorded = Eigenspaces.measure(0, noise)
    for epoch in epochs:
        s = np.logspace(-1 - epoch, 1, dims)
        recorded += Eigenspaces.measure(
            epoch, u @ np.diag(np.sqrt(s)) @ u.T + noise / epoch, u @ np.diag(s) @ u.T
        )
    return recorded


def write_fake_run(workdir: Path, result: Result) -> None:
    """The records of a finished run, as `selfsup.run` and the grid read them."""
    workdir.mkdir(parents=True)
    write_json(workdir / "config.json", result.config)
    epochs = range(1, result.config["epochs"] + 1)
    evaluated = "40.5,45.5,20.5,15.5,0.3,-1.5"
    rows = [f"{epoch},{-2 + 1 / epoch},0.8,{4 + epoch},0.1,{evaluated}" for epoch in epochs]
    (workdir / "log.csv").write_text("\n".join([",".join(LOG_FIELDS), *rows]) + "\n")
    fake_recording(result.config["seed"]).write(workdir)
    result.write(workdir)
