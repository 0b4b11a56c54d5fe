"""Waits for all machines of a run before JAX connects them: JAX aborts the process if one is missing."""

import re
import socket
import time
from contextlib import ExitStack, suppress

from selfsup.utils.errors import InputError

_GO = "go"
_NAME = re.compile(r"\d+/\d+")


def meet(coordinator: str, index: int, count: int, timeout: float) -> None:
    """Waits until all machines have called this function.

    Args:
        coordinator: HOST:PORT at which machine 1 listens for the others.
        index: index of this machine, from 0.
        count: number of machines.
        timeout: seconds to wait.

    Raises:
        InputError: the address is invalid, or a machine is missing, connected twice or has another count.
    """
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(
            f"coordinator must be HOST:PORT of machine 1, such as node1:29500, not {coordinator!r}"
        )
    deadline = time.monotonic() + timeout
    if index:
        _join((host.strip("[]"), int(port)), f"{index + 1}/{count}", deadline)
    else:
        _gather(int(port), {f"{i + 1}/{count}" for i in range(1, count)}, deadline)


def _gather(port: int, missing: set[str], deadline: float) -> None:
    try:
        both = socket.has_dualstack_ipv6()  # IPv4 and IPv6
        family = socket.AF_INET6 if both else socket.AF_INET
        server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise InputError(
            f"coordinator: cannot listen on port {port} ({error.strerror}); choose another"
        ) from None
    connected: list[socket.socket] = []
    with ExitStack() as opened, server:
        while missing:
            names = ", ".join(sorted(missing))
            server.settimeout(_left(deadline, f"machine {names} did not connect"))
            try:
                machine, _ = server.accept()
            except TimeoutError:
                continue
            opened.enter_context(machine)
            machine.settimeout(1)
            name = _receive(machine)
            if not _NAME.fullmatch(name):
                machine.close()  # a stranger, such as a port scan
                continue
            connected.append(machine)
            if name not in missing:
                _send(connected, problem := f"machine {name} connected, but {names} is missing")
                raise InputError(problem)
            missing = missing - {name}
        _send(connected, _GO)


def _join(address: tuple[str, int], name: str, deadline: float) -> None:
    while True:
        left = _left(deadline, f"machine 1 does not answer at {address[0]}:{address[1]}")
        try:
            first = socket.create_connection(address, timeout=min(left, 5))
            break
        except OSError:
            time.sleep(0.2)
    with first:
        with suppress(OSError):  # machine 1 is gone: there is no answer
            first.sendall(f"{name}\n".encode())
        first.settimeout(_left(deadline, "machine 1 does not answer"))
        answer = _receive(first)
    if answer != _GO:
        raise InputError(
            answer or "machine 1 stopped waiting: another machine is missing, or machine 1 was interrupted"
        )


def _left(deadline: float, problem: str) -> float:
    """Returns the seconds until `deadline`; raises `InputError` about `problem` after it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise InputError(f"{problem}; give every machine the same --coordinator and start them together")
    return left


def _receive(machine: socket.socket) -> str:
    """Receives a line of at most 200 bytes, or what arrives of it before the connection fails."""
    received = b""
    with suppress(OSError):
        while not received.endswith(b"\n") and len(received) < 200 and (more := machine.recv(200)):
            received += more
    return received.decode(errors="replace").strip()


def _send(machines: list[socket.socket], text: str) -> None:
    for machine in machines:
        with suppress(OSError):
            machine.sendall(f"{text}\n".encode())
