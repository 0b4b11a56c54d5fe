"""The evaluation of a network while it trains, on a fixed sample of the images."""

from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup import quality
from selfsup.analysis.encoder import PROJECTION
from selfsup.analysis.probe import embed, knn
from selfsup.augment import Augmentation
from selfsup.backend.step import sync
from selfsup.data.dataset import Dataset
from selfsup.model import SiameseModel
from selfsup.records.moments import is_due

TRAIN, TEST, VIEWED = (5000, 4), (2000, 2), (500, 40)
"""Images for k-NN and RankMe, test images for k-NN, and images for LiDAR and the views.

(N, D): at most N images, and at most 1 / D of the dataset, so that small runs stay short.
"""
LEAST = 200
"""Smallest sample, unless the dataset has fewer images."""
PAIRS = 5
"""Pairs of views of an image."""
NEIGHBOURS = 20
"""k of the k-NN; the final one has k = 200 for ten times as many images."""


class EarlyEvaluation(keras.callbacks.Callback):
    """Adds measures of the representation to the logs of an epoch: the first, every few, and the last.

    They are `knn` with labels, and `rankme`, `lidar`, `view_alignment` and `uniformity` of the projections z,
    see `selfsup.quality`. Later callbacks find them in their logs, `keras.callbacks.EarlyStopping` for
    example. Images, views and seeds are the same each time, and training does not change.

    Args:
        probed: a model from normalised images to h, `linear`, and z, `projection`; see `probed_model`.
        data: the dataset.
        every: epochs between two evaluations; 0 for none.
        epochs: epochs of the run.
        seed: seed of the views.
    """

    def __init__(self, probed: keras.Model, data: Dataset, every: int, epochs: int, seed: int) -> None:
        super().__init__()
        self.probed, self.data = probed, data
        self.every, self.epochs, self.seed = every, epochs, seed

    def due(self, epoch: int) -> bool:
        """Whether there is an evaluation after `epoch` completed epochs."""
        return self.every > 0 and bool(is_due(epoch, self.every, self.epochs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.due(epoch + 1):
            logs.update(self.measure(self.model))

    def measure(self, model: SiameseModel) -> dict[str, float]:
        """Returns the measures of a network by name, accuracies in percent; none if it has diverged."""
        sync(model)
        data, found = self.data, {}
        chosen = _sample(len(data.x_train), *TRAIN)
        train = embed(self.probed, data.x_train[chosen], data.mean, data.std)
        if not np.isfinite(train[PROJECTION]).all():
            return {}
        if data.y_train is not None and data.x_test is not None and data.y_test is not None:
            tested = _sample(len(data.x_test), *TEST)
            test = embed(self.probed, data.x_test[tested], data.mean, data.std)
            bank, queries = (train["linear"], data.y_train[chosen]), (test["linear"], data.y_test[tested])
            found["knn"] = knn(*bank, *queries, k=NEIGHBOURS)
        views = self._views(model, data.x_train[_sample(len(data.x_train), *VIEWED)])
        return found | {
            "rankme": quality.rankme(train[PROJECTION]),
            "lidar": quality.lidar(views),
            "view_alignment": quality.view_alignment(views),
            "uniformity": quality.uniformity(train[PROJECTION][: TEST[0]]),
        }

    def _views(self, model: SiameseModel, images: np.ndarray) -> np.ndarray:
        """Returns z of views of the images, [N, 2 PAIRS, D]."""
        embedded = []
        for index in range(PAIRS):
            seed = [self.seed, 2**31 - 1 - index]  # steps that no run reaches
            given = seed if isinstance(model.augmentation, Augmentation) else ops.convert_to_tensor(seed)
            pair = model.augmentation(ops.convert_to_tensor(images), given)
            outputs = [self.probed.predict_on_batch(view)[PROJECTION] for view in pair]
            embedded += [np.asarray(z, np.float32) for z in outputs]
        return np.stack(embedded, axis=1)


def _sample(count: int, most: int, part: int) -> np.ndarray:
    """Returns the indices of a sample, the same ones each time, in ascending order."""
    size = min(count, most, max(LEAST, count // part))
    return np.sort(np.random.default_rng(0).permutation(count)[:size])
