"""What a run prints before it trains."""

import keras

from selfsup.backend.devices import lacks_onednn
from selfsup.methods import METHODS
from selfsup.training.prepared import Prepared


def announce(prepared: Prepared) -> None:
    """Prints method, data, network, device and folder of a run, and the step at which it resumes."""
    config, data, context, setup = prepared.config, prepared.data, prepared.context, prepared.setup
    method = METHODS[config.resolved.method]
    details = [config.title, "EMA target" if config.resolved.ema else "no EMA"]
    details += ["symmetric W_p"] if config.symmetric else []
    details += [f"{config.loss} loss"] if config.loss != "cosine" else []
    replaced = prepared.components.described
    network = replaced.get("backbone", f"ResNet-18 of width {config.width}")
    print(f"method   {', '.join(details)}: {method.summary}")
    print(f"data     {data.name}: {data.summary}{'; ' + data.note if data.note else ''}")
    print(f"network  {network}, {prepared.parameters:,} trained parameters")
    for title, name in {
        "views": "augmentation",
        "loss": "loss",
        "optim": "optimizer",
        "start": "init_from",
    }.items():
        if name in replaced:
            print(f"{title:9}{replaced[name]}")
    print(f"device   {context.devices.describe()}, {keras.backend.backend()}, {prepared.precision}")
    if lacks_onednn():
        print("         import selfsup before tensorflow and keras: on this CPU that triples the speed")
    print(f"workdir  {context.workdir}", flush=True)
    if setup.done:
        print(f"resumed  after step {setup.done:,} of {setup.steps:,}", flush=True)
