"""An HTML page that shows runs beside one another: settings that differ, accuracies, curves, eigenspaces."""

import html
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from selfsup.analysis.plots import PALETTE
from selfsup.config import ADDED
from selfsup.data.images import printable
from selfsup.records.recordings import Eigenspaces, read_eigenspaces, read_log
from selfsup.records.results import Result, read_result
from selfsup.utils.errors import InputError
from selfsup.utils.files import replacing, user_path


@dataclass(frozen=True)
class Run:
    """The records of a finished run; `name` tells it from the others of a comparison."""

    name: str
    result: Result
    log: dict[str, np.ndarray]
    eigenspaces: Eigenspaces


def read_runs(workdirs: Sequence[str | Path]) -> list[Run]:
    """Reads the records of at least two finished runs.

    Args:
        workdirs: the folders of the runs.

    Raises:
        InputError: there are fewer than two, one is given twice, or one is not the folder of a finished run.
    """
    paths = [user_path("folder", str(workdir)) for workdir in workdirs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a folder is given twice; a comparison needs different runs")
    if len(paths) < 2:
        raise InputError(f"a comparison needs at least two runs, not {len(paths)}; give their folders")
    runs = []
    for name, path in zip(short_names(paths), paths, strict=True):
        result = read_result(path)
        if result is None:
            raise InputError(f"{path} holds no finished run; a comparison needs its result.json")
        runs.append(Run(name, result, read_log(path), read_eigenspaces(path)))
    return runs


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns what differs between paths: without the folders that all of them begin and end with.

    Example:
        >>> short_names([Path("runs/byol-1f2e/0"), Path("runs/directpred-9b12/0")])
        ['byol-1f2e', 'directpred-9b12']
    """
    parts = [Path(os.path.abspath(path)).parts for path in paths]  # noqa: PTH100 (links keep their names)
    first = 0
    while len({p[first] for p in parts if first < len(p) - 1}) == 1 and all(
        first < len(p) - 1 for p in parts
    ):
        first += 1
    last = 0
    while len({p[-1 - last] for p in parts}) == 1 and all(len(p) - last > first + 1 for p in parts):
        last += 1
    return [printable("/".join(p[first : len(p) - last])) for p in parts]


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Returns the settings and circumstances that differ, by name, with one text per run."""
    rows: dict[str, list[Any]] = {}
    configs = [{**ADDED, **run.result.config} for run in runs]
    for name in dict.fromkeys(key for config in configs for key in config):
        rows[name] = [config.get(name) for config in configs]
    for name in ("backend", "precision", "device"):
        rows[name] = [run.result.environment.get(name) for run in runs]
    rows["data"] = [run.result.dataset["fingerprint"] for run in runs]
    rows["replaced"] = [run.result.swapped or None for run in runs]
    return {
        name: ["-" if value is None else str(value) for value in values]
        for name, values in rows.items()
        if any(value != values[0] for value in values)
    }


def outcomes(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Returns accuracies in percent and other results, by name, with one text per run."""
    results = [run.result for run in runs]
    rows = {
        f"{name}, %": [_percent(result.accuracy.get(name)) for result in results]
        for name in dict.fromkeys(name for result in results for name in result.accuracy)
    }
    rows["end"] = [result.outcome for result in results]
    rows["minutes"] = [f"{result.seconds['total'] / 60:.1f}" for result in results]
    return rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def write_comparison(path: Path, runs: Sequence[Run]) -> None:
    """Writes a self-contained HTML page; it opens from disk without a network.

    Args:
        path: the file.
        runs: at least two runs.

    Raises:
        OSError: the file cannot be written.
    """
    data = {
        "palette": PALETTE,
        "outcomes": outcomes(runs),
        "differing": differing(runs),
        "runs": [
            {
                "name": run.name,
                "log": {name: _plain(values) for name, values in run.log.items()},
                "epochs": run.eigenspaces.epoch.tolist(),
                "F": _plain(run.eigenspaces.correlation_eigenvalues[:, ::-1]),
                "W": _plain(run.eigenspaces.predictor_eigenvalues[:, ::-1]),
                "alignment": _plain(run.eigenspaces.alignment[:, ::-1]),
            }
            for run in runs
        ],
    }
    folder = resources.files(__package__)
    page = Template(folder.joinpath("comparison.html").read_text("utf-8")).substitute(
        title=html.escape("Comparison of " + ", ".join(run.name for run in runs)),
        count=len(runs),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        script=folder.joinpath("comparison.js").read_text("utf-8"),
    )
    with replacing(path) as file:
        file.write(page)


def _plain(values: np.ndarray) -> list[Any]:
    """Numbers with five digits, as nested lists; None for those that are not finite."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
