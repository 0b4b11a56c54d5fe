"""The command `run`: pre-trains a siamese network without negative pairs, probes it and records it."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfsup import cli
from selfsup.collapse import Collapsed
from selfsup.config import Config
from selfsup.records.results import DIVERGED, STATUS_DIVERGED, Result
from selfsup.records.workdir import CONFIG, CURVES_FIGURE, EIGENSPACE_FIGURE, check_workdir
from selfsup.reproduction.registry import EXPERIMENTS, PRESETS, make_config
from selfsup.training.advice import advice
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path
from selfsup.utils.interrupts import Interrupted
from selfsup.utils.options import Option, parse_share

STATUS_COLLAPSED = 4
CHOOSING = ("preset", "experiment", "list", "workdir")
"""The flags that choose config and folder; all others are arguments of `selfsup.run`."""

ABOUT = """\
Pre-trains a siamese network without negative pairs, then probes its backbone.

  {program} --method=directpred --ema       the paper's setting, on CIFAR-10
  {program} --preset=quick                  two to five minutes on two cores, no data needed
  {program} --preset=lite                   width 16, 10 epochs: 20 to 60 minutes on two cores
  KERAS_BACKEND=jax {program} ...           the same on JAX"""

OWN = {
    "preset": (
        Option("scale of the run; the defaults below are those of paper", str, choices=tuple(PRESETS)),
        "paper",
    ),
    "experiment": (Option("an experiment of the paper by name, see --list", str), None),
    "list": (Option("print the experiments and their published accuracies", bool), False),
    "workdir": (Option("folder of the run", str, "runs/NAME-FINGERPRINT/SEED"), None),
    "checkpoint_minutes": (Option("minutes between two checkpoints inside an epoch", float, low=0), 10.0),
    "keep_checkpoint": (Option("keep the last checkpoint (up to 500 MB) to add --epochs later", bool), True),
    "init_from": (Option("folder of another run: start from the weights in its last checkpoint", str), None),
    "overwrite": (Option("delete the run in the workdir, if there is one, and start again", bool), False),
    "devices": (Option("number of devices per machine that share each batch, or all", str), "1"),
    "machine": (Option("I/N for the I-th of N machines that share the run (JAX)", str), None),
    "coordinator": (Option("HOST:PORT of machine 1, as the others reach it", str), None),
    "stop_on_collapse": (Option("stop, with exit status 4, when the run has collapsed", bool), False),
    "tensorboard": (Option("also write the scalars for TensorBoard, in the workdir", bool), False),
}


def list_experiments() -> None:
    """Prints all experiments: name, published accuracies in percent, and source."""
    for name, experiment in EXPERIMENTS.items():
        published = [x for x in (experiment.published, experiment.published_reused) if x is not None]
        text, source = " / ".join(f"{x:g} %" for x in published), experiment.source
        if experiment.differing_raw:
            source += f" (raw: {experiment.differing_raw.mean:g} %)"
        if not published and experiment.stl10:
            text, source = f"{experiment.stl10.mean:g} % (STL-10)", experiment.stl10.source
        print(f"{name:36}{text:17}{source}")


def execute(values: dict[str, Any], overrides: dict[str, Any]) -> int:
    """Executes the command with its own flags and the given `Config` fields; returns the exit status."""
    if values["list"]:
        list_experiments()
        return 0
    config = make_config(values["preset"], values["experiment"], **overrides)
    if overrides.get("method") == "byol" and config.resolved.method == "simsiam":
        print("note: byol without EMA is simsiam")
    train = import_train()
    given = values["workdir"]
    workdir = config.default_workdir if given is None else user_path("workdir", given)
    options = {name: values[name] for name in OWN if name not in CHOOSING}
    try:
        result = train.run(config, workdir, **options)
    except Interrupted as stop:
        kept = " without --overwrite" if values["overwrite"] else ""
        again = f"the same command{kept} resumes from the last checkpoint in {workdir}"
        if values["overwrite"] and not holds(workdir, config):
            again = f"nothing has changed in {workdir}"
        print(f"\n{stop}; {again}", file=sys.stderr)
        return stop.status
    except Collapsed as stop:
        kept = "--overwrite and --stop_on_collapse" if values["overwrite"] else "--stop_on_collapse"
        again = f"the same command without {kept} continues from the checkpoint in {workdir}"
        print(f"error: {stop}; {again}", file=sys.stderr)
        return STATUS_COLLAPSED
    if values["machine"] is not None and parse_share("machine", values["machine"])[0] > 0:
        return STATUS_DIVERGED if result.diverged else 0  # machine 1 reports the result
    if result.diverged:
        print(f"error: {DIVERGED}; lower --learning_rate. See {workdir}", file=sys.stderr)
        return STATUS_DIVERGED
    report(config, result)
    print(f"{result.seconds['total']:.0f} s in all; records and encoder in {workdir}")
    print(f"figures: {workdir / EIGENSPACE_FIGURE} and {workdir / CURVES_FIGURE}")
    return 0


def holds(workdir: Path, config: Config) -> bool:
    """Whether a folder holds the run of a config."""
    try:
        check_workdir(workdir, config)
    except InputError:
        return False
    return (workdir / CONFIG).exists()


def import_train() -> Any:
    """Imports `selfsup.training.run`, or raises an `InputError` that says which package to install."""
    try:
        with cli.silent_stderr():
            from selfsup.training import run as train

            if find_spec("tensorflow"):  # Keras imports it later on JAX, too, and it prints notes
                import tensorflow  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed; pip install '.[cpu]' or '.[gpu]', "
            "or set KERAS_BACKEND=jax and pip install '.[jax]'"
        ) from None
    return train


def report(config: Config, result: Result) -> None:
    """Prints the test accuracies in percent, or why there are none, and whether the run collapsed."""
    for reason in dict.fromkeys(result.skipped.values()):
        print(f"no {' and '.join(result.skipped)}: {reason}")
    if result.accuracy:
        print(f"test accuracy of {config.title} on {config.dataset}:")
    start = "initial weights" if "init_from" in result.swapped else "untrained network"
    names = {
        "untrained_linear": f"linear probe, {start}",
        "linear": "linear probe, last epoch",
        "linear_reused": "linear probe on the reused projector block",
        "knn": "weighted k-NN",
    }
    for key, name in names.items():
        if (accuracy := result.accuracy.get(key)) is not None:
            print(f"  {accuracy:6.2f} %  {name}")
    if result.collapsed:
        print("  the representation has COLLAPSED")
        print(*advice(config, result.monitor), sep="\n")


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN), execute, argv)
