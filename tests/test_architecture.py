"""Which packages may import which libraries, checked in fresh processes."""

import ast
import subprocess
import sys
from pathlib import Path

import selfsup

ROOT = Path(selfsup.__file__).resolve().parent.parent
CODE = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(*sorted({"keras", "tensorflow", "jax", "torch"} & set(sys.modules)))
"""


def test_packages_without_keras_and_backends():
    """Not by way of other libraries either, which import-linter does not follow."""
    command = [sys.executable, "-c", CODE, "selfsup.utils", "selfsup.records", "selfsup.data"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_type_checkers_see_every_public_name():
    tree = ast.parse(Path(selfsup.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: statement.module for statement in block.body for alias in statement.names}
    moved = {n: h.rpartition(".")[0] for n, h in selfsup._MODULES.items() if n != h}
    assert seen == {name: f"selfsup.{home}" for name, home in {**selfsup._HOME, **moved}.items()}
