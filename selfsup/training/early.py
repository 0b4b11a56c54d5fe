"""The evaluation of a network while it trains, on a fixed sample of the images."""

from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup import quality
from selfsup.analysis.probe import embed, knn
from selfsup.augment import Augmentation
from selfsup.backend.devices import jit_compile
from selfsup.data.dataset import Dataset
from selfsup.model import SiameseModel
from selfsup.records.moments import is_due

TRAIN, TEST = 5000, 2000
"""Images for k-NN and RankMe, and test images for k-NN."""
IMAGES, PAIRS = 500, 5
"""Images for LiDAR and the views, and pairs of views of each."""
NEIGHBOURS = 20
"""k of the k-NN; the final one has k = 200 for ten times as many images."""


class EarlyEvaluation(keras.callbacks.Callback):
    """Adds measures of the representation to the logs of an epoch: the first, every few, and the last.

    They are `knn` with labels, and `rankme`, `lidar`, `view_alignment` and `uniformity` of the projections z,
    see `selfsup.quality`. Later callbacks find them in their logs, `keras.callbacks.EarlyStopping` for
    example. Images, views and seeds are the same each time, and training does not change.

    Args:
        data: the dataset.
        every: epochs between two evaluations; 0 for none.
        epochs: epochs of the run.
        seed: seed of the views.
    """

    def __init__(self, data: Dataset, every: int, epochs: int, seed: int) -> None:
        super().__init__()
        self.data, self.every, self.epochs, self.seed = data, every, epochs, seed
        self._network: keras.Model | None = None

    def due(self, epoch: int) -> bool:
        """Whether there is an evaluation after so many completed epochs."""
        return self.every > 0 and bool(is_due(epoch, self.every, self.epochs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.due(epoch + 1):
            logs.update(self.measure(self.model))

    def measure(self, model: SiameseModel) -> dict[str, float]:
        """Returns the measures of a network by name; accuracies in percent."""
        getattr(model, "jax_state_sync", lambda: None)()  # JAX updates the variables only on request
        network = self._network = self._network or _network(model)
        data, found = self.data, {}
        chosen = _sample(len(data.x_train), TRAIN)
        train = embed(network, data.x_train[chosen], data.mean, data.std)
        if data.y_train is not None and data.x_test is not None and data.y_test is not None:
            tested = _sample(len(data.x_test), TEST)
            test = embed(network, data.x_test[tested], data.mean, data.std)
            bank, queries = (train["h"], data.y_train[chosen]), (test["h"], data.y_test[tested])
            found["knn"] = knn(*bank, *queries, k=NEIGHBOURS)
        views = self._views(model, network, data.x_train[_sample(len(data.x_train), IMAGES)])
        return found | {
            "rankme": quality.rankme(train["z"]),
            "lidar": quality.lidar(views),
            "view_alignment": quality.view_alignment(views),
            "uniformity": quality.uniformity(train["z"][:TEST]),
        }

    def _views(self, model: SiameseModel, network: keras.Model, images: np.ndarray) -> np.ndarray:
        """Returns z of views of the images, [N, 2 PAIRS, D]."""
        embedded = []
        for index in range(PAIRS):
            seed = [self.seed, 2**31 - 1 - index]  # steps that no run reaches
            given = seed if isinstance(model.augmentation, Augmentation) else ops.convert_to_tensor(seed)
            pair = model.augmentation(ops.convert_to_tensor(images), given)
            embedded += [np.asarray(network.predict_on_batch(view)["z"], np.float32) for view in pair]
        return np.stack(embedded, axis=1)


def _network(model: SiameseModel) -> keras.Model:
    """Returns the online network as a model from normalised images to h and z."""
    h = model.backbone.outputs[0]
    network = keras.Model(model.backbone.inputs[0], {"h": h, "z": model.projector(h)}, name="online")
    network.compile(jit_compile=jit_compile())
    return network


def _sample(count: int, size: int) -> np.ndarray:
    """Returns up to `size` of `count` indices, the same ones each time, in ascending order."""
    return np.sort(np.random.default_rng(0).permutation(count)[:size])
