"""The socket towards the server: it has the client's own address, so the server sees who really asks.

Source: ip(7) IP_BIND_ADDRESS_NO_PORT (the kernel picks a port that is free for this destination only at connect time).
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket

from proxy.worker.transparent import transparent_socket

IP_BIND_ADDRESS_NO_PORT = 24


class UpstreamError(Exception):
    """The server could not be reached; the text says why."""


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
