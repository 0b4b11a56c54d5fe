"""The evaluation of a run: linear probes and a weighted k-NN on features of the frozen backbone."""

from collections.abc import Sequence

import keras

from selfsup.analysis import probe
from selfsup.analysis.encoder import PROJECTION
from selfsup.config import Config
from selfsup.data.dataset import Dataset
from selfsup.training.pretrain import Pretrained
from selfsup.utils.clock import Clock


def evaluate(config: Config, data: Dataset, trained: Pretrained, clock: Clock) -> dict[str, float | None]:
    """Returns the test accuracies in percent by name, see `Result.accuracy`.

    They are None if training diverged. Without labels there are none.
    """
    if not data.labelled:
        return {}
    model = trained.model
    names = (*(name for name in trained.probed.output if name != PROJECTION), "knn")
    accuracy: dict[str, float | None] = dict.fromkeys(names)
    if not trained.diverged:
        accuracy |= _accuracies(trained.probed, data, config, names, clock)
    if config.probe_untrained:
        weights = model.backbone.get_weights()
        model.backbone.set_weights(trained.untrained)
        accuracy["untrained_linear"] = _accuracies(trained.probed, data, config, ("linear",), clock)["linear"]
        model.backbone.set_weights(weights)
    return accuracy


def _accuracies(
    probed: keras.Model, data: Dataset, config: Config, names: Sequence[str], clock: Clock
) -> dict[str, float]:
    """Returns accuracies by name: "knn" on the backbone's features, others by a probe of that output."""
    x_test, y_train, y_test = data.x_test, data.y_train, data.y_test
    assert x_test is not None
    assert y_train is not None
    assert y_test is not None
    with clock.phase("probe"):
        train, test = (probe.embed(probed, x, data.mean, data.std) for x in (data.x_train, x_test))
    train["knn"], test["knn"] = train["linear"], test["linear"]
    accuracy = {}
    for name in names:
        features = (train[name], y_train, test[name], y_test)
        with clock.phase("knn" if name == "knn" else "probe"):
            if name == "knn":
                accuracy[name] = probe.knn(*features)
            else:
                accuracy[name] = probe.linear_probe(*features, config.probe_epochs, seed=config.seed)
    return {name: round(value, 2) for name, value in accuracy.items()}
