"""Threaded sockets for the lab tests: an echo server that names its peer, clients, and a small transparent proxy.

The proxy puts a word in front of the first thing a client says, so a server can tell who it talks to.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from bpf.connections import ConnectionFacts, ConnectionTable
from bpf.marks import MARK_FROM_PROXY
from tests.bpf.topology import Namespace

SO_MARK = 36
IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
IP_BIND_ADDRESS_NO_PORT = 24

PATIENCE = 10.0  # for what must happen
REFUSAL = 1.5  # for what must not: longer than one SYN retransmission

SEEN_BY_PROXY = b"proxied:"


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _serve(listener: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError):
            connection, peer = listener.accept()
            threading.Thread(target=_echo, args=(connection, peer[0]), daemon=True).start()


def _echo(connection: socket.socket, peer: str) -> None:
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(f"{peer}|".encode() + data)


@contextlib.contextmanager
def echo_server(where: Namespace, version: int, port: int) -> Iterator[None]:
    """Answers each message with `PEER|MESSAGE`."""
    stop = threading.Event()
    with where.enter():
        listener = socket.create_server(("" if version == 4 else "::", port), family=_family(version))
    thread = threading.Thread(target=_serve, args=(listener, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def dial(where: Namespace, address: str, port: int, patience: float = PATIENCE, source: str = "") -> socket.socket:
    """A connected client socket in the namespace; TimeoutError if nobody answers."""
    with where.enter():
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.settimeout(patience)
    try:
        if source:
            client.bind((source, 0))
        client.connect((address, port))
    except BaseException:
        client.close()
        raise
    return client


def ask(client: socket.socket, message: bytes) -> bytes:
    client.sendall(message)
    return client.recv(65536)


class TransparentProxy:
    """Listens as a worker does, forwards both ways from the client's own address."""

    def __init__(self, connections_fd: int) -> None:
        self.listeners = [_listener(version) for version in (4, 6)]
        self.seen: list[tuple[str, ConnectionFacts | None]] = []
        self._table = ConnectionTable(connections_fd)
        self._stop = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, args=(one,)) for one in self.listeners]
        for thread in self._threads:
            thread.start()

    def slots(self) -> list[tuple[int, int, int, int]]:
        """As `Datapath.set_listeners` takes them."""
        return [(0, int(one.family), int(one.type), one.fileno()) for one in self.listeners]

    def kill(self) -> None:
        """As a killed process: every socket is gone at once."""
        self._stop.set()
        for one in self.listeners:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                client, peer = listener.accept()
                threading.Thread(target=self._handle, args=(client, peer), daemon=True).start()

    def _handle(self, client: socket.socket, peer: tuple[str, int]) -> None:
        target = client.getsockname()
        facts = self._table.lookup(int(client.family), (peer[0], peer[1]), (target[0], target[1]))
        self.seen.append((peer[0], facts))
        upstream = _transparent(client.family)
        upstream.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        self._open += [client, upstream]
        try:
            upstream.bind((peer[0], 0))
            upstream.settimeout(PATIENCE)
            upstream.connect((target[0], target[1]))
            upstream.settimeout(None)
        except OSError:
            client.close()
            upstream.close()
            return
        threading.Thread(target=_pump, args=(client, upstream, SEEN_BY_PROXY), daemon=True).start()
        _pump(upstream, client, b"")


def _pump(source: socket.socket, sink: socket.socket, prefix: bytes) -> None:
    with contextlib.suppress(OSError):
        try:
            while data := source.recv(65536):
                sink.sendall(prefix + data)
                prefix = b""
        finally:
            sink.shutdown(socket.SHUT_WR)


def _transparent(family: int) -> socket.socket:
    one = socket.socket(family)
    if family == socket.AF_INET:
        one.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    one.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK_FROM_PROXY)
    return one


def _listener(version: int) -> socket.socket:
    one = _transparent(_family(version))
    one.bind(("127.0.0.1" if version == 4 else "::1", 0))
    one.listen(128)
    return one
