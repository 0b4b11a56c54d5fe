"""Siamese networks without negative pairs in Keras 3: train them, probe them, see why they hold.

Names load on first use (PEP 562), so that importing the package costs nothing.
"""

import importlib
import importlib.abc
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# TensorFlow asks for oneDNN by itself only on some CPUs; on others a step takes three times as long without.
ASKED_FOR_ONEDNN = "tensorflow" not in sys.modules or "TF_ENABLE_ONEDNN_OPTS" in os.environ
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOME = {
    "Augmentation": "augment",
    "Config": "config",
    "Dataset": "data.datasets",
    "METHODS": "methods",
    "Method": "methods",
    "EXPERIMENTS": "reproduction.registry",
    "PRESETS": "reproduction.registry",
    "make_config": "reproduction.registry",
    "InputError": "utils.errors",
    "Interrupted": "utils.interrupts",
    "SiameseModel": "model",
    "Eigenspaces": "records.recordings",
    "Encoder": "analysis.encoder",
    "Report": "reproduction.report",
    "load_dataset": "data.datasets",
    "load_encoder": "analysis.encoder",
    "read_eigenspaces": "records.recordings",
    "read_log": "records.recordings",
    "read_result": "records.results",
    "resnet18": "networks.resnet",
    "run": "training.run",
}
_MODULES = {
    "augment": "augment",
    "devices": "backend.devices",
    "eigenspace": "eigenspace",
    "gallery": "analysis.gallery",
    "losses": "losses",
    "monitor": "monitor",
    "optimizers": "optimizers",
    "plots": "analysis.plots",
    "predictors": "predictors",
    "probe": "analysis.probe",
}

__all__ = [*_HOME, *_MODULES]


class _Aliases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `from selfsup.plots import eigenspaces` work for modules that live in a sub-package."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        home = _MODULES.get(name.removeprefix("selfsup."))
        return ModuleSpec(name, self) if home and f"selfsup.{home}" != name else None

    def exec_module(self, module: ModuleType) -> None:
        home = _MODULES[module.__name__.removeprefix("selfsup.")]
        sys.modules[module.__name__] = importlib.import_module(f"selfsup.{home}")


sys.meta_path.append(_Aliases())


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"selfsup.{_MODULES[name]}")
    if name in _HOME:
        return getattr(importlib.import_module(f"selfsup.{_HOME[name]}"), name)
    raise AttributeError(f"module 'selfsup' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
