"""The configuration of a run: the frozen `Config`.

Standard library only, so that `--help` answers at once.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_type_hints

from selfsup.applicable import check_applicable
from selfsup.methods import LOSSES, METHODS, RULE_FIELDS, Method
from selfsup.resolved import DEFAULT_TAU, Resolved, resolve
from selfsup.utils.errors import InputError
from selfsup.utils.options import Option, as_plain, check_json

__all__ = ["METHODS", "OPTIONS", "Config", "Method", "Resolved"]

ADDED = {
    "bn_groups": 1, "rule_options": {}, "image_size": 32, "stem": "small", "crop_min": 0.08, "flip_rate": 0.5,
    "jitter_rate": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grey_rate": 0.2,
    "blur": 0.0, "loss": "cosine", "schedule": "constant", "warmup_epochs": 0, "tau_schedule": "constant",
    "evaluate_every": 0,
}  # fmt: skip
"""Fields that old records lack, with the values used at that time, which do not change the fingerprint."""
NOT_SETTINGS = (
    "seed", "data_dir", "cache_dir", "skip_broken", "images_on",
    "experiment", "probe_untrained", "record_every", "evaluate_every", "deterministic",
)  # fmt: skip
"""Fields that do not affect the expected accuracy."""
SCHEDULES = ("constant", "cosine")


def _setting(group: str, help: str, default: Any = None, **accepted: Any) -> Any:
    """A field of `Config` with its `Option`; the option's type is the field's annotation."""
    return field(default=default, metadata={"option": Option(help, group=group, **accepted)})


_METHOD, _SGD, _RUN, _DATA, _VIEWS = "Method", "Optimisation", "Network and run", "Data", "Augmentation"


@dataclass(frozen=True, eq=False)
class Config:
    """All settings that determine the result of a run. The defaults are the paper's.

    A field holds what was given, and None means the method's default; `resolved` has the values in use.
    `selfsup run --help` explains each field. Two configs are equal if they resolve to the same run.

    Raises:
        InputError: a field has the wrong type, is out of range, or does not apply to the method.

    Example:
        >>> Config(method="byol", width=16).resolved.tau
        0.996
    """

    method: str = _setting(_METHOD, "how the predictor W_p is set or trained", "directpred")
    ema: bool | None = _setting(
        _METHOD, "the target is a moving average of the online network", shown="on; simsiam: off"
    )
    symmetric: bool = _setting(_METHOD, "symmetrise a trained W_p after each step", False)
    freq: int | None = _setting(
        _METHOD, "set W_p every N steps and train it by gradient in between", shown="1", low=1
    )
    eps: float | None = _setting(
        _METHOD, "boost of W_p's eigenvalues",
        shown="directpred: 0.1, directcopy: 0.3, directset: 0.01", low=0, high=1,
    )  # fmt: skip
    rho: float | None = _setting(
        _METHOD, "decay of F, the moving average of z z^T",
        shown="0.3; directcopy: 0.5", low=0, high=1, open_high=True,
    )  # fmt: skip
    tau: float | None = _setting(
        _METHOD, "decay of the target's moving average", shown=f"{DEFAULT_TAU}", low=0, high=1
    )
    tau_schedule: str = _setting(
        _METHOD, "schedule of tau: constant, or cosine to 1 at the last step", "constant", choices=SCHEDULES
    )
    spectrum: str | None = _setting(
        _METHOD, "directpred: eigenvalues of W_p by the published code, or by the paper's equation 2",
        shown="normalized", choices=("normalized", "paper"),
    )  # fmt: skip
    solver: str | None = _setting(
        _METHOD, "directpred: eigendecomposition, or matrix products only (to within 1e-3)",
        shown="eigh", choices=("eigh", "newton_schulz"),
    )  # fmt: skip
    norm: str | None = _setting(
        _METHOD, "directcopy: the norm that F is divided by", shown="fro", choices=("fro", "spectral")
    )
    loss: str = _setting(
        _METHOD, "loss; isoloss: all directions of F learn at the same rate (direct rules)", "cosine",
        choices=tuple(LOSSES),
    )  # fmt: skip
    projector_layers: int = _setting(_METHOD, "layers; if 3, the first block is probed too", 2, low=2, high=3)
    bn_groups: int = _setting(
        _METHOD, "groups of a batch with separate batch norm: 1, or one per device (TensorFlow)", 1, low=1
    )
    learning_rate: float = _setting(_SGD, "learning rate of SGD", 0.03, low=0, open_low=True)
    schedule: str = _setting(
        _SGD, "schedule of the learning rate: constant, or cosine to 0 at the last step", "constant",
        choices=SCHEDULES,
    )  # fmt: skip
    warmup_epochs: int = _setting(_SGD, "epochs over which the learning rate rises linearly from 0", 0, low=0)
    predictor_learning_rate: float | None = _setting(
        _SGD, "learning rate of a trained predictor", shown="learning_rate", low=0, open_low=True
    )
    momentum: float = _setting(_SGD, "momentum of SGD", 0.9, low=0, high=1, open_high=True)
    weight_decay: float = _setting(_SGD, "L2 penalty, added to the gradients", 4e-4, low=0)
    predictor_weight_decay: float | None = _setting(
        _SGD, "L2 penalty of a trained predictor", shown="weight_decay", low=0
    )
    batch_size: int = _setting(_SGD, "images per step; the last partial batch is dropped", 128, low=2)
    epochs: int = _setting(_SGD, "epochs of pre-training", 100, low=1)
    probe_epochs: int = _setting(_SGD, "epochs of the linear probe", 100, low=1)
    probe_untrained: bool = _setting(_SGD, "also probe the network before training", False)
    width: int = _setting(_RUN, "channels of ResNet-18's first stage", 64, low=1)
    stem: str = _setting(
        _RUN, "first layer: 3x3 with stride 1, or 7x7 with stride 2 and max-pool (auto: from 64 pixels on)",
        "auto", choices=("auto", "small", "large"),
    )  # fmt: skip
    precision: str = _setting(
        _RUN, "auto: bfloat16 on GPUs, and on CPUs with AMX or AVX512_BF16 under TensorFlow", "auto",
        choices=("auto", "float32", "mixed_bfloat16"),
    )  # fmt: skip
    deterministic: bool = _setting(_RUN, "use only deterministic operations (slower on GPUs)", False)
    record_every: int = _setting(_RUN, "epochs between two recordings of the eigenspaces", 5, low=1)
    evaluate_every: int = _setting(
        _RUN, "epochs between two evaluations while training, from the first on (0: none)", 5, low=0
    )
    seed: int = _setting(_RUN, "seed of weights, image order and augmentation", 0, low=0, high=2**31 - 1)
    dataset: str = _setting(
        _DATA, "a folder of images, arrays (.npz, or a folder of .npy), a TFDS name, or shapes", "cifar10"
    )
    data_dir: str | None = _setting(
        _DATA, "folder of prepared TFDS data", shown="$TFDS_DATA_DIR, otherwise TFDS' own"
    )
    image_size: int = _setting(_DATA, "pixels per side that images are cropped and resized to", 32, low=8)
    skip_broken: bool = _setting(_DATA, "leave out image files that cannot be read", False)
    cache_dir: str | None = _setting(
        _DATA, "folder that keeps decoded images", shown="the run's, until it ends"
    )
    images_on: str = _setting(
        _DATA, "where the training images lie (auto: on the device if they take up to 4 GiB)", "auto",
        choices=("auto", "device", "host"),
    )  # fmt: skip
    crop_min: float = _setting(_VIEWS, "minimum relative area of a crop", 0.08, low=0, high=1, open_low=True)
    flip_rate: float = _setting(_VIEWS, "probability of a horizontal flip", 0.5, low=0, high=1)
    jitter_rate: float = _setting(_VIEWS, "probability of colour jitter", 0.8, low=0, high=1)
    brightness: float = _setting(
        _VIEWS, "strength of the jitter: factors within 1 - X and 1 + X", 0.4, low=0, high=1
    )
    contrast: float = _setting(_VIEWS, "strength, as above", 0.4, low=0, high=1)
    saturation: float = _setting(_VIEWS, "strength, as above", 0.4, low=0, high=1)
    hue: float = _setting(
        _VIEWS, "strength: shift by at most this fraction of the colour circle", 0.1, low=0, high=0.5
    )
    grey_rate: float = _setting(_VIEWS, "probability of greyscale", 0.2, low=0, high=1)
    blur: float | None = _setting(
        _VIEWS, "probability of a Gaussian blur", shown="0; from 64 pixels on: 1", low=0, high=1
    )
    experiment: str | None = _setting("", "name in the registry")
    rule_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None or getattr(Config, name) is not None:
                object.__setattr__(self, name, option.check(name, value))
        if self.method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        given = {name: as_plain(value) for name, value in dict(self.rule_options).items()}
        object.__setattr__(self, "rule_options", check_json("rule_options", given))
        for name, default in METHODS[self.method].rule_options.items():
            if name in given and isinstance(default, bool | int | float | str):
                given[name] = rule_option(self.method, name).check(name, given[name])
        check_applicable(self)

    @cached_property
    def resolved(self) -> Resolved:
        """The values that this run uses."""
        return resolve(self)

    @property
    def title(self) -> str:
        """The experiment's name, otherwise the method's."""
        return self.experiment or self.resolved.method

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as stored in records: resolved, and None if a field does not apply."""
        found, resolved = dataclasses.asdict(self), self.resolved
        found |= {"method": resolved.method, "ema": resolved.ema, "rho": resolved.rho}
        found["tau"] = resolved.tau if resolved.ema else None
        found["freq"] = resolved.freq or None
        for name in ("predictor_learning_rate", "predictor_weight_decay"):
            found[name] = getattr(resolved, name) if resolved.trains_predictor else None
        found |= {"stem": resolved.stem, "blur": resolved.augmentation["blur"]}
        found |= {name: resolved.rule_options.get(name) for name in RULE_FIELDS}
        found["rule_options"] = {k: v for k, v in resolved.rule_options.items() if k not in RULE_FIELDS}
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved fields that affect the expected accuracy: all but `NOT_SETTINGS`."""
        return {k: v for k, v in self.to_dict().items() if k not in NOT_SETTINGS}

    @property
    def fingerprint(self) -> str:
        """Eight hex digits of the SHA-256 of `settings`, the same for all seeds."""
        return _fingerprint(self.settings)

    @property
    def training(self) -> str:
        """The fingerprint without probe, path of the data, precision and, if more may follow, epochs."""
        epochs = self.epochs if self.resolved.fixed_length else 1
        same = {"epochs": epochs, "probe_epochs": 1, "dataset": "", "precision": "auto"}
        return _fingerprint({**self.settings, **same})

    @property
    def default_workdir(self) -> Path:
        """`runs/<experiment or method>-<fingerprint>/<seed>`, a different folder for different settings."""
        return Path("runs") / f"{self.title}-{self.fingerprint}" / str(self.seed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.seed, self.experiment))


def _fingerprint(settings: Mapping[str, Any]) -> str:
    found = {k: v for k, v in settings.items() if k not in ADDED or v != ADDED[k]}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]


def rule_option(method: str, name: str) -> Option:
    """Returns the `Option` of a rule option that is not a field of `Config`; its type is the default's."""
    found = METHODS[method].options.get(name, Option(f"option of the rule of {method}"))
    default = METHODS[method].rule_options[name]
    return dataclasses.replace(found, type=type(default), group=_METHOD, shown=f"{default}")


OPTIONS: dict[str, Option] = {
    f.name: dataclasses.replace(f.metadata["option"], type=(get_args(hint) or [hint])[0])
    for f, hint in zip(dataclasses.fields(Config), get_type_hints(Config).values(), strict=True)
    if "option" in f.metadata
}
"""Help text, type and accepted values of each field of `Config`."""
