"""Runs a few steps on this process' backend from given weights and views, and saves what came of them.

    python parity_steps.py CONFIG_JSON INPUT.npz OUTPUT.npz

INPUT.npz: view1, view2 [S, B, 32, 32, 3]; with the array `start`, the weights in the model's order follow
as w0, w1, ...; without it the model's own first weights are saved to OUTPUT.npz as such.
"""

import json
import sys

import keras
import numpy as np
from keras import ops

from selfsup.config import Config
from selfsup.devices import jit_compile
from selfsup.model import SiameseModel
from selfsup.optimizers import from_config


def main(config_json: str, source: str, target: str) -> None:
    config = Config(**json.loads(config_json))
    keras.utils.set_random_seed(0)
    model = SiameseModel(config)
    model.compile(optimizer=from_config(config), jit_compile=jit_compile())
    arrays = np.load(source)
    if "start" in arrays:
        model.set_weights([arrays[f"w{n}"] for n in range(len(model.weights))])
    found = {f"w{n}": w for n, w in enumerate(model.get_weights())}
    found["start"] = np.array(1)
    losses = []
    for views in zip(arrays["view1"], arrays["view2"], strict=True):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(views, return_dict=True)["loss"]))
    for variable in model.weights:
        found[f"end:{variable.path}"] = ops.convert_to_numpy(variable)
    np.savez(target, losses=np.array(losses), predictor=model.predictor_weight(), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
