"""Where a run happens."""

from dataclasses import dataclass
from pathlib import Path

from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.utils.clock import Clock
from selfsup.utils.interrupts import Interruption


@dataclass(frozen=True)
class Context:
    """The folder, machines and devices of a run, its clock, and the signals that may stop it."""

    workdir: Path
    machines: Machines
    devices: Devices
    clock: Clock
    interruption: Interruption
