"""Runs a few steps on this process' backend from given weights and views, and saves what came of them.

    python parity_steps.py CONFIG_JSON INPUT.npz OUTPUT.npz

INPUT.npz: view1, view2 [S, B, 32, 32, 3], the last `STEPS` of which are compared. With the array `start`,
the weights follow in the model's order as w0, w1, ...; without it the model is trained on the earlier views
first, out of the steep start where rounding grows a thousandfold in a few steps, and then saved.
"""

import dataclasses
import json
import sys

import keras
import numpy as np
from keras import ops

from selfsup.config import Config
from selfsup.model import SiameseModel
from selfsup.optimizers import from_config

STEPS = 3


def main(config_json: str, source: str, target: str) -> None:
    config = Config(**json.loads(config_json))
    keras.utils.set_random_seed(0)
    arrays = np.load(source)
    views = list(zip(arrays["view1"], arrays["view2"], strict=True))
    model = SiameseModel(config)
    if "start" in arrays:
        model.set_weights([arrays[f"w{n}"] for n in range(len(model.weights))])
    else:
        model.compile(from_config(dataclasses.replace(config, learning_rate=0.03)))
        for pair in views[:-STEPS]:
            model.train_on_batch(pair)
    model.compile()
    found = {f"w{n}": w for n, w in enumerate(model.get_weights())}
    found["start"] = np.array(1)
    losses = []
    for pair in views[-STEPS:]:
        model.reset_metrics()
        losses.append(float(model.train_on_batch(pair, return_dict=True)["loss"]))
    for variable in model.weights:
        found[f"end:{variable.path}"] = ops.convert_to_numpy(variable)
    np.savez(target, losses=np.array(losses), predictor=model.predictor_weight(), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
