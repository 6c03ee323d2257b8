"""What the lab's pods serve: an HTTP server that says who asked for what, or a plain TCP echo.

    python -m proxy.lab.echo --port 80          any path: 200 and JSON {pod, client, method, path, headers, ...}
    python -m proxy.lab.echo --port 5432 --tcp  every byte back as it came
    python -m proxy.lab.echo --port 9000 --udp  every datagram back as it came

Standard library only and quick to start. HTTP/1.1 with keep-alive and pipelining; a body is read to its end, counted
and hashed, never kept. `/bytes/N` answers N zero bytes, `/status/N` answers with that status, `/drip` answers one byte
at a time. One access-log line per request: peer address, method, path, status.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import zlib

MAX_HEAD = 64 << 10
CHUNK = bytes(64 << 10)
ANY = "::"
"""Every address of both families."""
_BODILESS = {204, 304}  # RFC 9112 §6.3: their responses end with the head


class BadRequest(Exception):
    """Answered with 400 and the end of the connection: this server never guesses."""


def _log(*words: object) -> None:
    print(*words, flush=True)


def _parse_head(head: bytes) -> tuple[str, str, list[tuple[str, str]]]:
    """Method, path and headers (lower-case names) of a request head without its final empty line."""
    line, *fields = head.decode("latin-1").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"}:
        raise BadRequest(f"request line {line!r}")
    headers = []
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(f"header {field!r}")
        headers.append((name.lower(), value.strip(" \t")))
    if parts[2] == "HTTP/1.0":
        headers.append(("connection", "close"))
    return parts[0], parts[1], headers


def _body_length(headers: list[tuple[str, str]]) -> int | None:
    """Bytes of the body; None where it is chunked."""
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
    if codings:
        if lengths or codings != ["chunked"]:
            raise BadRequest("body framing is ambiguous")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise BadRequest("content-length")
    return int(lengths[0])


class _Body:
    """Reads a request's body to its end, keeping its length and checksum only."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.length = 0
        self.crc32 = 0

    async def read(self, length: int | None) -> None:
        if length is not None:
            await self._take(length)
            return
        while True:
            size_line = await self._reader.readuntil(b"\r\n")
            try:
                size = int(size_line.split(b";")[0].strip(), 16)
            except ValueError as error:
                raise BadRequest("chunk size") from error
            if size == 0:
                break
            await self._take(size)
            if await self._reader.readexactly(2) != b"\r\n":
                raise BadRequest("chunk end")
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass

    async def _take(self, left: int) -> None:
        while left:
            data = await self._reader.read(min(left, 1 << 18))
            if not data:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(data)
            self.length += len(data)
            self.crc32 = zlib.crc32(data, self.crc32)


class HttpEcho:
    """The HTTP server's behaviour on one connection."""

    def __init__(self, pod: str) -> None:
        self.pod = pod

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _address(writer.get_extra_info("peername"))
        try:
            while await self._one(reader, writer, peer):
                pass
        except BadRequest as error:
            _log(peer, "bad request:", error)
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> bool:
        """Answer one request; false when the connection is to end."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, headers = _parse_head(head[:-4])
        close = any(name == "connection" and "close" in value.lower() for name, value in headers)
        if any(name == "expect" and value.lower() == "100-continue" for name, value in headers):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _Body(reader)
        await body.read(_body_length(headers))
        status, text, size = self._answer(method, path, headers, peer, body)
        length = size if text is None else len(text)
        _log(peer, method, path, status)  # before the answer: whoever has that finds this
        response_head = _response_head(status, length, text is not None, close)
        bodiless = method == "HEAD" or status in _BODILESS
        if path.startswith("/drip"):
            await _drip(writer, response_head + (b"" if bodiless or text is None else text))
        else:
            writer.write(response_head)
            if not bodiless:
                await _send(writer, text, length)
        await writer.drain()
        return not close

    def _answer(
        self, method: str, path: str, headers: list[tuple[str, str]], peer: str, body: _Body
    ) -> tuple[int, bytes | None, int]:
        """Status, and the text or (None) how many zero bytes."""
        kind, _, number = path.lstrip("/").partition("/")
        if kind == "bytes" and number.isdigit():
            return 200, None, int(number)
        status = int(number) if kind == "status" and number.isdigit() and 200 <= int(number) <= 599 else 200
        facts = {
            "pod": self.pod,
            "client": peer,
            "method": method,
            "path": path,
            "headers": dict(headers),
            "body": {"length": body.length, "crc32": f"{body.crc32:08x}"},
        }
        return status, json.dumps(facts).encode() + b"\n", 0


def _response_head(status: int, length: int, is_json: bool, close: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'Status'}"]
    if status not in _BODILESS:
        lines += [f"content-type: application/{'json' if is_json else 'octet-stream'}", f"content-length: {length}"]
    if close:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


async def _send(writer: asyncio.StreamWriter, text: bytes | None, length: int) -> None:
    if text is not None:
        writer.write(text)
        return
    while length:
        piece = CHUNK[:length]
        writer.write(piece)
        length -= len(piece)
        await writer.drain()


async def _drip(writer: asyncio.StreamWriter, text: bytes) -> None:
    """Every byte in a segment of its own (asyncio sets TCP_NODELAY): what a parser must not be disturbed by."""
    for index in range(len(text)):
        writer.write(text[index : index + 1])
        await writer.drain()
        await asyncio.sleep(0)


class TcpEcho:
    """Every byte back as it came, until the client ends."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _address(writer.get_extra_info("peername"))
        _log(peer, "connected")
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            _log(peer, "ended")
            writer.close()


class UdpEcho(asyncio.DatagramProtocol):
    """Every datagram back as it came."""

    # asyncio calls it with nothing else for a datagram endpoint.
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        _log(_address(addr), "datagram", len(data))
        self._transport.sendto(data, addr)


def _address(name: tuple[object, ...]) -> str:
    """The peer as the network shows it: IPv4 clients of the dual-stack socket lose their ::ffff: prefix."""
    return str(name[0]).removeprefix("::ffff:")


def _listener(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, kind)
    if host == ANY:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_STREAM:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


async def _serve(hosts: list[str], ports: list[int], pod: str, protocol: str) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    listeners = [_listener(host, port, kind) for host in hosts for port in ports]
    names = [listener.getsockname()[1] for listener in listeners]
    if protocol == "udp":
        loop = asyncio.get_running_loop()
        for listener in listeners:
            await loop.create_datagram_endpoint(UdpEcho, sock=listener)
        _log("listening on", *names)
        await asyncio.Event().wait()
    serve = TcpEcho().serve if protocol == "tcp" else HttpEcho(pod).serve
    servers = [await asyncio.start_server(serve, sock=one, limit=MAX_HEAD, backlog=1024) for one in listeners]
    _log("listening on", *names)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proxy.lab.echo", description="HTTP, TCP or UDP server of the lab")
    parser.add_argument("--port", type=int, action="append", required=True, help="may be given several times")
    parser.add_argument("--host", action="append", metavar="ADDRESS", help="own addresses; may be given several times")
    kind = parser.add_mutually_exclusive_group()
    words = {"tcp": "plain echo of bytes instead of HTTP", "udp": "plain echo of datagrams"}
    for name, help_text in words.items():
        kind.add_argument(
            f"--{name}", dest="protocol", action="store_const", const=name, default="http", help=help_text
        )
    parser.add_argument("--pod", default=os.environ.get("PENSTOCK_POD", socket.gethostname()))
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_serve(options.host or [ANY], options.port, options.pod, options.protocol))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
