"""The components of a run that a user can replace: backbone, augmentation and loss."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from selfsup.losses import Loss
from selfsup.model import Views
from selfsup.networks.backbones import Backbone


@dataclass(frozen=True)
class Components:
    """Arguments of `SiameseModel` that replace the paper's components; None keeps the paper's."""

    backbone: Backbone | None = None
    augmentation: Views | None = None
    loss: Loss | None = None

    def describe(self) -> dict[str, str]:
        """Returns a description of each replaced component by name; it is part of a run's identity."""
        return {name: _describe(value) for name, value in vars(self).items() if value is not None}


def _describe(component: Any) -> str:
    if isinstance(component, keras.Model):
        return f"{component.name} {hashlib.sha256(component.to_json().encode()).hexdigest()[:8]}"
    if hasattr(component, "__qualname__"):
        return f"{component.__module__}.{component.__qualname__}"
    return repr(component)


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Returns the differences between two descriptions as text, or "" if there are none."""
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return "; ".join(
        f"{name} {found.get(name, 'the default')} there, {wanted.get(name, 'the default')} here"
        for name in names
    )
