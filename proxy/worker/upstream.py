"""The server's side of a connection. Its socket has the client's own address, so the server sees who really asks.

Source: ip(7) IP_BIND_ADDRESS_NO_PORT (the kernel picks a port that is free for this destination only at connect time).
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

from proxy.worker.side import Hold, Side
from proxy.worker.transparent import transparent_socket

if TYPE_CHECKING:
    from proxy.worker.connection import Downstream
    from proxy.worker.main import Worker

IP_BIND_ADDRESS_NO_PORT = 24


class UpstreamError(Exception):
    """The server could not be reached; the text says why."""


def _discard(data: bytes) -> None:
    """The server is gone; `connection_lost` has told the client's side or is about to."""


class Upstream(Side):
    """The server's side."""

    def __init__(self, downstream: Downstream) -> None:
        super().__init__()
        self._downstream = downstream
        self._worker: Worker | None = None
        self.server_is_done = False
        self.lingering_since = 0
        self.write: Callable[[bytes], None] = _discard
        # Straight to the client's side: this is the hot path. uvloop looks the method up before `connection_made`.
        self.data_received = downstream.server_data  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        self.write = transport.write  # straight to the transport: this is the hot path

    def eof_received(self) -> bool:
        self.server_is_done = True
        if self.lingering_since:
            return False
        self._downstream.server_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.stop_relay()
        self.write = _discard
        if self._worker is not None:
            self._worker.lingering.discard(self)
        else:
            self._downstream.server_lost(exc)

    def pause_writing(self) -> None:
        self._downstream.hold(Hold.OTHER_SIDE_FULL)

    def resume_writing(self) -> None:
        self._downstream.release(Hold.OTHER_SIDE_FULL)

    def set_write_buffer_limit(self, high: int) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=high)

    def write_eof(self) -> None:
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def linger(self, worker: Worker) -> None:
        """Leave it to the server to close, for a while.

        Who closes first keeps the ports in TIME-WAIT. Were that always us, a client with many short connections to one
        server would run out of them.
        """
        if self.server_is_done:
            self.close()
        else:
            self._worker = worker
            self.lingering_since = monotonic_ns()
            worker.lingering.add(self)


async def connect_upstream(client: str, server: tuple[str, int], timeout_s: float) -> socket.socket:
    """Connect to `server` from the address `client`. Raises UpstreamError."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    sock = transparent_socket(family)
    try:
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((client, 0))
        error = sock.connect_ex(server)
        if error == errno.EINPROGRESS:
            error = await _connected(sock, timeout_s)
        if error:
            raise OSError(error, os.strerror(error))
    except TimeoutError:
        sock.close()
        raise UpstreamError(f"the server did not answer within {timeout_s:g} s") from None
    except OSError as error:
        sock.close()
        raise UpstreamError(f"the server can not be reached: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket, timeout_s: float) -> int:
    """The outcome of a connection under way, as an errno.

    Not `loop.sock_connect`: uvloop has a thread resolve the address first, which is one already. And a server on this
    node has answered by now.
    """
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    if not poller.poll(0):
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(sock, _wake, ready)
        try:
            async with asyncio.timeout(timeout_s):
                await ready
        finally:
            loop.remove_writer(sock)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
