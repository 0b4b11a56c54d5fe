"""TensorFlow and JAX take the same steps: same weights, same views, float32."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("jax")

STEPS, BATCH = 23, 64
RATE = 2e-4
CONFIGS = {
    "directpred": {"method": "directpred"},
    "byol": {"method": "byol", "symmetric": True, "predictor_learning_rate": 6e-4},
    "freq": {"method": "directpred", "ema": False, "freq": 2, "projector_layers": 3},
}


def steps(backend, *folders):
    """Takes the steps of all configs in one process; the arrays by config."""
    common = {"width": 4, "precision": "float32", "learning_rate": RATE}
    configs = json.dumps({name: {**fields, **common} for name, fields in CONFIGS.items()})
    root = Path(__file__).resolve().parent
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(root.parent)}
    command = [sys.executable, str(root / "parity_steps.py"), configs, *map(str, folders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: dict(np.load(folders[1] / f"{name}.npz")) for name in CONFIGS}


def images(rng):
    """Views [S, B, 32, 32, 3] that differ from image to image, as photographs do and noise does not."""
    coarse = rng.normal(size=(STEPS, BATCH, 4, 4, 3)).astype(np.float32)
    return coarse.repeat(8, axis=2).repeat(8, axis=3)


def relative(a, b):
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12)


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """What came of the steps on TensorFlow, and on JAX from the same weights."""
    root, rng = tmp_path_factory.mktemp("parity"), np.random.default_rng(0)
    first = images(rng)
    np.savez(root / "views.npz", view1=first, view2=first + 0.3 * images(rng))
    for backend in ("tensorflow", "jax"):
        (root / backend).mkdir()
    ours = steps("tensorflow", root / "views.npz", root / "tensorflow")
    return ours, steps("jax", root / "views.npz", root / "jax", root / "tensorflow")


@pytest.mark.parametrize("name", CONFIGS)
def test_backends_agree(name, taken):
    ours, theirs = (found[name] for found in taken)
    np.testing.assert_allclose(theirs["losses"], ours["losses"], rtol=1e-5)
    assert relative(theirs["end:siamese/correlation"], ours["end:siamese/correlation"]) < 1e-5
    np.testing.assert_allclose(theirs["predictor"], ours["predictor"], atol=1e-3)
    weights = [key for key in ours if key.startswith("end:") and "predictor" not in key]
    assert len(weights) > 60
    for n, key in enumerate(k for k in ours if k.startswith("end:")):
        if key.startswith("end:backbone") and key.endswith("kernel"):
            update, expected = (end[key] - ours[f"w{n}"] for end in (theirs, ours))
            assert relative(update, expected) < 0.01, key
    for key in weights:
        if key.endswith(("/hidden1/bias", "/hidden2/bias")):
            # Batch norm takes such a bias out again: its gradient is nothing but rounding.
            np.testing.assert_allclose(theirs[key], ours[key], atol=1e-6, err_msg=key)
        else:
            assert relative(theirs[key], ours[key]) < 1e-4, key
