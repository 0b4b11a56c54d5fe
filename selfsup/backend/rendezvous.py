"""The machines of a run meet before JAX connects them: it would end the process if one were missing."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from selfsup.utils.errors import InputError

_GO = "go"


def meet(coordinator: str, index: int, count: int, timeout: float) -> None:
    """Returns on all machines once all are there.

    Args:
        coordinator: HOST:PORT, where the first machine listens for the others.
        index, count: which machine this is, from 0, of how many.
        timeout: seconds to wait.

    Raises:
        InputError: no such address, or a machine did not come, or came twice or with another count.
    """
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdigit() and int(port) < 2**16):
        raise InputError(
            f"coordinator must be HOST:PORT of the first machine, such as node1:29500, not {coordinator!r}"
        )
    deadline = time.monotonic() + timeout
    if index:
        _join((host, int(port)), f"{index + 1}/{count}", deadline)
    else:
        _gather(int(port), {f"{i + 1}/{count}" for i in range(1, count)}, deadline)


def _gather(port: int, missing: set[str], deadline: float) -> None:
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise InputError(
            f"coordinator: cannot listen on port {port} ({error.strerror}); take another"
        ) from None
    came: list[socket.socket] = []
    with ExitStack() as opened, server:
        while missing:
            names = ", ".join(sorted(missing))
            server.settimeout(_left(deadline, lambda names=names: f"machine {names} did not come"))
            try:
                machine, _ = server.accept()
            except TimeoutError:
                continue
            came.append(opened.enter_context(machine))
            machine.settimeout(1)
            name = _receive(machine)
            if name not in missing:
                _send(came, problem := f"machine {name or '?'} came where {names} was missing")
                raise InputError(problem)
            missing = missing - {name}
        _send(came, _GO)


def _join(address: tuple[str, int], name: str, deadline: float) -> None:
    while True:
        left = _left(deadline, lambda: f"the first machine is not at {address[0]}:{address[1]}")
        try:
            first = socket.create_connection(address, timeout=min(left, 5))
            break
        except OSError:
            time.sleep(0.2)
    with first:
        first.sendall(f"{name}\n".encode())
        first.settimeout(_left(deadline, lambda: "the first machine is too late"))
        answer = _receive(first)
    if answer != _GO:
        raise InputError(answer or "the first machine waited in vain for another one, or was stopped")


def _left(deadline: float, problem: Callable[[], str]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise InputError(f"{problem()}; give every machine the same --coordinator, and start them together")
    return left


def _receive(machine: socket.socket) -> str:
    """A line of up to 200 bytes, or what came of it."""
    received = b""
    with suppress(OSError):
        while not received.endswith(b"\n") and len(received) < 200 and (part := machine.recv(200)):
            received += part
    return received.decode(errors="replace").strip()


def _send(machines: list[socket.socket], text: str) -> None:
    for machine in machines:
        with suppress(OSError):
            machine.sendall(f"{text}\n".encode())
