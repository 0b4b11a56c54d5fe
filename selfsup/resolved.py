"""The values that a run uses: those given to `Config`, with the defaults of its method and image size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfsup.methods import METHODS, RULE_FIELDS

if TYPE_CHECKING:
    from selfsup.config import Config

DEFAULT_TAU = 0.996
LARGE = 64
"""Pixels per side from which on images get ResNet-18's own stem and blurred views."""

_STRENGTHS = ("flip_rate", "jitter_rate", "brightness", "contrast", "saturation", "hue", "grey_rate")


@dataclass(frozen=True)
class Resolved:
    """The values that a run uses where `Config` leaves them to the method or the image size.

    Attributes:
        method: a name in `METHODS`; "byol" without EMA becomes "simsiam".
        ema: whether the target is a moving average of the online network.
        tau: decay of the target; 0 without EMA, where the target equals the online network.
        rho: decay of F's moving average.
        freq: the rule sets W_p every `freq` steps; 0 without a rule.
        rule_options: keyword arguments of the rule.
        predictor_learning_rate, predictor_weight_decay: of a predictor trained by gradient.
        alpha_p: the predictor's learning rate over that of the networks.
        scheduled: whether the learning rate or tau changes during the run.
        fixed_length: whether that depends on `epochs`, so that a longer run differs in its first epochs, too.
        stem: "small" or "large", see `networks.resnet`.
        augmentation: strengths and rates, as keyword arguments of `Augmentation`.
    """

    method: str
    ema: bool
    tau: float
    rho: float
    freq: int
    rule_options: Mapping[str, Any]
    predictor_learning_rate: float
    predictor_weight_decay: float
    alpha_p: float
    scheduled: bool
    fixed_length: bool
    stem: str
    augmentation: Mapping[str, Any]

    @property
    def trains_predictor(self) -> bool:
        """Whether W_p is trained by gradient: always without a rule, otherwise if `freq` is above 1."""
        return self.freq != 1


def resolve(config: "Config") -> Resolved:
    """Returns the values that a run of this config uses."""
    method = METHODS[config.method]
    ema = method.ema if config.ema is None else config.ema
    large = config.image_size >= LARGE
    fields = {name: value for name in RULE_FIELDS if (value := getattr(config, name)) is not None}
    options = {**method.rule_options, **fields, **config.rule_options}
    predictor_rate = config.predictor_learning_rate or config.learning_rate
    fixed_length = "cosine" in (config.schedule, config.tau_schedule)
    return Resolved(
        method="simsiam" if config.method == "byol" and not ema else config.method,
        ema=ema,
        tau=(DEFAULT_TAU if config.tau is None else config.tau) if ema else 0.0,
        rho=method.rho if config.rho is None else config.rho,
        freq=(config.freq or 1) if method.rule else 0,
        rule_options={name: options[name] for name in method.rule_options},
        predictor_learning_rate=predictor_rate,
        predictor_weight_decay=(
            config.weight_decay if config.predictor_weight_decay is None else config.predictor_weight_decay
        ),
        alpha_p=predictor_rate / config.learning_rate,
        scheduled=fixed_length or config.warmup_epochs > 0,
        fixed_length=fixed_length,
        stem=("large" if large else "small") if config.stem == "auto" else config.stem,
        augmentation={
            "crop_area": (config.crop_min, 1.0),
            "blur": (1.0 if large else 0.0) if config.blur is None else config.blur,
            **{name: getattr(config, name) for name in _STRENGTHS},
        },
    )
