"""The devices that share each batch of a run, by the engine that the backend has for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from selfsup.backend import devices
from selfsup.backend.machines import Machines
from selfsup.config import Config
from selfsup.utils.errors import InputError


class Devices:
    """The first few devices of each machine, or all, which train as one device with the whole batch would.

    MirroredStrategy (TensorFlow) runs the step on each device with its own rows, see `backend.replicas`;
    the JAX compiler splits one step for all rows.

    Args:
        wanted: devices of each machine: a whole number, or "all".
        machines: of the run.

    Attributes:
        size: devices in all.

    Raises:
        InputError: a bad value, or more devices than there are.
    """

    def __init__(self, wanted: int | str, machines: Machines) -> None:
        here, wanted = devices.local_devices(), str(wanted)
        if wanted != "all" and not (wanted.isdigit() and int(wanted) > 0):
            raise InputError(f"devices must be all or a whole number of at least 1, not {wanted!r}")
        count = len(here) if wanted == "all" else int(wanted)
        if count > len(here):
            raise InputError(
                f"devices: {count} asked for, but there is {len(here)} ({devices.describe_device()}); "
                "give fewer, or all"
            )
        self.machines = machines
        self.size = count * machines.count
        self._engine = self._make_engine(count) if self.size > 1 else None

    def _make_engine(self, count: int) -> Any:
        if keras.backend.backend() == "jax":
            import jax

            chosen = []
            for machine in range(self.machines.count):
                chosen += [d for d in jax.devices() if d.process_index == machine][:count]
            return keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(devices.local_devices()[:count])

    @property
    def longest_execution(self) -> int | None:
        """Steps that Keras can do in one execution, if that is limited.

        TensorFlow's loops do not work with what the devices say to each other (keras-team/keras#19246).
        """
        return 1 if self._engine and keras.backend.backend() == "tensorflow" else None

    def feed(self, batches: Callable[[], Iterator[Any]]) -> Any:
        """What `fit` takes for the batches that `batches()` begins, nested tuples of arrays of fixed shapes.

        TensorFlow's strategies begin anew behind Keras' back, and would lose batches of a mere generator.
        """
        if not self._engine or keras.backend.backend() == "jax":
            return batches()
        import tensorflow as tf

        signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), next(batches()))
        return tf.data.Dataset.from_generator(batches, output_signature=signature)

    def scope(self) -> AbstractContextManager:
        """Where the model must be made and trained."""
        return self._engine.scope() if self._engine else nullcontext()

    def check(self, config: Config) -> None:
        """Raises `InputError` if these devices cannot share the config's batches in equal parts."""
        if config.batch_size % self.size:
            raise InputError(
                f"batch_size {config.batch_size} cannot be shared equally by {self.size} devices; "
                "give a multiple of their number"
            )
        if config.bn_groups > 1 and (self.size != config.bn_groups or keras.backend.backend() == "jax"):
            raise InputError(
                f"bn_groups must be 1, or the number of devices on TensorFlow, not {config.bn_groups} with "
                f"{self.size} on {keras.backend.backend()}"
            )

    def describe(self) -> str:
        """The devices in words, such as "2 x NVIDIA H200" or "CPU (Intel Xeon, 2 cores)"."""
        times = f"{self.size} x " if self.size > 1 else ""
        machines = f", {self.machines.count} machines" if self.machines.count > 1 else ""
        return f"{times}{devices.describe_device()}{machines}"
