"""The methods: how each one sets or trains the predictor W_p, and what its target is; and the losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from selfsup.utils.errors import InputError
from selfsup.utils.options import Option


@dataclass(frozen=True)
class Method:
    """A way to prevent the collapse of siamese networks without negative pairs.

    Attributes:
        summary: one line for `--help`.
        predictor_layers: 1 for a linear W_p, 2 for Dense-BN-ReLU-Dense.
        ema: whether the target is, by default, a moving average of the online network.
        rule: the function that sets W_p from the correlation F: its name in `selfsup.predictors`, or a
            function `rule(correlation, **rule_options)` from [D, D] to [D, D]. None if W_p is trained by
            gradient.
        rule_options: the rule's keyword arguments with their defaults. Those that are not fields of `Config`
            are set by `Config(rule_options={...})`, and each has its flag.
        rho: default decay of F's moving average, in [0, 1).
        options: help texts and accepted values of rule options that are not fields of `Config`.

    Raises:
        InputError: there is a rule, and the predictor has more than one layer.

    Example:
        >>> method = Method("W_p = c * F", rule=lambda f, c: c * f, rule_options={"c": 2.0})
        >>> method.ema, method.rho
        (True, 0.3)
    """

    summary: str
    predictor_layers: int = 1
    ema: bool = True
    rule: str | Callable | None = None
    rule_options: Mapping[str, Any] = field(default_factory=dict)
    rho: float = 0.3
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rule and self.predictor_layers != 1:
            raise InputError(f"a rule needs predictor_layers=1, a linear W_p, not {self.predictor_layers}")


METHODS: dict[str, Method] = {
    "byol": Method("two-layer predictor, EMA target (Grill et al. 2020)", predictor_layers=2),
    "simsiam": Method("two-layer predictor, target = online (Chen & He 2020)", predictor_layers=2, ema=False),
    "sgd": Method("linear predictor trained by SGD, the baseline of the direct rules"),
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
    "directset": Method(
        "W_p set to a power of F, normalised (Wang et al. 2021)",
        rule="directset",
        rule_options={"alpha": 0.5, "eps": 0.01},
        options={
            "alpha": Option(
                "directset: power of F's eigenvalues; 0.5 is near directpred, 1 near directcopy",
                low=0,
                open_low=True,
            )
        },
    ),
}
"""All methods by name. A new predictor rule needs one function and one entry here."""
RULE_FIELDS = ("eps", "spectrum", "solver", "norm")
"""Rule options that are fields of `Config`."""


@dataclass(frozen=True)
class PairLoss:
    """A loss of the predictions of one view and the targets of the other.

    Attributes:
        function: its name in `selfsup.losses`.
        needs_rule: whether it assumes a symmetric and constant W_p: a rule must then set it at every step.
    """

    function: str
    needs_rule: bool = False


LOSSES: dict[str, PairLoss] = {
    "cosine": PairLoss("symmetric_negative_cosine"),
    "euclidean": PairLoss("symmetric_euclidean"),
    "isoloss": PairLoss("isoloss", needs_rule=True),
}
"""All losses by name."""
