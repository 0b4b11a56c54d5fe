"""Where the time of a run goes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras


class Clock:
    """Seconds of the parts of a run, by name; parts inside one another are counted once, in the inner one."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._inner = [0.0]
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what happens inside to `name`."""
        began = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inner.pop()
            self._inner[-1] += whole

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
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds

    def total(self) -> dict[str, float]:
        """All parts, `other` and `total`, since the clock was made; milliseconds are kept."""
        total = time.perf_counter() - self._began
        seconds = {**self.seconds, "other": total - sum(self.seconds.values()), "total": total}
        return {name: round(value, 3) for name, value in seconds.items()}
