"""The command `export_npz`: writes a dataset as an .npz file, which can be read without TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfsup import cli
from selfsup.config import OPTIONS
from selfsup.data.arrays import ALL_KEYS
from selfsup.data.load import load_dataset
from selfsup.utils.files import replacing
from selfsup.utils.options import Option
from selfsup.utils.outputs import output_file, writing

ABOUT = """\
Writes a dataset as an .npz file with the arrays x_train, y_train, x_test and y_test. Without labels, only
x_train is written. Images without labels that come with labelled ones are written as x_extra.

  {program} --dataset=cifar10 --out=cifar10.npz
  {program} --dataset=stl10 --image_size=96 --out=stl10.npz"""

OWN = {
    "dataset": (OPTIONS["dataset"], "cifar10"),
    "data_dir": (OPTIONS["data_dir"], None),
    "image_size": (OPTIONS["image_size"], 32),
    "skip_broken": (OPTIONS["skip_broken"], False),
    "out": (Option("the file to write, such as cifar10.npz", str), None),
}


def execute(values: dict[str, Any], _: dict[str, Any]) -> int:
    """Executes the command with its own flags; returns the exit status."""
    out = output_file("out", values["out"], source=values["dataset"])
    data = load_dataset(
        values["dataset"],
        values["data_dir"],
        image_size=values["image_size"],
        skip_broken=values["skip_broken"],
    )
    arrays = {key: getattr(data, key) for key in ALL_KEYS}
    arrays["class_names"] = np.array(data.class_names) if data.class_names else None
    with writing("out", out), replacing(out, "wb") as file:
        np.savez(file, **{key: array for key, array in arrays.items() if array is not None})
    print(f"{out}: {data.summary}{'; ' + data.note if data.note else ''}")
    return 0


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, fields=(), required=("out",)), execute, argv)
