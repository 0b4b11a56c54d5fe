"""What a run is: the methods and the frozen `Config`.

Standard library only, so that `--help` answers at once.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfsup.utils.errors import InputError
from selfsup.utils.options import OPTIONS


@dataclass(frozen=True)
class Method:
    """A way to keep siamese networks from collapsing.

    Attributes:
        summary: one line for `--help`.
        predictor_layers: 1 for a linear W_p, 2 for Dense-BN-ReLU-Dense.
        ema: whether the target is, by default, a moving average of the online network.
        rule: what sets W_p from the correlation F, or None where gradients train W_p: the name of a
            function of `selfsup.predictors`, or any function `rule(correlation, **options) -> W_p`.
        rule_options: the rule's keyword arguments, each a field of `Config`, with their defaults.
        rho: default decay of F's moving average.
    """

    summary: str
    predictor_layers: int = 1
    ema: bool = True
    rule: str | Callable | None = None
    rule_options: Mapping[str, Any] = field(default_factory=dict)
    rho: float = 0.3


METHODS: dict[str, Method] = {
    "byol": Method("two-layer predictor, EMA target (Grill et al. 2020)", predictor_layers=2),
    "simsiam": Method("two-layer predictor, target = online (Chen & He 2020)", predictor_layers=2, ema=False),
    "sgd": Method("one linear predictor trained by SGD: the direct rules' baseline"),
    "directpred": Method(
        "W_p set from the eigenvalues of F (Tian et al. 2021)",
        rule="directpred",
        rule_options={"eps": 0.1, "spectrum": "normalized", "solver": "eigh"},
    ),
    "directcopy": Method(
        "W_p set to F itself, normalised (Wang et al. 2021)",
        rule="directcopy",
        rule_options={"eps": 0.3, "norm": "fro"},
        rho=0.5,
    ),
}
"""Every method by name. A new predictor rule is one function and one entry here."""

RULE_OPTIONS = ("eps", "spectrum", "solver", "norm")
YOUNG = {"bn_groups": 1}
"""Fields that older records do not have, with the value that they stand for; it changes no fingerprint."""
NO_SETTINGS = ("seed", "data_dir", "experiment", "probe_untrained", "record_every", "deterministic")


@dataclass(frozen=True)
class Config:
    """Everything that decides the outcome of a run; the defaults are the report's setting.

    `selfsup.utils.options` explains each field. One left at None takes the method's own value; after
    construction None means "does not apply" (`tau` without EMA, `eps` of a trained predictor).
    `Config(**config.to_dict()) == config`. BYOL without EMA is SimSiam and is stored as such.

    Raises:
        InputError: a field has the wrong type or range, or does not apply to the method.
    """

    method: str = "directpred"
    ema: bool | None = None
    symmetric: bool = False
    freq: int | None = None
    eps: float | None = None
    rho: float | None = None
    tau: float | None = None
    spectrum: str | None = None
    solver: str | None = None
    norm: str | None = None
    projector_layers: int = 2
    bn_groups: int = 1
    learning_rate: float = 0.03
    predictor_learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float = 4e-4
    predictor_weight_decay: float | None = None
    batch_size: int = 128
    epochs: int = 100
    probe_epochs: int = 100
    probe_untrained: bool = False
    width: int = 64
    precision: str = "auto"
    deterministic: bool = False
    record_every: int = 5
    seed: int = 0
    dataset: str = "cifar10"
    data_dir: str | None = None
    experiment: str | None = None

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None or getattr(Config, name) is not None:
                object.__setattr__(self, name, option.check(name, value))
        if self.method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.method == "simsiam" and self.ema:
            raise InputError("ema: simsiam with an EMA target is byol; use method byol")
        if self.method == "byol" and self.ema is False:
            object.__setattr__(self, "method", "simsiam")
        method = METHODS[self.method]
        if self.symmetric and method.rule:
            raise InputError(f"symmetric does not apply: {self.method} sets a W_p that is symmetric already")
        self._fill("ema", method.ema)
        self._fill("rho", method.rho)
        self._fill("tau", 0.996, None if self.ema else "there is no EMA target")
        trained = f"{self.method} trains its predictor by gradient"
        self._fill("freq", 1, None if method.rule else trained)
        for name in RULE_OPTIONS:
            unused = f"the rule of {self.method} has no {name}" if method.rule else trained
            self._fill(name, method.rule_options.get(name), None if name in method.rule_options else unused)
        untrained = None if self.trains_predictor else f"{self.method} sets W_p at every step"
        self._fill("predictor_learning_rate", self.learning_rate, untrained)
        self._fill("predictor_weight_decay", self.weight_decay, untrained)

    def _fill(self, name: str, default: Any, obstacle: str | None = None) -> None:
        """Gives an unset field its default, or refuses a set one that has no meaning here."""
        given = getattr(self, name) is not None
        if given and obstacle:
            raise InputError(f"{name} does not apply: {obstacle}; leave it out")
        if not given and not obstacle:
            object.__setattr__(self, name, default)

    @property
    def trains_predictor(self) -> bool:
        """Whether gradient steps change W_p: always without a rule, else between its settings."""
        return not METHODS[self.method].rule or self.freq > 1

    @property
    def title(self) -> str:
        """The experiment's name, or else the method's."""
        return self.experiment or self.method

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that decide the accuracy but for chance: no seed, no name, no choice of records."""
        return {k: v for k, v in self.to_dict().items() if k not in NO_SETTINGS}

    @property
    def fingerprint(self) -> str:
        """Eight hex digits, shared by two configs only if they differ in nothing but seed or name."""
        settings = {k: v for k, v in self.settings.items() if k not in YOUNG or v != YOUNG[k]}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def default_workdir(self) -> Path:
        """`runs/<experiment or method>-<fingerprint>/<seed>`: two settings never meet."""
        return Path("runs") / f"{self.title}-{self.fingerprint}" / str(self.seed)
