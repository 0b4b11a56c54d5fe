"""Ctrl-C, SIGTERM and a lost terminal while a run trains: the step is finished first."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; the same call goes on from its last checkpoint.

    Attributes:
        signum: the signal's number.
        status: what a command exits with, 128 + `signum`.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum, self.status = signum, 128 + signum


class Interruption:
    """Takes SIGINT, SIGTERM and SIGHUP while it is entered, in the main thread; ignored ones stay so (nohup).

    Inside `deferred()` the first is only noted, in `received`, for a training loop to look at between two
    executions; elsewhere it raises `Interrupted`. A SIGINT after another signal ends the process at once,
    even inside an execution.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False

    def __enter__(self) -> "Interruption":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            # Python's handlers wait until native code returns; this thread hears of a signal at once.
            listener, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            heeded = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._handlers = {signum: signal.signal(signum, self._handle) for signum in heeded}
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._main:
            for signum, handler in self._handlers.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(self._wakeup)
            self._writer.close()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Notes a signal instead of raising, until the end of the block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raises `Interrupted` if a signal was noted."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, signum: int, _: Any) -> None:
        self.received = signum
        if not self._deferred:
            raise Interrupted(signum)

    def _listen(self, listener: socket.socket) -> None:
        heard = 0
        with listener:
            while numbers := listener.recv(16):
                for signum in (number for number in numbers if number in self._handlers):
                    heard += 1
                    if heard > 1 and signum == signal.SIGINT:
                        os._exit(128 + signum)
                    if heard == 1 and self._deferred:
                        text = "\nstopping after this step; Ctrl-C once more stops at once"
                        print(text, file=sys.stderr, flush=True)
