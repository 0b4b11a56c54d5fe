"""Handling of Ctrl-C, SIGTERM and SIGHUP: a training step is completed before the run stops."""

import _thread
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOP_AT_EOF = "SELFSUP_STOP_AT_EOF"
"""Environment variable: if set, the end of standard input stops the process like SIGTERM."""

SIGNALS = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run; the same call resumes it from its last checkpoint.

    Attributes:
        signum: number of the signal.
        status: exit status of a command, 128 + `signum`.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum, self.status = signum, 128 + signum


class Interruption:
    """Context manager that handles SIGINT, SIGTERM and SIGHUP in the main thread.

    Inside `deferred()` the first signal is only stored in `received`, which a training loop checks between
    two executions; elsewhere it raises `Interrupted`. A SIGINT after another signal ends the process
    immediately, even inside an execution. Signals that the process ignores stay ignored (nohup).

    Attributes:
        received: number of the last signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False

    def __enter__(self) -> "Interruption":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            # Python's handlers wait until native code returns; the listener thread sees a signal immediately.
            listener, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            handled = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._handlers = {signum: signal.signal(signum, self._handle) for signum in handled}
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()
            if os.environ.pop(STOP_AT_EOF, None):
                threading.Thread(target=_stop_at_eof, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._main:
            for signum, handler in self._handlers.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(self._wakeup)
            self._writer.close()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Delays `Interrupted` until the end of the block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raises `Interrupted` if a signal was received."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, signum: int, _: Any) -> None:
        self.received = signum
        if not self._deferred:
            raise Interrupted(signum)

    def _listen(self, listener: socket.socket) -> None:
        count = 0
        with listener:
            while numbers := listener.recv(16):
                for signum in (number for number in numbers if number in self._handlers):
                    count += 1
                    if count > 1 and signum == signal.SIGINT:
                        os._exit(128 + signum)
                    if count == 1 and self._deferred:
                        text = "\nstopping after this step; press Ctrl-C again to stop immediately"
                        print(text, file=sys.stderr, flush=True)


def _stop_at_eof() -> None:
    """Waits until the parent process, which holds the other end of standard input, has ended."""
    while os.read(0, 4096):
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:  # Windows
        _thread.interrupt_main(signal.SIGTERM)
