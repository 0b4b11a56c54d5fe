"""Where the time of a run goes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np


class Clock:
    """Seconds of the parts of a run, by name; parts inside one another are counted once, in the inner one."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._before = 0.0
        self._open: list[_Part] = []
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what happens inside to `name`."""
        self._open.append(_Part(name, time.perf_counter()))
        try:
            yield
        finally:
            part = self._open.pop()
            whole = time.perf_counter() - part.began
            _add(self.seconds, name, whole - part.inner)
            if self._open:
                self._open[-1].inner += whole

    def watch(self, callback: keras.callbacks.Callback, name: str) -> keras.callbacks.Callback:
        """Counts a callback's own hooks to `name`; returns the callback."""
        for hook in vars(type(callback)):
            if hook.startswith("on_"):
                setattr(callback, hook, self._counted(getattr(callback, hook), name))
        return callback

    def _counted(self, hook: Callable, name: str) -> Callable:
        def counted(*args: Any, **kwargs: Any) -> None:
            with self.part(name):
                hook(*args, **kwargs)

        return counted

    def move(self, seconds: float, source: str, target: str) -> None:
        """Counts seconds of one part to another."""
        _add(self.seconds, source, -seconds)
        _add(self.seconds, target, seconds)

    def total(self) -> dict[str, float]:
        """All parts, `other` and `total`, since the clock was made; milliseconds are kept."""
        seconds = self._so_far()
        total = self._before + time.perf_counter() - self._began
        seconds |= {"other": total - sum(seconds.values()), "total": total}
        return {name: round(value, 3) for name, value in seconds.items()}

    def _so_far(self) -> dict[str, float]:
        """All parts, those that are still open included."""
        seconds, now, inner = dict(self.seconds), time.perf_counter(), 0.0
        for part in reversed(self._open):
            whole = now - part.began
            _add(seconds, part.name, whole - part.inner - inner)
            inner = whole
        return seconds

    def state(self) -> dict[str, np.ndarray]:
        """The parts so far, for a checkpoint."""
        seconds = self.total()
        del seconds["other"]
        return {name: np.float64(value) for name, value in seconds.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Adds what an interrupted run has taken before its checkpoint."""
        for name, value in state.items():
            if name == "total":
                self._before += float(value)
            else:
                _add(self.seconds, name, float(value))


@dataclass
class _Part:
    name: str
    began: float
    inner: float = 0.0


def _add(seconds: dict[str, float], name: str, more: float) -> None:
    seconds[name] = seconds.get(name, 0.0) + more


def duration(seconds: float) -> str:
    """A time in words, such as "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
