"""Runs a few steps of several configs on this process' backend, and saves what came of them.

    python parity_steps.py CONFIGS_JSON VIEWS.npz FOLDER [START_FOLDER]

CONFIGS_JSON: fields of `Config` by name; NAME.npz in the folder is what came of them. VIEWS.npz: view1, view2
[S, B, 32, 32, 3], the last `STEPS` of which are compared. The weights before them, w0, w1, ... in the model's
order, come from NAME.npz in the start folder. Without one the model is first trained on the earlier views,
out of the steep start where rounding grows a thousandfold in a few steps.
"""

import dataclasses
import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from selfsup.config import Config
from selfsup.model import SiameseModel
from selfsup.networks import resnet
from selfsup.optimizers import from_config

STEPS = 3
Views = list[tuple[np.ndarray, np.ndarray]]


def steps(config: Config, views: Views, start: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Weights before and after the last steps, their losses, and the predictor."""
    keras.utils.set_random_seed(0)
    model = SiameseModel(config)
    if start:
        model.set_weights([start[f"w{n}"] for n in range(len(model.weights))])
    else:
        model.compile(from_config(dataclasses.replace(config, learning_rate=0.03)))
        for pair in views[:-STEPS]:
            model.train_on_batch(pair)
    model.compile()
    found = {f"w{n}": w for n, w in enumerate(model.get_weights())}
    losses = []
    for pair in views[-STEPS:]:
        model.reset_metrics()
        losses.append(float(model.train_on_batch(pair, return_dict=True)["loss"]))
    for variable in model.weights:
        found[f"end:{variable.path}"] = ops.convert_to_numpy(variable)
    return {"losses": np.array(losses), "predictor": model.predictor_weight(), **found}


def main(configs: str, source: str, target: str, start: str | None = None) -> None:
    resnet.BLOCKS_PER_STAGE = 1  # all stages and both kinds of block, at half the time to compile
    arrays = np.load(source)
    views = list(zip(arrays["view1"], arrays["view2"], strict=True))
    for name, fields in json.loads(configs).items():
        before = dict(np.load(Path(start) / f"{name}.npz")) if start else None
        np.savez(Path(target) / f"{name}.npz", **steps(Config(**fields), views, before))


if __name__ == "__main__":
    main(*sys.argv[1:])
