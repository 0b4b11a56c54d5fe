"""Siamese networks without negative pairs in Keras 3, and why they do not collapse.

  - Train: `Config` or `make_config` (presets, experiments), then `run`, which returns a `Result`; or
    `SiameseModel` for `fit` alone, with an `Augmentation`.
  - Data: `Dataset`, `load_dataset`.
  - Features: `load_encoder` returns an `Encoder`; `probe` has linear probe and k-NN.
  - Records: `read_result`, `read_log`, `read_eigenspaces` (`Eigenspaces`), `read_dynamics` (`Dynamics`).
  - Figures: `plots`, `gallery`, `theory_plots`. Equations: `theory`.
  - Extend: `METHODS`, `Method`, `predictors`, `losses`, `optimizers`. Measures: `monitor`, `quality`,
    `eigenspace`, `collapse`.
  - Exceptions: `InputError` (a `ValueError`), `Interrupted`, `Collapsed`.

Names load on first use (PEP 562), so that `import selfsup` is fast and imports no backend.
"""

import importlib
import importlib.abc
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers: the names of `_HOME` and `_MODULES`
    from selfsup.analysis import gallery as gallery
    from selfsup.analysis import plots as plots
    from selfsup.analysis import probe as probe
    from selfsup.analysis import theory as theory
    from selfsup.analysis import theory_plots as theory_plots
    from selfsup.analysis.encoder import Encoder as Encoder
    from selfsup.analysis.encoder import load_encoder as load_encoder
    from selfsup.augment import Augmentation as Augmentation
    from selfsup.backend import devices as devices
    from selfsup.collapse import Collapsed as Collapsed
    from selfsup.config import Config as Config
    from selfsup.data.dataset import Dataset as Dataset
    from selfsup.data.load import load_dataset as load_dataset
    from selfsup.methods import METHODS as METHODS
    from selfsup.methods import Method as Method
    from selfsup.model import SiameseModel as SiameseModel
    from selfsup.networks.resnet import resnet18 as resnet18
    from selfsup.records.dynamics import Dynamics as Dynamics
    from selfsup.records.dynamics import read_dynamics as read_dynamics
    from selfsup.records.recordings import Eigenspaces as Eigenspaces
    from selfsup.records.recordings import read_eigenspaces as read_eigenspaces
    from selfsup.records.recordings import read_log as read_log
    from selfsup.records.results import Result as Result
    from selfsup.records.results import read_result as read_result
    from selfsup.reproduction.registry import EXPERIMENTS as EXPERIMENTS
    from selfsup.reproduction.registry import PRESETS as PRESETS
    from selfsup.reproduction.registry import make_config as make_config
    from selfsup.training.run import run as run
    from selfsup.utils.errors import InputError as InputError
    from selfsup.utils.interrupts import Interrupted as Interrupted

__version__ = "0.1.0"

# TensorFlow enables oneDNN by default on some CPUs only; without it, a step takes three times as long.
ASKED_FOR_ONEDNN = "tensorflow" not in sys.modules or "TF_ENABLE_ONEDNN_OPTS" in os.environ
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOME = {
    "Augmentation": "augment",
    "Collapsed": "collapse",
    "Config": "config",
    "Dataset": "data.dataset",
    "METHODS": "methods",
    "Method": "methods",
    "EXPERIMENTS": "reproduction.registry",
    "PRESETS": "reproduction.registry",
    "make_config": "reproduction.registry",
    "InputError": "utils.errors",
    "Interrupted": "utils.interrupts",
    "SiameseModel": "model",
    "Dynamics": "records.dynamics",
    "Eigenspaces": "records.recordings",
    "Encoder": "analysis.encoder",
    "Result": "records.results",
    "load_dataset": "data.load",
    "load_encoder": "analysis.encoder",
    "read_dynamics": "records.dynamics",
    "read_eigenspaces": "records.recordings",
    "read_log": "records.recordings",
    "read_result": "records.results",
    "resnet18": "networks.resnet",
    "run": "training.run",
}
_MODULES = {
    "augment": "augment",
    "collapse": "collapse",
    "devices": "backend.devices",
    "eigenspace": "eigenspace",
    "gallery": "analysis.gallery",
    "losses": "losses",
    "monitor": "monitor",
    "optimizers": "optimizers",
    "plots": "analysis.plots",
    "predictors": "predictors",
    "probe": "analysis.probe",
    "quality": "quality",
    "theory": "analysis.theory",
    "theory_plots": "analysis.theory_plots",
}

__all__ = [*_HOME, *_MODULES]


class _Aliases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `from selfsup.plots import eigenspaces` work for modules that live in a sub-package."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith("selfsup.") and _home(name) != name else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(_home(module.__name__))


def _home(name: str) -> str:
    """Returns the full name of a module; `name` may be an alias or start with one."""
    first, _, rest = name.removeprefix("selfsup.").partition(".")
    return ".".join(filter(None, ("selfsup", _MODULES.get(first, first), rest)))


sys.meta_path.insert(0, _Aliases())  # first, so that no module of an aliased package loads twice


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"selfsup.{_MODULES[name]}")
    if name in _HOME:
        return getattr(importlib.import_module(f"selfsup.{_HOME[name]}"), name)
    raise AttributeError(f"module 'selfsup' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
