"""Both ends of many connections at once, in the hands of one test: clients in one pod, origins in another.

Nothing runs in the pods. The sockets are made in their namespaces and served by the event loop of the test, so what
an origin was sent is simply there, and nobody has to ask for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import h11

from tests.lab.support import Node

CLIENT, SERVER = "shop/client", "shop/server"
PATIENCE_S = 5.0
"""How long a conversation may take: whoever has not come to an end by then hangs."""
BREATH_S = 0.002
"""Between two pieces, so that they are read one by one."""
MAX_HEAD = 1 << 17
PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Received:
    """All that one end of a connection was sent, and whether it ended by a reset."""

    data: bytes = b""
    was_reset: bool = False


Serve = Callable[[socket.socket], Awaitable[None]]


class Origin:
    """A listener in the server's pod. Every connection is given to `serve`, and closed behind it."""

    def __init__(self, listener: socket.socket, serve: Serve, group: asyncio.TaskGroup) -> None:
        self._listener = listener
        self._serve = serve
        self._group = group
        self._open: set[asyncio.Task[None]] = set()

    def accept(self) -> None:
        """Take what stands in the queue."""
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                task = self._group.create_task(self._serve_and_close(connection))
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    async def _serve_and_close(self, connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            with suppress(ConnectionError):
                await self._serve(connection)

    async def settled(self) -> bool:
        """Wait until every connection has ended; false if one does not. To be called when the client's has."""
        self.accept()
        if not self._open:
            return True
        _, late = await asyncio.wait(self._open, timeout=PATIENCE_S)
        for task in late:
            task.cancel()
        return not late


@asynccontextmanager
async def listening(node: Node, port: int, serve: Serve, ip: int = 4) -> AsyncIterator[Origin]:
    """An origin on a port of the server's pod."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        with node.lab.socket(SERVER, _family(ip)) as listener:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("::" if ip == 6 else "0.0.0.0", port))
            listener.listen(512)
            origin = Origin(listener, serve, group)
            loop.add_reader(listener, origin.accept)
            try:
                yield origin
            finally:
                loop.remove_reader(listener)


async def dialled(node: Node, port: int, ip: int = 4) -> socket.socket:
    """A connection from the client's pod to a port of the server's, and so to the proxy."""
    connection = node.lab.socket(CLIENT, _family(ip))
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (node.address(SERVER, ip), port))
    except BaseException:
        connection.close()
        raise
    return connection


def _family(ip: int) -> socket.AddressFamily:
    return socket.AF_INET6 if ip == 6 else socket.AF_INET


async def until_end(connection: socket.socket) -> Received:
    """All that comes on a connection."""
    loop = asyncio.get_running_loop()
    data = b""
    try:
        while piece := await loop.sock_recv(connection, PIECE):
            data += piece
    except ConnectionError:
        return Received(data, was_reset=True)
    return Received(data)


async def conversation(
    node: Node, port: int, pieces: Iterable[bytes], ip: int = 4, *, half_close: bool = True
) -> Received | None:
    """Send the pieces, one after the other, and the end; all that comes back, or None if that does not end in time."""
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            with await dialled(node, port, ip) as connection:
                with suppress(ConnectionError):  # whoever has heard enough may end it before all is sent
                    for number, piece in enumerate(pieces):
                        await asyncio.sleep(BREATH_S if number else 0)
                        await loop.sock_sendall(connection, piece)
                if half_close:
                    hang_up(connection)
                return await until_end(connection)
    return None


@dataclass(slots=True)
class Asked:
    """What a server that goes by h11 made of one connection. The server acts on whole requests."""

    received: Received = field(default_factory=Received)
    targets: list[bytes] = field(default_factory=list)
    """Of the whole requests, in their order."""
    fault: str = ""
    """What it could not read; empty for whole requests and nothing besides."""


class Recorder:
    """Serves HTTP: 200 and two bytes for each whole request. Keeps what it was asked, connection by connection."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        answering = Answering()
        self.asked.append(answering.asked)
        data = b""
        try:
            while piece := await loop.sock_recv(connection, PIECE):
                data += piece
                if answer := answering.answers_to(piece):
                    await loop.sock_sendall(connection, answer)
                if answering.is_over:
                    hang_up(connection)
        except ConnectionError:
            answering.asked.received = Received(data, was_reset=True)
            return
        answering.end()
        answering.asked.received = Received(data)


def hang_up(connection: socket.socket) -> None:
    """Send the end. The other side may have been faster."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


class Answering:
    """The answers of one connection. Over when no further request can come."""

    def __init__(self) -> None:
        self.asked = Asked()
        self.is_over = False
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._request: h11.Request | None = None

    def answers_to(self, data: bytes) -> bytes:
        """The answers to the requests that `data` completes."""
        if self.is_over:
            self.asked.fault = self.asked.fault or f"bytes behind the last request: {data!r}"
            return b""
        answers: list[bytes] = []
        try:
            self._connection.receive_data(data)
            while not self.is_over and (event := self._connection.next_event()) is not h11.NEED_DATA:
                self._take(event, answers)
        except h11.RemoteProtocolError as error:
            self._fail(str(error))
        return b"".join(answers)

    def end(self) -> None:
        """The client has sent its end."""
        if not self.is_over and (self._request is not None or self._connection.trailing_data[0]):
            self._fail("it ends in the middle of a request")

    def _fail(self, fault: str) -> None:
        self.asked.fault = fault
        self.is_over = True

    def _take(self, event: object, answers: list[bytes]) -> None:
        if isinstance(event, h11.Request):
            self._request = event
        elif isinstance(event, h11.EndOfMessage):
            assert self._request is not None
            self.asked.targets.append(bytes(self._request.target))
            answers += self._answer(bytes(self._request.method))
            self._request = None
            if self._connection.our_state is h11.DONE:
                self._connection.start_next_cycle()
            else:
                self.is_over = True

    def _answer(self, method: bytes) -> list[bytes]:
        """With CONNECT there is a tunnel from here on, which ends at once."""
        length = [] if method == b"CONNECT" else [("content-length", "2")]
        events: list[h11.Event] = [h11.Response(status_code=200, headers=length, reason=b"OK")]
        if method not in (b"HEAD", b"CONNECT"):
            events.append(h11.Data(data=b"ok"))
        if method != b"CONNECT":
            events.append(h11.EndOfMessage())
        return [self._connection.send(event) or b"" for event in events]
