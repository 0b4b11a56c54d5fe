"""Which settings apply together: what does not apply to a config's method is refused, not ignored."""

from typing import TYPE_CHECKING, Any

from selfsup.methods import LOSSES, METHODS, RULE_FIELDS
from selfsup.utils.errors import InputError

if TYPE_CHECKING:
    from selfsup.config import Config


def check_applicable(config: "Config") -> None:
    """Checks that all fields given to a config apply to its method.

    Raises:
        InputError: a field does not apply.
    """

    def reject(name: str, reason: str) -> None:
        if name in config.rule_options or getattr(config, name, None) is not None:
            raise InputError(f"{name} does not apply: {reason}; leave it out")

    if fields := sorted(config.rule_options.keys() & set(RULE_FIELDS)):
        raise InputError(f"rule_options: {fields[0]} is a field of Config; pass it as {fields[0]}=")
    method, resolved = METHODS[config.method], config.resolved
    if config.method == "simsiam" and config.ema:
        raise InputError("ema: simsiam with an EMA target is byol; use method byol")
    if config.symmetric and not resolved.trains_predictor:
        raise InputError(f"symmetric does not apply: W_p of {config.method} is symmetric; leave it out")
    trained = f"{config.method} trains its predictor by gradient"
    if not resolved.ema:
        reject("tau", "there is no EMA target")
        if config.tau_schedule != "constant":
            raise InputError("tau_schedule does not apply: there is no EMA target; leave it out")
    if not method.rule:
        reject("freq", trained)
    for name in {*RULE_FIELDS, *config.rule_options} - set(method.rule_options):
        reject(name, f"the rule of {config.method} has no {name}" if method.rule else trained)
    if LOSSES[config.loss].needs_rule and resolved.trains_predictor:
        raise InputError(f"loss {config.loss} needs a method with a rule, such as directpred, and freq 1")
    if not resolved.trains_predictor:
        for name in ("predictor_learning_rate", "predictor_weight_decay"):
            reject(name, f"{config.method} sets W_p at every step")
    if config.warmup_epochs >= config.epochs:
        raise InputError(
            f"warmup_epochs must be below the number of epochs ({config.epochs}), not {config.warmup_epochs}"
        )


def check_components(config: "Config", augmentation: Any, loss: Any) -> None:
    """Checks that a config does not ask for something else than the given components.

    Raises:
        InputError: it has a loss or strengths of the augmentation, too.
    """
    usual = type(config)(image_size=config.image_size)
    if loss and config.loss != usual.loss:
        raise InputError(f"loss: a function is given, and {config.loss} in the config; drop one")
    if augmentation and config.resolved.augmentation != usual.resolved.augmentation:
        raise InputError("augmentation: one is given, and other strengths in the config; drop one")
