"""Machines that meet, and machines that wait for a missing one."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import pytest

from selfsup.backend import rendezvous
from selfsup.backend.rendezvous import meet
from selfsup.utils.errors import InputError


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def outcomes(*machines, timeout=60.0, port=None, host="127.0.0.1"):
    """Lets machines (index, count) connect at the same time; None for success, else the error message."""
    address = f"{host}:{port or free_port()}"

    def connect(machine):
        try:
            meet(address, *machine, timeout)
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(connect, machines))


def test_all_machines_connect():
    assert outcomes((2, 3), (0, 3), (1, 3)) == [None] * 3


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_machines_connect_by_ipv6():
    assert outcomes((0, 2), (1, 2), host="[::1]") == [None] * 2


def test_a_missing_machine(monkeypatch):
    """Time stands still until machine 2 has connected and waits for an answer; then it is up."""
    now, waiting, receive, port = [0.0], threading.Event(), rendezvous._receive, free_port()

    def received(connection):
        if connection.getpeername()[1] == port:
            waiting.set()
            return receive(connection)
        name = receive(connection)
        assert waiting.wait(60)
        now[0] += 100
        return name

    monkeypatch.setattr(rendezvous, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    monkeypatch.setattr(rendezvous, "_receive", received)
    first, second = outcomes((0, 3), (1, 3), port=port)
    assert "machine 3/3 did not connect" in first
    assert "machine 1 stopped waiting" in second


def test_a_missing_first_machine():
    (error,) = outcomes((1, 2), timeout=0.5)
    assert "machine 1 does not answer at 127.0.0.1" in error


def test_a_machine_that_connects_twice_or_with_another_count():
    first, *others = outcomes((0, 3), (1, 3), (1, 3))
    assert "machine 2/3 connected, but 3/3 is missing" in first
    assert first in others
    first, other = outcomes((0, 2), (1, 3))
    assert first == other == "machine 2/3 connected, but 2/2 is missing"


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"", b"\xff\xfe\n", None])
def test_strangers_are_ignored(sent):
    port = free_port()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(meet, f"127.0.0.1:{port}", 0, 2, 60.0)
        stranger = None
        while stranger is None:
            assert not first.done(), first.exception()
            with suppress(OSError):
                stranger = socket.create_connection(("127.0.0.1", port), timeout=1)
        with stranger:
            if sent is not None:  # None: it connects and stays silent
                stranger.sendall(sent)
                stranger.shutdown(socket.SHUT_WR)
            assert outcomes((1, 2), port=port) == [None]
            assert first.result() is None


def test_a_port_in_use():
    with socket.create_server(("", 0)) as taken, pytest.raises(InputError, match="cannot listen on port"):
        meet(f"127.0.0.1:{taken.getsockname()[1]}", 0, 2, 1.0)


ADDRESSES = ("", "node1", ":29500", "node1:", "node1:x", "node1:70000", "node1:\u00b2", "node1:0")


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_invalid_address(address):
    with pytest.raises(InputError, match="HOST:PORT"):
        meet(address, 1, 2, 1.0)
