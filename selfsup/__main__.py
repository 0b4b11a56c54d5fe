"""The console command `selfsup`, also `python -m selfsup`: a sub-command per module of `selfsup.commands`."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from selfsup import __version__
from selfsup.utils.streams import discard_unwritable, tolerant_output

COMMANDS = {
    "run": "pre-train, probe and record one run",
    "reproduce": "run the experiments behind the paper's tables and figures, then write the report",
    "evaluate": "evaluate a run by probe, k-NN and fine-tuning on some or all of the labels",
    "compare": "write a page that compares runs side by side",
    "embed": "write the features of images, their neighbours, and a page with a map",
    "export": "write the encoder of a run as a Keras, SavedModel, ONNX or TFLite file",
    "export_npz": "write a dataset as an .npz file",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `selfsup COMMAND --flags`; returns the exit status."""
    with tolerant_output():
        status = _main(argv)
    discard_unwritable()
    return status


def _main(argv: Sequence[str] | None) -> int:
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    program = "python -m selfsup" if Path(sys.argv[0]).name == "__main__.py" else "selfsup"
    if name in ("--help", "-h", "help"):
        print(f"usage: {program} COMMAND --flags; `{program} COMMAND --help` lists them\n")
        for command, summary in COMMANDS.items():
            print(f"  {command:12} {summary}")
        return 0
    if name == "--version":
        print(f"selfsup {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"error: no command {name!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"selfsup.commands.{name}").main([f"{program} {name}", *rest])


if __name__ == "__main__":
    sys.exit(main())
