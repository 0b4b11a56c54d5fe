"""One run: pre-train a siamese network without negative pairs, probe it, record it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfsup import cli
from selfsup.config import Config
from selfsup.records.results import DIVERGED
from selfsup.records.workdir import CURVES_FIGURE, EIGENSPACE_FIGURE
from selfsup.reproduction.registry import EXPERIMENTS, PRESETS, make_config
from selfsup.utils.errors import InputError
from selfsup.utils.interrupts import Interrupted
from selfsup.utils.options import Option, parse_share

STATUS_DIVERGED = 3
RUN_OPTIONS = ("tensorboard", "checkpoint_minutes", "overwrite", "devices", "machine", "coordinator")

ABOUT = """\
Pre-trains a siamese network without negative pairs, then probes its encoder.

  python experiments/run.py --method=directpred --ema       the report's setting, on CIFAR-10
  python experiments/run.py --preset=quick                  two minutes on two cores, no data needed
  KERAS_BACKEND=jax python experiments/run.py ...           the same on JAX"""

OWN = {
    "preset": (Option("scale, which other flags refine", str, choices=tuple(PRESETS)), "paper"),
    "experiment": (Option("a cell of the report's tables, by name", str), None),
    "list": (Option("print the experiments with their published accuracy", bool), False),
    "workdir": (Option("folder of the run", str, "runs/NAME-FINGERPRINT/SEED"), None),
    "checkpoint_minutes": (Option("minutes between two checkpoints in an epoch", float, low=0), 10.0),
    "overwrite": (Option("delete what the workdir holds of a run, and start again", bool), False),
    "devices": (Option("devices that share the batches: all, or a number (of each machine)", str), "1"),
    "machine": (Option("I/N: the I-th of N machines that make the run together (JAX)", str), None),
    "coordinator": (Option("HOST:PORT of the first machine, as the others reach it", str), None),
    "tensorboard": (Option("write the scalars for TensorBoard as well, in the workdir", bool), False),
}


def list_experiments() -> None:
    """Prints the registry: name, published accuracy in percent, source."""
    for name, experiment in EXPERIMENTS.items():
        figures = [f for f in (experiment.published, experiment.published_reused) if f is not None]
        print(f"{name:36}{' / '.join(f'{f:g} %' for f in figures) or '-':17}{experiment.source}")


def execute(values: dict[str, Any], overrides: dict[str, Any]) -> int:
    """Runs what the flags say; returns the exit status."""
    if values["list"]:
        list_experiments()
        return 0
    config = make_config(values["preset"], values["experiment"], **overrides)
    if overrides.get("method") == "byol" and config.resolved.method == "simsiam":
        print("note: byol without EMA is simsiam")
    train = import_train()
    workdir = Path(values["workdir"] or config.default_workdir)
    chosen = {name: values[name] for name in RUN_OPTIONS}
    try:
        result = train.run(config, workdir, **chosen)
    except Interrupted as stop:
        print(f"\n{stop}; the same command resumes from the last checkpoint in {workdir}", file=sys.stderr)
        return stop.status
    if parse_share("machine", values["machine"] or "1/1")[0] > 0:
        return STATUS_DIVERGED if result.diverged else 0  # the first machine has the records
    if result.diverged:
        print(f"error: {DIVERGED}; lower --learning_rate. See {workdir}", file=sys.stderr)
        return STATUS_DIVERGED
    report(config, result.accuracy, result.collapsed)
    print(f"{result.seconds['total']:.0f} s in all; records and encoder in {workdir}")
    print(f"figures: {workdir / EIGENSPACE_FIGURE} and {workdir / CURVES_FIGURE}")
    return 0


def import_train() -> Any:
    """`selfsup.training.run`, with one clear line where Keras has no backend."""
    try:
        with cli.silent_stderr():
            from selfsup.training import run as train
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed; pip install '.[cpu]' or '.[gpu]', "
            "or set KERAS_BACKEND=jax and pip install '.[jax]'"
        ) from None
    return train


def report(config: Config, accuracy: dict[str, float], collapsed: bool) -> None:
    """Prints the accuracies."""
    print(f"test accuracy of {config.title} on {config.dataset}:")
    names = {
        "untrained_linear": "linear probe, untrained network",
        "linear": "linear probe, last epoch",
        "linear_reused": "linear probe on the re-used projector block",
        "knn": "weighted k-NN",
    }
    for key, name in names.items():
        if key in accuracy:
            print(f"  {accuracy[key]:6.2f} %  {name}")
    if collapsed:
        print("  the representation has COLLAPSED")


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN), execute, argv)
