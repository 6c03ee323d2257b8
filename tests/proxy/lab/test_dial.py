"""Probing plain TCP servers, on the loopback interface."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.lab.dial import dial

ANY = range(0)


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)  # a client that never comes is a failure, not a test without end

        def body() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=body)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_bytes_come_back() -> None:
    with server(lambda connection: connection.sendall(connection.recv(64))) as port:
        outcome = dial("127.0.0.1", port, socket.AF_INET, 5, ANY)
    assert outcome.outcome == "connected"
    assert outcome.local_port > 0


def test_other_bytes_are_no_success() -> None:
    with server(lambda connection: connection.sendall(b"x" * len(connection.recv(64)))) as port:
        assert dial("127.0.0.1", port, socket.AF_INET, 5, ANY).outcome == "garbled"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert dial("127.0.0.1", port, socket.AF_INET, 5, ANY).outcome == "refused"


def test_no_such_name() -> None:
    assert dial("nonesuch.invalid", 1, socket.AF_INET, 5, ANY).outcome == "unresolved"


def test_the_first_free_local_port_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("", 0))
        taken = holder.getsockname()[1]
        with server(lambda connection: connection.sendall(connection.recv(64))) as port:
            outcome = dial("127.0.0.1", port, socket.AF_INET, 5, range(taken, taken + 20))
    assert outcome.outcome == "connected"
    assert taken < outcome.local_port < taken + 20
