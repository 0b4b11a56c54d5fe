"""The presets (scales) and the named experiments (cells of the paper's tables)."""

import json
import math
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
    "long": {"width": 16, "image_size": 16},
    "stl10": {
        "dataset": "stl10",
        "image_size": 96,
        "brightness": 0.8,
        "contrast": 0.8,
        "saturation": 0.8,
        "hue": 0.2,
    },
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
"""Scales of a run: the paper's; two for a CPU; that of Tian et al. 2021; and one that needs no data.

`lite` has a tenth of the paper's epochs; `long` has all 39,000 steps, on CIFAR-10 at 16x16 pixels. `stl10` is
the setting of Tian et al. 2021, whose images are not normalised (ours are).

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
_HALVAGAL: dict[str, Any] = {
    "method": "directset", "ema": False, "rho": 0.5, "learning_rate": 0.1, "weight_decay": 1e-5,
}  # fmt: skip
_ISOLOSS = {**_HALVAGAL, "loss": "isoloss"}
_POWERS: dict[str, dict[str, Any]] = {
    "root": {"eps": 0.0, "rule_options": {"alpha": 0.5}},
    "copy": {"eps": 0.25, "rule_options": {"alpha": 1.0}},
}

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
    "sgd_symmetric": {"method": "sgd", "symmetric": True},
    "sgd_noema_symmetric": {"method": "sgd", "ema": False, "symmetric": True},
    **{
        f"directpred_rho{rho:g}_eps{eps:g}": {"method": "directpred", "rho": rho, "eps": eps}
        for rho in (0.3, 0.5)
        for eps in (0.0, 0.01, 0.1, 0.5)
        if (rho, eps) != (0.3, 0.1)  # the defaults
    },
    "directset": {"method": "directset"},
    **{f"directset_{power}_noema": {**_HALVAGAL, **options} for power, options in _POWERS.items()},
    **{f"isoloss_{power}_noema": {**_ISOLOSS, **options} for power, options in _POWERS.items()},
}


@dataclass(frozen=True)
class Section:
    """A section of the report: its heading, the experiments of its rows in order, and their dataset.

    An optional one is left out unless it is asked for, or one of its experiments has been run.
    """

    title: str
    experiments: tuple[str, ...]
    dataset: str = "cifar10"
    optional: bool = False


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
    "stl10_table3": Section(
        "Table 3 of Tian et al. 2021: EMA and a symmetric W_p on STL-10",
        tuple(
            f"{name}{suffix}"
            for name in ("sgd", "sgd_noema", "byol", "simsiam")
            for suffix in ("_symmetric", "")
        ),
        "stl10",
    ),
    "stl10_table6": Section(
        "Table 6 of Tian et al. 2021: eps and rho of DirectPred on STL-10",
        tuple(
            "directpred" if (rho, eps) == (0.3, 0.1) else f"directpred_rho{rho:g}_eps{eps:g}"
            for rho in (0.3, 0.5)
            for eps in (0.0, 0.01, 0.1, 0.5)
        ),
        "stl10",
    ),
    "stl10_table8": Section(
        "Table 8 of Tian et al. 2021: DirectPred and its SGD baseline on STL-10",
        ("directpred", "directpred_freq5", "sgd"),
        "stl10",
    ),
    "isoloss": Section(
        "Beyond the paper: DirectSet (Wang et al. 2021) and IsoLoss (Halvagal et al. 2023)",
        ("directset", *(f"{rule}_{power}_noema" for power in _POWERS for rule in ("directset", "isoloss"))),
        optional=True,
    ),
}
"""The sections of the report that need runs, in order."""


def canonical(experiment: str) -> str:
    """Returns the first experiment with the same settings: one run serves both names."""
    return next(name for name, settings in _SETTINGS.items() if settings == _SETTINGS[experiment])


def sections_of(preset: str) -> tuple[str, ...]:
    """Returns the sections of the report that a preset fills; `quick` leaves out the weight decay study."""
    dataset = "stl10" if preset == "stl10" else "cifar10"
    names = (name for name, s in SECTIONS.items() if s.dataset == dataset and not s.optional)
    return tuple(name for name in names if (preset, name) != ("quick", "weight_decay"))


@dataclass(frozen=True)
class Published:
    """A published test accuracy in percent, or its mean and standard deviation over n seeds.

    Attributes:
        mean: in percent.
        std: sample standard deviation; NaN for a single run.
        n: number of seeds.
        source: where it was published.
    """

    mean: float
    std: float = math.nan
    n: int = 1
    source: str = ""


_IDENTITY = ("method", "ema", "symmetric", "freq", "projector_layers", "loss")


@dataclass(frozen=True)
class Experiment:
    """The fields of `Config` that define a cell of the paper's tables, and its published accuracy.

    Attributes:
        settings: values of `Config` fields.
        published: CIFAR-10 test accuracy in percent, or None if not published.
        published_reused: the same with the probe on the reused projector block.
        source: where the values were published.
        stl10: the test accuracy on STL-10, or None.
        raw: the CIFAR-10 accuracy in the authors' own result files, or None.
    """

    settings: Mapping[str, Any]
    published: float | None
    published_reused: float | None
    source: str
    stl10: Published | None = None
    raw: Published | None = None

    @property
    def differing_raw(self) -> Published | None:
        """`raw` if it is not the published accuracy, else None."""
        return None if self.raw is None or self.raw.mean == self.published else self.raw


def _experiments() -> Mapping[str, Experiment]:
    published = json.loads(Path(__file__).with_name("published.json").read_text())
    cifar10, stl10 = published["experiments"], published["stl10"]["experiments"]
    raw = {
        name: Published(accuracy, source=published["raw_results"]["source"])
        for name, accuracy in published["raw_results"]["experiments"].items()
    }
    found = {}
    for name, settings in _SETTINGS.items():
        cell = cifar10.get(name, {})
        accuracies = (cell.get("accuracy"), cell.get("accuracy_reused"))
        elsewhere = Published(**stl10[name]) if name in stl10 else None
        source = cell.get("source", "")
        fixed = MappingProxyType(settings)
        found[name] = Experiment(fixed, *accuracies, source, elsewhere, raw.get(name))
    return MappingProxyType(found)


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
    names = dict.fromkeys((*_IDENTITY, *settings))
    for name in sorted(names, key=lambda name: name not in overrides):  # what was given comes first
        if found[name] != fixed[name]:
            raise InputError(f"{name} is fixed to {fixed[name]} by experiment {experiment}; leave one out")
    return config
