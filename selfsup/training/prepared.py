"""A run before its first step."""

import math
from dataclasses import dataclass

from selfsup.backend.devices import resolve_precision
from selfsup.config import Config
from selfsup.data.dataset import Dataset
from selfsup.training.components import Components
from selfsup.training.context import Context
from selfsup.training.pretrain import Setup


@dataclass(frozen=True)
class Prepared:
    """Everything that a run needs for its training: config, data, model, callbacks, devices and folder."""

    config: Config
    data: Dataset
    components: Components
    context: Context
    setup: Setup

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(math.prod(v.shape) for v in self.setup.model.trainable_variables)

    @property
    def precision(self) -> str:
        """Name of the dtype policy."""
        return resolve_precision(self.config.precision)
