"""The presets (scales) and the named experiments (cells of the report's tables)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from selfsup.config import Config
from selfsup.utils.errors import InputError

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "lite": {"width": 16, "epochs": 10, "record_every": 1},
    "quick": {
        "dataset": "shapes",
        "width": 16,
        "epochs": 3,
        "batch_size": 64,
        "learning_rate": 0.1,
        "tau": 0.98,
        "record_every": 1,
        "probe_untrained": True,
    },
}
"""Scales of a run: the paper's, CIFAR-10 for a CPU, and one that needs no data.

`quick` has a higher learning rate and a faster target, because it takes 468 steps instead of 39,000.
"""

_TWO_LAYERS: dict[str, dict[str, Any]] = {
    "byol": {"method": "byol"},
    "byol_symmetric": {"method": "byol", "symmetric": True},
    "simsiam": {"method": "simsiam"},
    "simsiam_symmetric": {"method": "simsiam", "symmetric": True},
}
_LARGE_RATES: dict[str, Any] = {"learning_rate": 0.2, "predictor_learning_rate": 2.0, "weight_decay": 0.0}
_DECAY_PREDICTOR = {**_LARGE_RATES, "predictor_weight_decay": 4e-4}
_DECAY_NONE = {**_LARGE_RATES, "predictor_weight_decay": 0.0}
_ONE_LAYER = ("directpred", "directcopy", "sgd")

_SETTINGS: dict[str, dict[str, Any]] = {
    **_TWO_LAYERS,
    "simsiam_symmetric_tuned": {**_TWO_LAYERS["simsiam_symmetric"], **_DECAY_PREDICTOR},
    **{name: {"method": name} for name in _ONE_LAYER},
    **{f"{name}_noema": {"method": name, "ema": False} for name in _ONE_LAYER},
    "directpred_freq5": {"method": "directpred", "freq": 5},
    "directpred_deep": {"method": "directpred", "projector_layers": 3},
    "sgd_deep": {"method": "sgd", "projector_layers": 3},
    **{f"{name}_decay_predictor": {**cell, **_DECAY_PREDICTOR} for name, cell in _TWO_LAYERS.items()},
    **{f"{name}_decay_none": {**cell, **_DECAY_NONE} for name, cell in _TWO_LAYERS.items()},
}


@dataclass(frozen=True)
class Section:
    """A section of the report: its heading, and the experiments of its rows in order."""

    title: str
    experiments: tuple[str, ...]


SECTIONS: dict[str, Section] = {
    "table1": Section(
        "Table 1: the two-layer predictor, with and without symmetric W_p and EMA",
        ("byol_symmetric", "byol", "simsiam_symmetric", "simsiam"),
    ),
    "figure4": Section(
        "Figure 4: symmetric SimSiam with separate learning rate and weight decay for the predictor",
        ("simsiam_symmetric_tuned",),
    ),
    "figure5": Section(
        "Figure 5: the direct rules and their SGD baseline, with and without EMA",
        (*_ONE_LAYER, *(f"{name}_noema" for name in _ONE_LAYER)),
    ),
    "freq5": Section("DirectPred with W_p set only every fifth step", ("directpred_freq5",)),
    "table2": Section("Table 2: the deeper projector", ("directpred_deep", "sgd_deep")),
    "weight_decay": Section(
        "Weight decay: on the predictor only, and none",
        tuple(f"{name}_decay_{where}" for where in ("predictor", "none") for name in _TWO_LAYERS),
    ),
}
"""The sections of the report that need runs, in order."""


def canonical(experiment: str) -> str:
    """Returns the first experiment with the same settings: one run serves both names."""
    return next(name for name, settings in _SETTINGS.items() if settings == _SETTINGS[experiment])


_IDENTITY = ("method", "ema", "symmetric", "freq", "projector_layers")


@dataclass(frozen=True)
class Experiment:
    """The fields of `Config` that define a cell of the report's tables, and its published accuracy.

    Attributes:
        settings: values of `Config` fields.
        published: CIFAR-10 test accuracy in percent, or None if not published.
        published_reused: the same with the probe on the reused projector block.
        source: where the values were published.
    """

    settings: Mapping[str, Any]
    published: float | None
    published_reused: float | None
    source: str


def _experiments() -> Mapping[str, Experiment]:
    published = json.loads(Path(__file__).with_name("published.json").read_text())["experiments"]
    return MappingProxyType(
        {
            name: Experiment(
                MappingProxyType(settings),
                published[name]["accuracy"],
                published[name].get("accuracy_reused"),
                published[name]["source"],
            )
            for name, settings in _SETTINGS.items()
        }
    )


EXPERIMENTS: Mapping[str, Experiment] = _experiments()


def make_config(preset: str = "paper", experiment: str | None = None, **overrides: Any) -> Config:
    """Returns the config of a preset and a named experiment. `overrides` take precedence over the preset.

    Raises:
        InputError: an unknown name, an invalid value, or an override of a field that the experiment fixes.

    Example:
        >>> make_config("lite", "directpred", seed=1).width
        16
    """
    if preset not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, not {preset!r}")
    if experiment is not None and experiment not in EXPERIMENTS:
        raise InputError(f"experiment {experiment!r} is not in the registry; --list shows the names")
    settings = EXPERIMENTS[experiment].settings if experiment else {}
    chosen = {**settings, **overrides, "experiment": experiment}
    unscaled = Config(**chosen).to_dict()
    scale = {k: v for k, v in PRESETS[preset].items() if unscaled[k] is not None}  # no tau, no EMA
    config = Config(**{**scale, **chosen})
    if experiment is None:
        return config
    fixed, found = Config(**settings).to_dict(), config.to_dict()
    for name in dict.fromkeys((*_IDENTITY, *settings)):
        if found[name] != fixed[name]:
            raise InputError(f"{name} is fixed to {fixed[name]} by experiment {experiment}; drop one")
    return config
