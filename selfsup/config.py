"""What a run is: the frozen `Config`.

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

from selfsup.methods import METHODS, Method
from selfsup.utils.errors import InputError
from selfsup.utils.options import Option, as_plain

__all__ = ["METHODS", "OPTIONS", "Config", "Method", "Resolved"]

DEFAULT_TAU = 0.996
ADDED = {"bn_groups": 1, "rule_options": {}}
"""Fields that the first records lack, with the value they stand for; at it they change no fingerprint."""
NOT_SETTINGS = ("seed", "data_dir", "experiment", "probe_untrained", "record_every", "deterministic")
"""Fields that cannot change the expected accuracy."""


def _setting(group: str, help: str, default: Any = None, **accepted: Any) -> Any:
    """A field of `Config` with its `Option`; the option's type is the field's annotation."""
    return field(default=default, metadata={"option": Option(help, group=group, **accepted)})


_METHOD, _SGD, _RUN, _DATA = "Method", "Optimisation", "Network and run", "Data"


@dataclass(frozen=True)
class Resolved:
    """What a config comes down to: the method's own values where none was given.

    Attributes:
        method: of the config; BYOL without EMA is SimSiam.
        ema: whether there is an EMA target.
        tau: decay of the target; 0, a target that equals the online network, without EMA.
        rho: decay of F's moving average.
        freq: steps from one setting of W_p by the rule to the next; 0 without a rule.
        rule_options: keyword arguments of the rule.
        predictor_learning_rate, predictor_weight_decay: of a trained predictor.
    """

    method: str
    ema: bool
    tau: float
    rho: float
    freq: int
    rule_options: Mapping[str, Any]
    predictor_learning_rate: float
    predictor_weight_decay: float

    @property
    def trains_predictor(self) -> bool:
        """Whether gradient steps change W_p: always without a rule, else between its settings."""
        return self.freq != 1


@dataclass(frozen=True, eq=False)
class Config:
    """Everything that decides the outcome of a run; the defaults are the report's setting.

    A field holds what was given, None meaning the method's own value; `resolved` has the numbers. So
    `dataclasses.replace(config, method="byol")` works. Two configs are equal if they resolve to the same run.

    Raises:
        InputError: a field has the wrong type or range, or does not apply to the method.

    Example:
        >>> Config(method="byol", width=16).resolved.tau
        0.996
    """

    method: str = _setting(_METHOD, "how the predictor W_p is made", "directpred")
    ema: bool | None = _setting(
        _METHOD, "the target is a moving average of the online network", shown="on, off for simsiam"
    )
    symmetric: bool = _setting(_METHOD, "symmetrise W_p after each step (trained predictors only)", False)
    freq: int | None = _setting(
        _METHOD, "steps from one setting of W_p to the next, trained in between", shown="1", low=1
    )
    eps: float | None = _setting(
        _METHOD, "boost of W_p's spectrum", shown="directpred 0.1, directcopy 0.3", low=0, high=1
    )
    rho: float | None = _setting(
        _METHOD, "decay of F, the moving average of z z^T",
        shown="0.3, directcopy 0.5", low=0, high=1, open_high=True,
    )  # fmt: skip
    tau: float | None = _setting(
        _METHOD, "decay of the target's moving average", shown=f"{DEFAULT_TAU}", low=0, high=1
    )
    spectrum: str | None = _setting(
        _METHOD, "of directpred: as in the authors' code, or as in the report's equation 2",
        shown="normalized", choices=("normalized", "paper"),
    )  # fmt: skip
    solver: str | None = _setting(
        _METHOD, "of directpred: eigendecomposition, or matrix products alone, within 1e-3 of it",
        shown="eigh", choices=("eigh", "newton_schulz"),
    )  # fmt: skip
    norm: str | None = _setting(
        _METHOD, "of F, which directcopy divides by", shown="fro", choices=("fro", "spectral")
    )
    projector_layers: int = _setting(_METHOD, "with 3 the first block is probed as well", 2, low=2, high=3)
    bn_groups: int = _setting(
        _METHOD, "groups of a batch with their own statistics: one, or one per device (TensorFlow)", 1, low=1
    )
    learning_rate: float = _setting(_SGD, "of SGD, constant", 0.03, low=0, open_low=True)
    predictor_learning_rate: float | None = _setting(
        _SGD, "of a trained predictor", shown="learning_rate", low=0, open_low=True
    )
    momentum: float = _setting(_SGD, "of SGD", 0.9, low=0, high=1, open_high=True)
    weight_decay: float = _setting(_SGD, "L2 penalty, added to the gradient", 4e-4, low=0)
    predictor_weight_decay: float | None = _setting(
        _SGD, "of a trained predictor", shown="weight_decay", low=0
    )
    batch_size: int = _setting(_SGD, "images per step; a partial last batch is dropped", 128, low=2)
    epochs: int = _setting(_SGD, "passes of pre-training", 100, low=1)
    probe_epochs: int = _setting(_SGD, "passes of the linear probe", 100, low=1)
    probe_untrained: bool = _setting(_SGD, "probe the network before training as well", False)
    width: int = _setting(_RUN, "channels of ResNet-18's first stage", 64, low=1)
    precision: str = _setting(
        _RUN, "auto: bfloat16 on GPUs, and on CPUs with AMX or AVX512_BF16 under TensorFlow", "auto",
        choices=("auto", "float32", "mixed_bfloat16"),
    )  # fmt: skip
    deterministic: bool = _setting(
        _RUN, "only operations that give the same bits every time, on GPUs too", False
    )
    record_every: int = _setting(_RUN, "epochs between two recordings of the eigenspaces", 5, low=1)
    seed: int = _setting(_RUN, "of weights, order and augmentation", 0, low=0, high=2**31 - 1)
    dataset: str = _setting(
        _DATA, "a TFDS name, shapes, or the path of an .npz or an image folder", "cifar10"
    )
    data_dir: str | None = _setting(
        _DATA, "folder of prepared TFDS data", shown="$TFDS_DATA_DIR, else TFDS's own"
    )
    experiment: str | None = _setting("", "name in the registry")
    rule_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None or _DEFAULTS[name] is not None:
                object.__setattr__(self, name, option.check(name, value))
        if self.method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.method == "simsiam" and self.ema:
            raise InputError("ema: simsiam with an EMA target is byol; use method byol")
        given = {name: as_plain(value) for name, value in dict(self.rule_options).items()}
        object.__setattr__(self, "rule_options", given)
        method = METHODS[self.method]
        for name, default in method.rule_options.items():
            if name in given:
                given[name] = rule_option(self.method, default).check(name, given[name])
        if self.symmetric and method.rule:
            raise InputError(f"symmetric does not apply: {self.method} sets a W_p that is symmetric already")
        trained = f"{self.method} trains its predictor by gradient"
        if not self.resolved.ema:
            self._refuse("tau", "there is no EMA target")
        if not method.rule:
            self._refuse("freq", trained)
        for name in {*_RULE_FIELDS, *given} - set(method.rule_options):
            self._refuse(name, f"the rule of {self.method} has no {name}" if method.rule else trained)
        if not self.resolved.trains_predictor:
            for name in ("predictor_learning_rate", "predictor_weight_decay"):
                self._refuse(name, f"{self.method} sets W_p at every step")

    def _refuse(self, name: str, reason: str) -> None:
        if name in self.rule_options or getattr(self, name, None) is not None:
            raise InputError(f"{name} does not apply: {reason}; leave it out")

    @cached_property
    def resolved(self) -> Resolved:
        """The numbers of this run."""
        method = METHODS[self.method]
        ema = method.ema if self.ema is None else self.ema
        fields = {name: getattr(self, name, None) for name in method.rule_options}
        options = {
            name: self.rule_options.get(name, default if fields[name] is None else fields[name])
            for name, default in method.rule_options.items()
        }
        return Resolved(
            method="simsiam" if self.method == "byol" and not ema else self.method,
            ema=ema,
            tau=(DEFAULT_TAU if self.tau is None else self.tau) if ema else 0.0,
            rho=method.rho if self.rho is None else self.rho,
            freq=(self.freq or 1) if method.rule else 0,
            rule_options=options,
            predictor_learning_rate=self.predictor_learning_rate or self.learning_rate,
            predictor_weight_decay=(
                self.weight_decay if self.predictor_weight_decay is None else self.predictor_weight_decay
            ),
        )

    @property
    def title(self) -> str:
        """The experiment's name, or else the method's."""
        return self.experiment or self.resolved.method

    def to_dict(self) -> dict[str, Any]:
        """All fields as the records have them, JSON-ready: resolved, and None where one does not apply.

        `Config(**config.to_dict()) == config`.
        """
        found, resolved = dataclasses.asdict(self), self.resolved
        found |= {"method": resolved.method, "ema": resolved.ema, "rho": resolved.rho}
        found["tau"] = resolved.tau if resolved.ema else None
        found["freq"] = resolved.freq or None
        for name in ("predictor_learning_rate", "predictor_weight_decay"):
            found[name] = getattr(resolved, name) if resolved.trains_predictor else None
        found |= {name: resolved.rule_options.get(name) for name in _RULE_FIELDS}
        found["rule_options"] = {k: v for k, v in resolved.rule_options.items() if k not in _RULE_FIELDS}
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that decide the accuracy but for chance: no seed, no name, no choice of records."""
        return {k: v for k, v in self.to_dict().items() if k not in NOT_SETTINGS}

    @property
    def fingerprint(self) -> str:
        """Eight hex digits, shared by two configs only if they differ in nothing but seed or name."""
        settings = {k: v for k, v in self.settings.items() if k not in ADDED or v != ADDED[k]}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def default_workdir(self) -> Path:
        """`runs/<experiment or method>-<fingerprint>/<seed>`: two settings never share a folder."""
        return Path("runs") / f"{self.title}-{self.fingerprint}" / str(self.seed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.seed, self.experiment))


def rule_option(method: str, default: Any) -> Option:
    """How an option that only the rule of `method` has is explained and checked."""
    return Option(f"option of the rule of {method}", type(default), group=_METHOD)


def _options() -> dict[str, Option]:
    hints = get_type_hints(Config)
    return {
        f.name: dataclasses.replace(
            f.metadata["option"], type=(get_args(hints[f.name]) or [hints[f.name]])[0]
        )
        for f in dataclasses.fields(Config)
        if "option" in f.metadata
    }


OPTIONS: dict[str, Option] = _options()
"""How each field of `Config` is explained and checked."""
_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Config)}
_RULE_FIELDS = ("eps", "spectrum", "solver", "norm")
