"""Two devices take the same steps as one: all variables, on both backends, in float64."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from selfsup.backend.devices import local_devices, on_gpu
from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.config import Config
from selfsup.records import checkpoints
from selfsup.records.results import read_result
from selfsup.utils.errors import InputError

TESTS = Path(__file__).resolve().parent
STEPS = {
    "directpred": '{"method": "directpred"}',
    "byol": '{"method": "byol", "symmetric": true, "predictor_learning_rate": 0.06}',
    "deep": '{"method": "directcopy", "ema": false, "freq": 2, "projector_layers": 3}',
}
RUN = (
    "--width=4", "--epochs=3", "--probe_epochs=2", "--batch_size=8", "--precision=float32",
    "--learning_rate=0.001",
)  # fmt: skip


def start(script, *arguments, backend=None):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend or keras.backend.backend(),
        "PYTHONPATH": str(TESTS.parent),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return subprocess.Popen(
        [sys.executable, str(TESTS / script), *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error[-2000:]
    return out


def assert_same(ours, theirs, tolerance):
    assert len(ours) > 70
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        distance = np.linalg.norm(ours[name] - expected)
        if "/bias" in name or "_bias_" in name:  # batch norm cancels it: its gradient is rounding noise
            assert distance < 1e-6, name
        else:
            assert distance <= tolerance * np.linalg.norm(expected), name


@pytest.mark.parametrize(
    ("backend", "name"),
    [("tensorflow", "directpred"), ("tensorflow", "byol"), ("tensorflow", "deep"), ("jax", "directpred")],
)
def test_two_devices_take_the_steps_of_one(backend, name, tmp_path):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    finish(start("device_steps.py", STEPS[name], tmp_path / "steps", backend=backend))
    one, two = (dict(np.load(tmp_path / f"steps-{count}.npz")) for count in (1, 2))
    assert_same(two, one, 1e-5)


@pytest.mark.reliability
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_may_resume_with_another_number_of_devices(backend, tiny_npz, tmp_path):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")

    def run(name, devices):
        flags = [f"--devices={devices}", f"--workdir={tmp_path / name}", f"--dataset={tiny_npz}", *RUN]
        return start("shallow_run.py", devices, *flags, backend=backend)

    finish(run("one", 1))
    assert "2 x CPU" in finish(run("two", 2))
    stopped = run("both", 2)
    while not ((tmp_path / "both").is_dir() and checkpoints.found(tmp_path / "both")):
        assert stopped.poll() is None
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    error = stopped.communicate(timeout=600)[1]
    assert stopped.returncode == 143, error[-2000:]
    assert "resumed  after step" in finish(run("both", 1))
    expected = read_result(tmp_path / "one")
    for name in ("two", "both"):
        found = read_result(tmp_path / name)
        for metric in ("loss", "embedding_std", "effective_rank", "asymmetry"):
            assert found.monitor[metric] == pytest.approx(expected.monitor[metric], rel=1e-3, abs=1e-6)
        assert found.monitor["online_linear"] == pytest.approx(expected.monitor["online_linear"], abs=4)
        assert (found.monitor["knn"] is None) == (name == "two")  # only runs on one device are evaluated
        assert found.accuracy == pytest.approx(expected.accuracy, abs=7)  # two of 32 images


def test_batch_norm_over_the_batch_and_over_the_rows_of_each_device():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX normalises over the whole batch")
    finish(start("device_layers.py"))


def devices(size):
    found = Devices(1, Machines())
    found.size = size
    return found


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "", "1.5"])
def test_an_invalid_number_of_devices(wanted):
    with pytest.raises(InputError, match="all or a whole number"):
        Devices(wanted, Machines())


def test_too_many_devices():
    with pytest.raises(InputError, match=rf"64 requested, but only {len(local_devices())} available \("):
        Devices(64, Machines())


def test_all_devices_of_a_cpu_are_one():
    if on_gpu():
        pytest.skip("on a GPU")
    assert Devices("all", Machines()).size == 1


def test_batches_are_shared_equally():
    devices(2).check(Config(batch_size=128))
    with pytest.raises(InputError, match="batch_size 128 cannot be shared equally by 3 devices"):
        devices(3).check(Config(batch_size=128))


def test_bn_groups_must_equal_the_number_of_devices():
    with pytest.raises(InputError, match="bn_groups"):
        devices(2).check(Config(bn_groups=4))
    assert Config().fingerprint == Config(bn_groups=1).fingerprint != Config(bn_groups=2).fingerprint
