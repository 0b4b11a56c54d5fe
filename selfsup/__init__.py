"""Siamese networks without negative pairs in Keras 3: train them, probe them, see why they hold.

Names load on first use (PEP 562), so that importing the package costs nothing.
"""

import importlib
import os
import sys
from typing import Any

__version__ = "0.1.0"

# TensorFlow asks for oneDNN by itself only on some CPUs; on others a step takes three times as long without.
ASKED_FOR_ONEDNN = "tensorflow" not in sys.modules or "TF_ENABLE_ONEDNN_OPTS" in os.environ
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOME = {
    "Config": "config",
    "METHODS": "config",
    "Method": "config",
    "EXPERIMENTS": "registry",
    "PRESETS": "registry",
    "make_config": "registry",
    "InputError": "errors",
    "Interrupted": "interrupts",
    "SiameseModel": "model",
    "Eigenspaces": "recordings",
    "Encoder": "encoder",
    "Report": "report",
    "load_dataset": "datasets",
    "load_encoder": "encoder",
    "read_eigenspaces": "recordings",
    "read_log": "recordings",
    "read_result": "results",
    "resnet18": "resnet",
    "run": "train",
}
_MODULES = (
    "augment",
    "devices",
    "eigenspace",
    "gallery",
    "losses",
    "monitor",
    "optimizers",
    "plots",
    "predictors",
    "probe",
)

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"selfsup.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"selfsup.{_HOME[name]}"), name)
    raise AttributeError(f"module 'selfsup' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
