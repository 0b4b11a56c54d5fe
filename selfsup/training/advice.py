"""What is wrong with a collapsed run, and which changes of its settings may help.

Sources of the changes:
- an EMA target, a predictor without symmetry, and a higher learning rate of the predictor: paper, section
  5.2, Table 1 and Figure 4; Tian et al. 2021, arXiv:2102.06810; on the predictor's rate also Chen & He 2020,
  arXiv:2011.10566;
- a weight decay on the predictor, and collapse under a large one: Table 3 of the article by the paper's
  authors, DOI 10.5281/zenodo.6574659; Tian et al. 2021.
docs/collapse.md has measurements, from which the order follows. Left out are a learning rate below the usual
one and IsoLoss, which did not help there (Halvagal et al. 2023, arXiv:2212.04858, change more than the loss),
and eps, with which accuracies vary little (Tian et al. 2021, Table 6).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfsup.collapse import RANK, STD
from selfsup.config import Config


@dataclass(frozen=True)
class Remedy:
    """A change of settings that may prevent a collapse.

    Attributes:
        changes: new values of fields of `Config`.
        why: what the change does, as text.

    Example:
        >>> Remedy({"ema": True, "learning_rate": 0.003}, "").flags
        '--ema --learning_rate=0.003'
    """

    changes: Mapping[str, Any]
    why: str

    @property
    def flags(self) -> str:
        """The change as flags of the command line."""
        return " ".join(map(_flag, self.changes, self.changes.values()))


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={value:g}" if isinstance(value, float) else f"--{name}={value}"


_WITH_EMA: dict[str, dict[str, Any]] = {"simsiam": {"method": "byol", "ema": True}}
"""Methods whose counterpart with an EMA target has a name of its own."""
_LARGE = 10
"""A weight decay or learning rate of at least this many times the paper's is the first suspect."""


def remedies(config: Config) -> Iterator[Remedy]:
    """Yields the changes that apply to a config, the most promising first.

    Settings far from the published ones come first, then the target and the form of W_p, then rates.

    Example:
        >>> [remedy.flags for remedy in remedies(Config(method="simsiam", symmetric=True))][:2]
        ['--method=byol --ema', '--nosymmetric']
    """
    resolved = config.resolved
    slow = resolved.trains_predictor and resolved.predictor_learning_rate < config.learning_rate
    if config.weight_decay >= _LARGE * Config.weight_decay:
        yield Remedy({"weight_decay": Config.weight_decay}, "the paper's; more shrinks all weights to zero")
    if config.learning_rate >= _LARGE * Config.learning_rate:
        yield Remedy({"learning_rate": Config.learning_rate}, "the paper's")
    if slow:
        yield Remedy({"predictor_learning_rate": config.learning_rate}, "W_p keeps up with the network")
    if resolved.trains_predictor and resolved.predictor_weight_decay == 0:
        yield Remedy({"predictor_weight_decay": Config.weight_decay}, "W_p aligns with the projections")
    if not resolved.ema:
        yield Remedy(_WITH_EMA.get(config.method, {"ema": True}), "the target follows the network slowly")
    if config.symmetric:
        yield Remedy({"symmetric": False}, "W_p is trained without a constraint")
    if resolved.trains_predictor and not slow:
        rate = float(f"{10 * resolved.predictor_learning_rate:g}")
        yield Remedy({"predictor_learning_rate": rate}, "W_p learns faster than the network")


def advice(config: Config, row: Mapping[str, float | None]) -> list[str]:
    """Returns lines of text that say what is wrong with a collapsed run, and what may help.

    Args:
        config: the settings of the run.
        row: a row of `log.csv` by its names, of an epoch by which the run has collapsed.
    """
    values = {name: value for name, value in row.items() if value is not None}
    found = []
    if values.get("embedding_std", STD) < STD:
        found.append("  the projections are nearly constant (low std)")
    if values.get("effective_rank", RANK) < RANK:
        found.append("  the projections use few directions (low rank)")
    pieces = list(remedies(config))
    if not pieces:
        return [*found, "  all settings are near the published ones; another --method may help"]
    width = max(len(remedy.flags) for remedy in pieces)
    lines = [f"    {remedy.flags:<{width}}  {remedy.why}" for remedy in pieces]
    return [*found, "  what may help, the most promising first:", *lines]
