"""The methods by name: how each makes the predictor W_p and the target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """A way to keep siamese networks from collapsing.

    Attributes:
        summary: one line for `--help`.
        predictor_layers: 1 for a linear W_p, 2 for Dense-BN-ReLU-Dense.
        ema: whether the target is, by default, a moving average of the online network.
        rule: what sets W_p from the correlation F, or None where gradients train W_p: the name of a
            function of `selfsup.predictors`, or any function `rule(correlation, **rule_options) -> W_p`.
        rule_options: the rule's keyword arguments with their defaults. Those that are no field of `Config`
            are set by `Config(rule_options={...})` and by flags of their own.
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
