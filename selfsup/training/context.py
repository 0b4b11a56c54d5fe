"""The execution context of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras

from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.records.results import commit
from selfsup.utils.clock import Clock
from selfsup.utils.errors import InputError
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

    Raises:
        InputError: the callbacks are not a sequence of Keras callbacks.
    """

    tensorboard: bool = False
    checkpoint_minutes: float = 10.0
    overwrite: bool = False
    callbacks: Sequence[keras.callbacks.Callback] = ()
    stop_on_collapse: bool = False

    def __post_init__(self) -> None:
        given = self.callbacks
        if not (isinstance(given, Sequence) and all(isinstance(c, keras.callbacks.Callback) for c in given)):
            raise InputError(f"callbacks must be a list of Keras callbacks, not {given!r}")
