"""The devices that share each batch of a run, with the backend's own data parallelism."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from selfsup.backend import devices
from selfsup.backend.machines import Machines
from selfsup.config import Config
from selfsup.utils.errors import InputError


class Devices:
    """Devices that share each batch and take the same steps as one device with the whole batch.

    On TensorFlow, MirroredStrategy runs the step on each device with its own rows (see `backend.replicas`).
    On JAX, the compiler splits a single step over all devices.

    Args:
        wanted: number of devices of each machine to use, or "all".
        machines: the machines of the run.

    Attributes:
        machines: the machines of the run.
        size: total number of devices.

    Raises:
        InputError: `wanted` is invalid or larger than the number of devices.
    """

    def __init__(self, wanted: int | str, machines: Machines) -> None:
        here, wanted = devices.local_devices(), str(wanted)
        if wanted != "all" and not (wanted.isdecimal() and int(wanted) > 0):
            raise InputError(f"devices must be all or a whole number of at least 1, not {wanted!r}")
        count = len(here) if wanted == "all" else int(wanted)
        if count > len(here):
            raise InputError(
                f"devices: {count} requested, but only {len(here)} available ({devices.describe_device()}); "
                "use fewer, or all"
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
        """The most steps that Keras can run in one execution; None for no limit.

        TensorFlow's loops do not support communication between devices (keras-team/keras#19246).
        """
        return 1 if self._engine and keras.backend.backend() == "tensorflow" else None

    def feed(self, batches: Callable[[], Iterator[Any]]) -> Any:
        """Returns the input of `fit`.

        Args:
            batches: starts an iterator of batches, which are nested tuples of arrays of fixed shapes.
                TensorFlow's strategies restart their input, and would lose batches of a plain generator.
        """
        if not self._engine or keras.backend.backend() == "jax":
            return batches()
        import tensorflow as tf

        signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), next(batches()))
        return tf.data.Dataset.from_generator(batches, output_signature=signature)

    def scope(self) -> AbstractContextManager:
        """The context in which to build and train the model."""
        return self._engine.scope() if self._engine else nullcontext()

    def check(self, config: Config) -> None:
        """Checks that these devices can share the batches of a config equally.

        Raises:
            InputError: `batch_size` or `bn_groups` does not fit the number of devices.
        """
        if config.batch_size % self.size:
            raise InputError(
                f"batch_size {config.batch_size} cannot be shared equally by {self.size} devices; "
                "use a multiple of their number"
            )
        if config.bn_groups > 1 and (self.size != config.bn_groups or keras.backend.backend() == "jax"):
            raise InputError(
                f"bn_groups must be 1 or, on TensorFlow, the number of devices, not {config.bn_groups} with "
                f"{self.size} devices on {keras.backend.backend()}"
            )

    def describe(self) -> str:
        """Returns the devices as text, such as "2 x NVIDIA H200" or "CPU (Intel Xeon, 2 cores)"."""
        times = f"{self.size} x " if self.size > 1 else ""
        machines = f", {self.machines.count} machines" if self.machines.count > 1 else ""
        return f"{times}{devices.describe_device()}{machines}"
