"""Takes a few steps in float64 on one and on two virtual CPU devices, and saves every variable.

    python device_steps.py CONFIG_JSON TARGET                          TARGET-1.npz and TARGET-2.npz
    python device_steps.py CONFIG_JSON TARGET MACHINE COORDINATOR      one device: TARGET-machines.npz

In float64, rounding stays far below the steps that rounding in float32 grows to: what differs then is wrong.
"""

import json
import sys
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

import selfsup
from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.config import Config
from selfsup.model import SiameseModel
from selfsup.networks import siamese
from selfsup.networks.heads import mlp
from selfsup.training.state import variables
from shallow import make_shallow

BATCH, STEPS = 16, 4


def divide_cpu(count: int) -> None:
    """Lets this process' CPU count as several devices."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", count)
        return
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def use_float64() -> None:
    """Makes float64 of every float32 in the package."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    selfsup.model.check_settings = lambda: None
    cast = ops.cast
    ops.cast = lambda x, dtype: cast(x, "float64" if dtype == "float32" else dtype)
    siamese.resolve_precision = lambda precision: "float64"
    siamese.mlp = lambda inputs, layers, name, *_: mlp(inputs, layers, name, "float64")


def batches() -> Iterator[tuple[tuple[np.ndarray, np.ndarray]]]:
    """Pairs of views, float64 [B, 32, 32, 3]."""
    rng = np.random.default_rng(0)
    while True:
        coarse = rng.normal(size=(2, BATCH, 4, 4, 3))
        view1, other = coarse.repeat(8, axis=2).repeat(8, axis=3)
        yield ((view1, view1 + 0.3 * other),)


def steps(config: Config, devices: Devices) -> dict[str, np.ndarray]:
    """All variables and metrics after the steps."""
    devices.check(config)
    keras.utils.set_random_seed(0)
    feed = devices.feed(lambda: own_batches(devices))
    with devices.scope():
        model = SiameseModel(config)
        model.compile(steps_per_execution=1)
        history = model.fit(feed, steps_per_epoch=STEPS, shuffle=False, verbose=0).history
    arrays = {name: ops.convert_to_numpy(variable) for name, variable in variables(model).items()}
    return {**arrays, **{f"metric {name}": np.array(values) for name, values in history.items()}}


def own_batches(devices: Devices) -> Iterator[tuple[tuple[np.ndarray, ...]]]:
    for ((view1, view2),) in batches():
        yield ((devices.machines.rows(view1), devices.machines.rows(view2)),)


def main(fields: str, target: str, machine: str | None = None, coordinator: str | None = None) -> None:
    divide_cpu(1 if machine else 2)
    use_float64()
    make_shallow()
    config = Config(**{"width": 4, "batch_size": BATCH, **json.loads(fields)})
    machines = Machines.connect(machine, coordinator)
    for count in ("1",) if machine else ("1", "2"):
        found = steps(config, Devices(count, machines))
        if machines.index == 0:
            np.savez(f"{target}-{'machines' if machine else count}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
