"""How the numbers of a report were made, and whether at the paper's scale."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from selfsup.config import ADDED, Config
from selfsup.records.results import Result
from selfsup.reproduction.registry import PRESETS, SECTIONS, make_config, sections_of
from selfsup.utils.errors import InputError
from selfsup.utils.text import counted

PAPER_IMAGES = {"train": 50_000, "test": 10_000, "classes": 10}
_WHERE = ("dataset", "precision")
"""Settings that may differ between runs of the same scale."""


def preset_of(result: Result) -> str | None:
    """Returns the preset that matches the settings of a run; None if none does or its method is unknown."""
    try:
        config = Config(**result.config)
    except InputError:
        return None
    found = config.to_dict()
    for preset in PRESETS:
        wanted = make_config(preset, config.experiment).settings
        if all(found[name] == value for name, value in wanted.items() if name not in _WHERE):
            return preset
    return None


def scale_of(result: Result) -> tuple[Any, ...]:
    """Returns what two runs must share to be compared: preset, data, and the sizes of network and run."""
    config = {**ADDED, **result.config}
    sizes = (config[name] for name in ("width", "epochs", "batch_size", "image_size"))
    return (preset_of(result), result.dataset["fingerprint"], *sizes)


def is_paper_scale(results: Iterable[Result]) -> bool:
    """Whether all runs (at least one) are the paper's, to their last epoch, on data of CIFAR-10's size."""
    results = list(results)
    return bool(results) and all(
        preset_of(result) == "paper"
        and not result.swapped
        and result.epochs == result.config["epochs"]
        and all(result.dataset[name] == size for name, size in PAPER_IMAGES.items())
        for result in results
    )


def dataset_of(results: Iterable[Result], preset: str) -> str:
    """Returns the dataset whose published accuracies are shown beside runs: "stl10" or "cifar10".

    Args:
        results: the runs. It is "stl10" if all have the preset of that name or data whose name begins so.
        preset: the preset of the planned runs, which decides if there are no others.
    """
    found = [
        preset_of(result) == "stl10" or Path(result.dataset["name"]).name.startswith("stl10")
        for result in results
    ]
    if not found:
        return SECTIONS[sections_of(preset)[0]].dataset
    return "stl10" if all(found) else "cifar10"


def describe_scale(results: Iterable[Result]) -> str:
    """Describes preset, width, epochs, batch size and data as text."""
    return "; ".join(
        _values(results, fact)
        for fact in (
            lambda r: f"preset {preset_of(r) or 'none (custom settings)'}",
            lambda r: f"width {r.config['width']}",
            lambda r: counted(r.config["epochs"], "epoch"),
            lambda r: f"batch {r.config['batch_size']}",
            _describe_data,
        )
    )


def describe_origin(results: Iterable[Result]) -> str:
    """Describes hardware, versions and commit as text."""
    return "; ".join(
        _values(results, fact)
        for fact in (
            lambda r: r.environment["device"],
            lambda r: f"{r.environment['backend']}, {r.environment['precision']}",
            lambda r: ", ".join(f"{name} {version}" for name, version in _versions(r).items()),
            lambda r: f"commit {r.commit or 'unknown'}",
        )
    )


def _describe_data(result: Result) -> str:
    data = result.dataset
    note = f", {data['note']}" if data["note"] else ""
    return f"{data['name']} ({data['train']:,} training and {data['test']:,} test images{note})"


def _versions(result: Result) -> dict[str, str]:
    shown = ("keras", "tensorflow", "tensorflow-cpu", "jax")
    versions = result.environment["versions"]
    return {name: versions[name] for name in shown if name in versions} | {
        "python": result.environment["python"]
    }


def _values(results: Iterable[Result], fact: Callable[[Result], Any]) -> str:
    """Lists the distinct values of a fact over the runs."""
    return " or ".join(dict.fromkeys(str(fact(result)) for result in results))
