"""Servers for a pod, each a few lines around a library that many use: `python -P servers.py KIND:PORT[:FILE]…`.

Several run on one event loop. All of them write a line to the log for what a test may want to know of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import websockets
from aiohttp import web
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PIECE = bytes(range(256)) * 1024
LARGE = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"
NOT_ALLOWED = b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n"
OFFER = b"\0\0\6\4\0\0\0\0\0" + b"\0\x08\0\0\0\1"
"""SETTINGS: ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)."""
NO_CONTENT = b"\0\0\1\1\5"
"""The head of a frame of HEADERS, of which nothing follows, up to the stream's number."""


def log(*words: object) -> None:
    print(*words, flush=True)


# -- aiohttp -------------------------------------------------------------------------------------------------------


async def say(request: web.Request) -> web.Response:
    """What was asked, and what came with it."""
    log("asked", request.method, request.path)
    length, digest = await count(request)
    facts = {"method": request.method, "path": request.path, "length": length, "sha256": digest}
    return web.json_response(facts)


async def count(request: web.Request) -> tuple[int, str]:
    length, digest = 0, hashlib.sha256()
    async for piece in request.content.iter_any():
        length += len(piece)
        digest.update(piece)
    return length, digest.hexdigest()


async def download(request: web.Request) -> web.StreamResponse:
    """As many pieces as the path says, in chunks."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(int(request.match_info["pieces"])):
        await response.write(PIECE)
    await response.write_eof()
    return response


async def aiohttp_server(port: int, file: str) -> None:
    app = web.Application()
    app.router.add_get("/public/download/{pieces}", download)
    app.router.add_route("*", "/{path:.*}", say)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()


# -- WebSocket -----------------------------------------------------------------------------------------------------


async def echo(connection: ServerConnection) -> None:
    """Every message back as it came; at "bye" this side closes."""
    assert connection.request is not None
    log("websocket", connection.request.path)
    with suppress(ConnectionClosed):
        async for message in connection:
            if message == "bye":
                await connection.close(4001, "as you wish")
            else:
                await connection.send(message)
    log("closed", connection.close_code, connection.close_reason)


async def websocket_server(port: int, file: str) -> None:
    await websockets.serve(echo, None, port)


# -- by hand -------------------------------------------------------------------------------------------------------


async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """413 before the body has been looked at, and the end: what still comes is read over, so that nothing is reset."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(LARGE + b"connection: close\r\n\r\ntoo large")
    writer.write_eof()
    while await reader.read(1 << 16):
        pass


async def too_large_but_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """413 before the body has been looked at; the body is read all the same, and the next request answered."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        writer.write(LARGE + b"\r\ntoo large")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        log("read", length)


async def connect_proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers CONNECT, and nothing else."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, authority, _ = head.decode("ascii").split(" ", 2)
    log(method, authority)
    if method != "CONNECT":
        writer.write(NOT_ALLOWED)
        return
    host, _, port = authority.rpartition(":")
    try:
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
    except OSError:
        writer.write(BAD_GATEWAY)
        return
    writer.write(CONNECTED)
    await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def extended_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/2 that offers extended CONNECT; whatever is asked for, the answer is 204."""
    await reader.readexactly(24)
    writer.write(OFFER)
    while True:
        head = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == 1:
            log("stream", int.from_bytes(head[5:], "big"))
            writer.write(NO_CONTENT + head[5:] + b"\x89")


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Behind TLS. The names that clients asked for (SNI) are in the log."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        body = b"hello\n" if b"/large" not in head else PIECE * 4
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def closing(serve: Serve) -> Serve:
    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    return serve_and_close


def by_hand(serve: Serve) -> Callable[[int, str], Awaitable[None]]:
    async def start(port: int, file: str) -> None:
        context = None
        if file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file)
            context.sni_callback = lambda _, name, __: log("server name", name)
        await asyncio.start_server(closing(serve), None, port, ssl=context)

    return start


KINDS = {
    "aiohttp": aiohttp_server,
    "websocket": websocket_server,
    "too-large": by_hand(too_large),
    "too-large-but-read": by_hand(too_large_but_read),
    "connect": by_hand(connect_proxy),
    "extended-connect": by_hand(extended_connect),
    "tls": by_hand(hello),
}


async def main(servers: list[str]) -> None:
    for words in servers:
        kind, port, *file = words.split(":")
        await KINDS[kind](int(port), "".join(file))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
