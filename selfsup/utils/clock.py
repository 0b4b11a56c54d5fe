"""How long each phase of a run takes, and durations as text."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


class Clock:
    """Measures the wall time of named phases. Time in a nested phase counts only to the inner one.

    Attributes:
        seconds: seconds by phase, of phases that have ended.

    Example:
        >>> clock = Clock()
        >>> with clock.phase("load"):
        ...     with clock.phase("download"):
        ...         pass
        >>> list(clock.total())
        ['download', 'load', 'other', 'total']
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._before = 0.0
        self._open: list[_Phase] = []
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time of the block to the phase `name`."""
        self._open.append(_Phase(name, time.perf_counter()))
        try:
            yield
        finally:
            phase = self._open.pop()
            whole = time.perf_counter() - phase.began
            self.seconds[name] += whole - phase.inner
            if self._open:
                self._open[-1].inner += whole

    def move(self, seconds: float, source: str, target: str) -> None:
        """Moves seconds from the phase `source` to the phase `target`."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    def total(self) -> dict[str, float]:
        """Returns the seconds of all phases, rounded to milliseconds, with open phases up to now.

        `total` is the time since the clock was created, including restored time; `other` is the rest of it
        outside of all phases.
        """
        seconds, now, inner = self.seconds.copy(), time.perf_counter(), 0.0
        for phase in reversed(self._open):
            whole = now - phase.began
            seconds[phase.name] += whole - phase.inner - inner
            inner = whole
        total = self._before + now - self._began
        seconds |= {"other": total - sum(seconds.values()), "total": total}
        return {name: round(value, 3) for name, value in seconds.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Returns the phases and `total` as float64 scalars, for a checkpoint."""
        seconds = self.total()
        del seconds["other"]
        return {name: np.array(value, np.float64) for name, value in seconds.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Adds the times that an interrupted run saved by `state`."""
        for name, value in state.items():
            if name == "total":
                self._before += float(value)
            else:
                self.seconds[name] += float(value)


@dataclass
class _Phase:
    """An open phase: when it began, and the seconds of phases that ended inside it."""

    name: str
    began: float
    inner: float = 0.0


def duration(seconds: float) -> str:
    """Returns a duration as text.

    Args:
        seconds: the duration, at least 0.

    Example:
        >>> [duration(seconds) for seconds in (45, 720, 12_000)]
        ['45 s', '12 min', '3 h 20 min']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
