"""What a researcher swaps: backbone, augmentation and loss of a run, and how a record names them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from selfsup.model import Loss, Views
from selfsup.networks.backbones import Backbone


@dataclass(frozen=True)
class Parts:
    """Arguments of `SiameseModel` that stand in for the paper's; None keeps the paper's."""

    backbone: Backbone | None = None
    augmentation: Views | None = None
    loss: Loss | None = None

    def describe(self) -> dict[str, str]:
        """A text for each part that is swapped: two runs with other texts are not the same run."""
        return {name: _describe(part) for name, part in vars(self).items() if part is not None}


def _describe(part: Any) -> str:
    if isinstance(part, keras.Model):
        return f"{part.name} {hashlib.sha256(part.to_json().encode()).hexdigest()[:8]}"
    if hasattr(part, "__qualname__"):
        return f"{part.__module__}.{part.__qualname__}"
    return repr(part)


def check_same(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """How two descriptions differ, as text, or ""."""
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return "; ".join(
        f"{name} {found.get(name, 'the default')} there, {wanted.get(name, 'the default')} here"
        for name in names
    )
