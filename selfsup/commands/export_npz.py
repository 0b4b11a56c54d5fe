"""The command `export_npz`: writes a dataset as an .npz file, which can be read without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfsup import cli
from selfsup.config import OPTIONS
from selfsup.data.datasets import KEYS, load_dataset
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing
from selfsup.utils.options import Option

ABOUT = """\
Writes a dataset as an .npz file with the arrays x_train, y_train, x_test and y_test.

  python experiments/export_npz.py --dataset=cifar10 --out=cifar10.npz"""

OWN = {
    "dataset": (OPTIONS["dataset"], "cifar10"),
    "data_dir": (OPTIONS["data_dir"], None),
    "out": (Option("the file to write", str), "cifar10.npz"),
}


def execute(values: dict[str, Any], _: dict[str, Any]) -> int:
    """Executes the command with its own flags; returns the exit status."""
    out = Path(values["out"])
    data = load_dataset(values["dataset"], values["data_dir"])
    try:
        with replacing(out, "wb") as file:
            np.savez(file, **{key: getattr(data, key) for key in (*KEYS, "note")})
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    print(f"{out}: {len(data.x_train)} training and {len(data.x_test)} test images, {data.classes} classes")
    return 0


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, fields=()), execute, argv)
