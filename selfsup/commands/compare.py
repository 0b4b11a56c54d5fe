"""The command `compare`: writes a page that compares runs side by side."""

from collections.abc import Sequence
from typing import Any

from selfsup import cli
from selfsup.utils.options import Option
from selfsup.utils.outputs import output_file, writing

ABOUT = """\
Writes a page that compares two or more finished runs, given by their folders: accuracies, settings that
differ, training curves, and eigenspaces with a slider over the epochs. It opens from disk, without a network.

  {program} runs/directpred-9b12bcb8/0 runs/byol-61f3f8ff/0 --out=page.html"""

OWN = {"out": (Option("the .html file to write", str), "comparison.html")}


def execute(values: dict[str, Any], _: dict[str, Any]) -> int:
    """Executes the command with its own flags and the folders of runs; returns the exit status."""
    from selfsup.analysis.comparison import read_runs, write_comparison

    out = output_file("out", values["out"], (".html", ".htm"))
    runs = read_runs(values["arguments"])
    with writing("out", out):
        write_comparison(out, runs)
    print(f"{out}: {len(runs)} runs; open it in a browser")
    return 0


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, fields=(), positional=True), execute, argv)
