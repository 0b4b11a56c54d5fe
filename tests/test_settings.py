"""Process-wide settings of Keras must not change a network without a word."""

import subprocess
import sys
from pathlib import Path

import keras
import pytest

import selfsup
from selfsup import InputError

ROOT = Path(selfsup.__file__).resolve().parents[1]
CODE = "import selfsup; selfsup.SiameseModel(selfsup.Config(width=2, ema=False))"


@pytest.mark.parametrize(
    ("setting", "value", "default"),
    [
        ("image_data_format", "channels_first", "channels_last"),
        ("floatx", "float64", "float32"),
        ("floatx", "bfloat16", "float32"),
        ("dtype_policy", "mixed_float16", "float32"),
        ("dtype_policy", "bfloat16", "float32"),
    ],
)
def test_another_setting_is_refused_in_one_line(setting, value, default, tmp_path):
    change = getattr(keras.config, f"set_{setting}")
    change(value)
    try:
        with pytest.raises(InputError, match=f"is {value} in this process, expected {default}"):
            selfsup.SiameseModel(selfsup.Config(width=2))
        with pytest.raises(InputError, match=f"is {value} in this process, expected {default}"):
            selfsup.run(selfsup.Config(width=2, dataset="shapes"), tmp_path / "run")
    finally:
        change(default)
    assert not (tmp_path / "run").exists()


def test_64_bits_on_jax_are_refused():
    pytest.importorskip("jax")
    environment = {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert "jax_enable_x64 is True in this process, expected False" in done.stderr
