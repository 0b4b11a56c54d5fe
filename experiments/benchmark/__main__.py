"""Measures the speed of training steps, their phases and the probe, against PyTorch and stock Keras."""

import dataclasses
import json
import statistics
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.benchmark.processes import Worker
from selfsup import cli
from selfsup.config import Config
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing
from selfsup.utils.options import Option
from selfsup.utils.outputs import output_file

REFERENCES = {
    "torch": ("torch", "torch_float32"),
    "stock": ("stock",),
    "noema": ("noema",),
    "newton_schulz": ("newton_schulz",),
    "host": ("host",),
}

ABOUT = """\
Times whole training steps, including augmentation, target and predictor rule, after a warm-up. Each variant
runs in its own process. The variants take turns, so that other load on the machine affects all of them.

  python experiments/benchmark --width=64 --compare=torch,stock
  KERAS_BACKEND=jax python experiments/benchmark --solver=newton_schulz"""

OWN = {
    "compare": (
        Option(
            "other variants, separated by commas: torch, stock (Keras' layers), noema, newton_schulz, host "
            "(images not on the device)",
            str,
        ),
        None,
    ),
    "rounds": (Option("rounds, in which each variant takes one turn; medians are printed", int, low=1), 5),
    "steps": (Option("training steps per turn", int, low=1), 8),
    "probe": (Option("also time the probe of 50,000 training and 10,000 test images", bool), False),
    "out": (Option("JSON file of the results", str), None),
}
FIELDS = (
    "method",
    "ema",
    "symmetric",
    "freq",
    "solver",
    "width",
    "image_size",
    "stem",
    "batch_size",
    "precision",
)


def execute(values: dict[str, Any], overrides: dict[str, Any]) -> int:
    """Executes the command with its own flags and the given `Config` fields; returns the exit status."""
    config = Config(**overrides)
    chosen = [] if values["compare"] is None else cli.split_names("compare", values["compare"])
    out = None if values["out"] is None else output_file("out", values["out"])
    if unknown := set(chosen) - set(REFERENCES):
        raise InputError(f"compare must name {' or '.join(REFERENCES)}, not {unknown.pop()!r}")
    check_comparable(config, chosen)
    kinds = ["ours", *(kind for name in chosen for kind in REFERENCES[name])]
    spec = {"steps": values["steps"], "config": config.to_dict()}
    workers = [Worker({**spec, "kind": kind}) for kind in kinds]
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(values["rounds"]):
        for worker in workers:
            seconds[worker.spec["kind"]].append(worker.ask("step"))
    result = {
        "config": {name: config.to_dict()[name] for name in FIELDS},
        "rounds": values["rounds"],
        "seconds_per_step": seconds,
        "memory_mib": {worker.spec["kind"]: worker.ask("memory") for worker in workers},
        "parts_seconds": workers[0].ask("phases"),
        "probe_seconds": workers[0].ask("probe") if values["probe"] else {},
        **workers[0].ask("environment"),
    }
    for worker in workers:
        worker.close()
    show(result, config.batch_size)
    if out:
        with replacing(out) as file:
            json.dump(result, file, indent=1)
    return 0


def check_comparable(config: Config, chosen: Sequence[str]) -> None:
    """Raises an `InputError` if a variant is not available, or does not support the config."""
    if "torch" in chosen:
        if find_spec("torch") is None:
            raise InputError("compare=torch needs PyTorch; pip install torch")
        if (config.method, config.symmetric, config.resolved.freq) != ("directpred", False, 1):
            raise InputError(
                "compare=torch times DirectPred with freq 1; leave out --method, --symmetric and --freq"
            )
    if "newton_schulz" in chosen:
        dataclasses.replace(config, solver="newton_schulz")  # raises an error if the method has no solver


def show(result: dict[str, Any], batch_size: int) -> None:
    """Prints one row per variant, then one per phase of our step."""
    ours = statistics.median(result["seconds_per_step"]["ours"])
    print(f"{', '.join(f'{name} {value}' for name, value in result['config'].items() if value is not None)}")
    print(f"{result['device']}; {result['versions']}; median of {result['rounds']} rounds (least to most)")
    print(f"{'':16}{'images/s':>10}{'ms a step':>11}{'':16}{'ours is':>9}{'peak MiB':>10}")
    for kind, seconds in result["seconds_per_step"].items():
        middle, low, high = (f(seconds) for f in (statistics.median, min, max))
        spread = f"({1000 * low:.0f} to {1000 * high:.0f})"
        memory = result["memory_mib"][kind] or "-"
        ratio = f"{middle / ours:.2f} x" if kind != "ours" else ""
        print(f"{kind:16}{batch_size / middle:10.1f}{1000 * middle:11.1f} {spread:15}{ratio:>9}{memory:>10}")
    for name, seconds in result["parts_seconds"].items():
        print(f"  {name:24}{1000 * seconds:8.2f} ms {seconds / ours:7.1%} of our step")
    for name, seconds in result["probe_seconds"].items():
        print(f"  probe: {name:26}{seconds:8.2f} s")


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, FIELDS), execute, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
