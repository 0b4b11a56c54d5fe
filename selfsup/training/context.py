"""The execution context of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras

from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.records.results import commit
from selfsup.utils.clock import Clock
from selfsup.utils.interrupts import Interruption


@dataclass(frozen=True)
class Context:
    """Folder, machines, devices and clock of a run, the handler of signals, and the commit of the code."""

    workdir: Path
    machines: Machines
    devices: Devices
    clock: Clock
    interruption: Interruption
    commit: str | None = field(default_factory=commit)  # now, because files may change while the run trains


@dataclass(frozen=True)
class RunOptions:
    """Arguments of `selfsup.run` that do not change its result.

    Attributes:
        tensorboard, checkpoint_minutes, overwrite, callbacks, stop_on_collapse: see `selfsup.run`.
    """

    tensorboard: bool = False
    checkpoint_minutes: float = 10.0
    overwrite: bool = False
    callbacks: Sequence[keras.callbacks.Callback] = ()
    stop_on_collapse: bool = False
