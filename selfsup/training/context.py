"""The execution context of a run."""

from dataclasses import dataclass
from pathlib import Path

from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.utils.clock import Clock
from selfsup.utils.interrupts import Interruption


@dataclass(frozen=True)
class Context:
    """Folder, machines, devices and clock of a run, and the handler of signals that stop it."""

    workdir: Path
    machines: Machines
    devices: Devices
    clock: Clock
    interruption: Interruption
