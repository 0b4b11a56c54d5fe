"""The examples of docstrings and of the README run."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import selfsup
from selfsup.networks import resnet

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(selfsup.__path__, "selfsup.")
    if not module.ispkg and not module.name.endswith("__main__")
)


def test_examples_of_docstrings(monkeypatch):
    monkeypatch.setattr(resnet, "BLOCKS_PER_STAGE", 1)  # for speed
    keras.utils.set_random_seed(0)
    tried = 0
    for name in MODULES:
        found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
        assert found.failed == 0, name
        tried += found.attempted
    assert tried > 20


def test_the_readmes_python(tmp_path):
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 3, "the sections From Python, and Extend it with two"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, check=True, env=environment)


def test_a_module_is_one_idea():
    lines = {
        name: len((ROOT / (name.replace(".", "/") + ".py")).read_text().splitlines()) for name in MODULES
    }
    assert {name: count for name, count in lines.items() if count >= 260} == {}


def test_imports_point_downwards():
    pytest.importorskip("importlinter")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
