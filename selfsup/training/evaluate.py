"""The evaluation of a run: linear probes and a weighted k-NN on features of the frozen backbone."""

from collections.abc import Sequence

from selfsup.analysis import probe
from selfsup.analysis.encoder import PROJECTION
from selfsup.training.prepared import Prepared


def evaluate(prepared: Prepared, diverged: bool) -> dict[str, float | None]:
    """Returns the test accuracies in percent by name, see `Result.accuracy`.

    They are None if training diverged. Without labels there are none.
    """
    if not prepared.data.labelled:
        return {}
    setup, backbone = prepared.setup, prepared.setup.model.backbone
    names = (*(name for name in setup.probed.output if name != PROJECTION), "knn")
    accuracy: dict[str, float | None] = dict.fromkeys(names)
    if not diverged:
        accuracy |= _accuracies(prepared, names)
    if prepared.config.probe_untrained:
        weights = backbone.get_weights()
        backbone.set_weights(setup.untrained)
        accuracy["untrained_linear"] = _accuracies(prepared, ("linear",))["linear"]
        backbone.set_weights(weights)
    return accuracy


def _accuracies(prepared: Prepared, names: Sequence[str]) -> dict[str, float]:
    """Returns accuracies by name: "knn" on the backbone's features, others by a probe of that output."""
    config, data, clock = prepared.config, prepared.data, prepared.context.clock
    x_test, y_train, y_test = data.x_test, data.y_train, data.y_test
    assert x_test is not None
    assert y_train is not None
    assert y_test is not None
    with clock.phase("probe"):
        train, test = (
            probe.embed(prepared.setup.probed, x, data.mean, data.std) for x in (data.x_train, x_test)
        )
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
