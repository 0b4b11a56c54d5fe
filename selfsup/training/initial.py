"""The initial weights of a run that starts from another run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from selfsup.model import SiameseModel
from selfsup.networks.backbones import finalize
from selfsup.records import checkpoints
from selfsup.utils.checksum import checksum
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path


@dataclass(frozen=True)
class InitialWeights:
    """The weights in the last checkpoint of a run.

    Attributes:
        run: the folder of that run.
        networks: weights of backbone and projector, followed by others.
        predictor: weights of the predictor.
    """

    run: Path
    networks: Sequence[np.ndarray]
    predictor: Sequence[np.ndarray]

    @classmethod
    def read(cls, run: str | Path) -> "InitialWeights":
        """Reads them.

        Raises:
            InputError: the folder holds no checkpoint.
        """
        run = user_path("init_from", str(run))
        checkpoint = checkpoints.latest(run, {}) if run.is_dir() else None
        if checkpoint is None:
            raise InputError(
                f"init_from: there is no checkpoint in {run}; a run keeps its last one unless that has more "
                "than 500 MB or --nokeep_checkpoint was given"
            )
        weights = [(name.split(" ", 1)[1], array) for name, array in checkpoint.variables().items()]
        networks = [array for path, array in weights if not path.startswith("siamese/")]  # online ones first
        predictor = [array for path, array in weights if path.startswith("predictor/")]
        return cls(run, networks, predictor)

    def __repr__(self) -> str:
        """Describes the weights, not the path, as part of the identity of the run that starts from them."""
        return f"weights {checksum(self.networks)[:8]}"

    def assign(self, model: SiameseModel) -> None:
        """Sets backbone, projector and target, and the predictor if it has the same shape.

        F and the optimizer start as in any run.

        Raises:
            InputError: the other run has another backbone or projector.
        """
        online = [*model.backbone.weights, *model.projector.weights]
        if not _fits(online, self.networks[: len(online)]):
            raise InputError(f"init_from: the run in {self.run} has another backbone or projector")
        _assign(online, self.networks)
        if model.target_backbone is not None and model.target_projector is not None:
            _assign([*model.target_backbone.weights, *model.target_projector.weights], self.networks)
            finalize(model.target_backbone)
        finalize(model.backbone)
        if _fits(model.predictor.weights, self.predictor):
            _assign(model.predictor.weights, self.predictor)


def _fits(variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> bool:
    return [tuple(v.shape) for v in variables] == [a.shape for a in arrays]


def _assign(variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=False):
        variable.assign(ops.convert_to_tensor(array))
