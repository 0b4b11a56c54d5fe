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

STEPS, BATCH = 3, 16
CONFIGS = {
    "directpred": {"method": "directpred"},
    "byol": {"method": "byol", "symmetric": True, "predictor_learning_rate": 0.1},
    "freq": {"method": "directpred", "ema": False, "freq": 2, "projector_layers": 3},
}


def steps(backend, fields, source, target):
    config = json.dumps({**fields, "width": 4, "precision": "float32"})
    root = Path(__file__).resolve().parent
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(root.parent)}
    command = [sys.executable, str(root / "parity_steps.py"), config, str(source), str(target)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return dict(np.load(target))


def relative(a, b):
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_backends_agree(name, rng, tmp_path):
    views = {f"view{n}": rng.normal(size=(STEPS, BATCH, 32, 32, 3)).astype(np.float32) for n in (1, 2)}
    np.savez(tmp_path / "views.npz", **views)
    ours = steps("tensorflow", CONFIGS[name], tmp_path / "views.npz", tmp_path / "tensorflow.npz")
    start = {key: value for key, value in ours.items() if key == "start" or key[1:].isdigit()}
    np.savez(tmp_path / "start.npz", **views, **start)
    theirs = steps("jax", CONFIGS[name], tmp_path / "start.npz", tmp_path / "jax.npz")
    np.testing.assert_allclose(theirs["losses"], ours["losses"], rtol=1e-5)
    assert relative(theirs["end:siamese/correlation"], ours["end:siamese/correlation"]) < 1e-5
    np.testing.assert_allclose(theirs["predictor"], ours["predictor"], atol=1e-3)
    checked = 0
    for key, value in ours.items():
        if key.startswith("end:") and "predictor" not in key:
            assert relative(theirs[key], value) < 1e-4, key
            checked += 1
    assert checked > 60
