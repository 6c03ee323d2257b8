"""Plays the files of Apache Traffic Server's Proxy Verifier through the proxy of a lab.

A file has sessions, which are connections of a client, and these have transactions: what the client sends
(`client-request`), what the origin is to see (`proxy-request`), what it answers (`server-response`) and what the client
is to see (`proxy-response`). All sessions are played at once, the transactions of one in turn. The origin knows by a
header of ours which transaction a request belongs to.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import h11
import yaml

from tests.lab.origins import MAX_HEAD, PIECE, dialled, hang_up, listening
from tests.lab.support import Node

Document = dict[str, Any]
MARK = "x-replay"
PATIENCE_S = 20.0
"""For one transaction. The slowest answer takes 8 s."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One exchange. The key is FILE#SESSION.NUMBER."""

    key: str
    request: Document
    at_origin: Document
    response: Document
    at_client: Document

    @property
    def method(self) -> str:
        return str(self.request.get("method", ""))

    def request_bytes(self) -> bytes:
        """What the client sends. Requests without Host get one: the files are for servers that do without."""
        fields = [(MARK, self.key), *fields_of(self.request)]
        if all(name.lower() != "host" for name, _ in fields):
            fields.insert(0, ("Host", "example.com"))
        line = f"{self.method} {self.request.get('url', '/')} HTTP/{self.request.get('version', '1.1')}"
        return head_bytes(line, fields) + body_of(self.request)

    def response_bytes(self) -> bytes:
        """What the origin answers."""
        answer = self.response
        line = f"HTTP/{answer.get('version', '1.1')} {answer['status']} {answer.get('reason', '')}"
        body = b"" if self.method == "HEAD" else body_of(answer)
        return head_bytes(line, fields_of(answer)) + body

    @property
    def request_is_whole(self) -> bool:
        return read(self.request_bytes()).is_whole

    @property
    def closes(self) -> bool:
        """The origin has no more to send: its answer says so, or ends with the connection, or has no end at all."""
        reader = Reader(self.method)
        reader.feed(self.response_bytes())
        return reader.is_last


@dataclass(frozen=True, slots=True)
class Session:
    """The transactions of one client connection, and what it speaks. The key is FILE#SESSION."""

    key: str
    stack: str
    transactions: list[Transaction]


def sessions_of(path: Path, file: str) -> Iterator[Session]:
    """The sessions of a file; none if it is not a replay at all."""
    text = path.read_text(encoding="utf-8")
    # Written for a parser that takes `[ :method, GET ]` for text.
    document = yaml.safe_load(re.sub(r"\[(\s*)(:[a-z]+)(\s*,)", r'[\1"\2"\3', text))
    for number, session in enumerate(document.get("sessions", ())):
        key = f"{file}#{number}"
        transactions = [_transaction(f"{key}.{place}", each) for place, each in enumerate(session["transactions"])]
        yield Session(key, _stack(session.get("protocol", {}), transactions), transactions)


def _stack(protocol: Document, transactions: list[Transaction]) -> str:
    """`http`, `https`, `http2`, `http3`, or `proxy-protocol` where that goes in front."""
    if "proxy-protocol" in protocol:
        return "proxy-protocol"
    is_http2 = any(not each.method for each in transactions)  # some say so by their pseudo headers alone
    return str(protocol.get("stack", "http2" if is_http2 else "http"))


def _transaction(key: str, document: Document) -> Transaction:
    names = ("client-request", "proxy-request", "server-response", "proxy-response")
    request, at_origin, response, at_client = (document.get(name, {}) for name in names)
    return Transaction(key, request, at_origin, response, at_client)


# -- messages as files describe them ---------------------------------------------------------------------------------


def fields_of(message: Document) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in message.get("headers", {}).get("fields", ())]


def head_bytes(line: str, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = [line, *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def body_of(message: Document) -> bytes:
    """The body on the wire: in one chunk if a header says so, unless its framing is in the data already."""
    content = message.get("content", {})
    body = content_of(message)
    is_chunked = any(name.lower() == "transfer-encoding" and "chunked" in value for name, value in fields_of(message))
    if not is_chunked or content.get("transfer") == "plain":
        return body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return chunk + b"0\r\n\r\n"


def content_of(message: Document) -> bytes:
    """The data of the file, or as many bytes as are asked for."""
    content = message.get("content", {})
    if "data" in content:
        data = str(content["data"])
        return unquote_to_bytes(data) if content.get("encoding") == "uri" else data.encode()
    lengths = [int(value) for name, value in fields_of(message) if name.lower() == "content-length"]
    size = int(content.get("size", lengths[0] if lengths else 0))
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def seconds(text: str) -> float:
    """`100ms`, `2s`."""
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) / (1000 if unit == "ms" else 1)


# -- messages as they come -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Message:
    """A request or a response as h11 reads it. `start` is method and target, or the status."""

    start: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    is_whole: bool = False

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name.lower()]


class Reader:
    """Reads one message from whatever bytes come: a request, or the response to one."""

    def __init__(self, asked_with: str = "") -> None:
        """With a method: the response to a request with that method."""
        self.message = Message()
        self.is_over = False
        self._parser = h11.Connection(h11.CLIENT if asked_with else h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        if asked_with:
            self._parser.send(h11.Request(method=asked_with, target="/", headers=[("host", "x")]))
            self._parser.send(h11.EndOfMessage())

    @property
    def rest(self) -> bytes:
        """Bytes behind the message."""
        return self._parser.trailing_data[0]

    @property
    def is_last(self) -> bool:
        """Nothing can follow on this connection."""
        return self._parser.their_state is not h11.DONE

    def feed(self, data: bytes) -> None:
        """Some bytes, or none for the end of the connection."""
        try:
            self._parser.receive_data(data)
            while not self.is_over and (event := self._parser.next_event()) is not h11.NEED_DATA:
                self._take(event)
        except h11.RemoteProtocolError:
            self.is_over = True

    def _take(self, event: object) -> None:
        message = self.message
        match event:
            case h11.Request():
                message.start, message.fields = f"{_text(event.method)} {_text(event.target)}", _fields(event)
            case h11.Response():
                message.start, message.fields = str(event.status_code), _fields(event)
            case h11.Data():
                message.body += bytes(event.data)
            case h11.EndOfMessage():
                message.trailers = _fields(event)
                message.is_whole = self.is_over = True
            case h11.ConnectionClosed():
                self.is_over = True


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _fields(event: h11.Request | h11.Response | h11.EndOfMessage) -> list[tuple[str, str]]:
    return [(_text(name), _text(value)) for name, value in event.headers]


def read(data: bytes, asked_with: str = "") -> Message:
    """A message that is there already, and behind it the end of the connection."""
    reader = Reader(asked_with)
    reader.feed(data)
    if not reader.is_over:
        reader.feed(b"")
    return reader.message


async def received(connection: socket.socket, reader: Reader) -> Message:
    """The message that comes on a connection, or what there is of it."""
    loop = asyncio.get_running_loop()
    while not reader.is_over:
        try:
            reader.feed(await loop.sock_recv(connection, PIECE))
        except ConnectionError:
            break
    return reader.message


# -- playing ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Played:
    """What either end saw of a transaction; None if it saw nothing."""

    transaction: Transaction
    at_origin: Message | None = None
    at_client: Message | None = None


class Stage:
    """All transactions that are being played, by their key, and the origin that plays its part in them."""

    def __init__(self, sessions: Iterable[Session]) -> None:
        self.played = {
            transaction.key: Played(transaction) for session in sessions for transaction in session.transactions
        }

    async def serve(self, connection: socket.socket) -> None:
        """The origin's side of one connection."""
        loop = asyncio.get_running_loop()
        rest = b""
        while True:
            reader = Reader()
            if rest:
                reader.feed(rest)
            message = await received(connection, reader)
            if not message.start:
                return
            played = self.played[message.values(MARK)[0]]
            played.at_origin = message
            if not (message.is_whole and played.transaction.response):
                return
            await asyncio.sleep(seconds(played.transaction.response.get("delay", "0s")))
            await loop.sock_sendall(connection, played.transaction.response_bytes())
            if played.transaction.closes:
                hang_up(connection)
                await received(connection, Reader())
                return
            rest = reader.rest

    async def play_http1(self, session: Session, dial: Callable[[], Awaitable[socket.socket]]) -> None:
        """The client's side of a session. Where the connection has ended, there is a new one."""
        connection: socket.socket | None = None
        try:
            for transaction in session.transactions:
                await asyncio.sleep(seconds(transaction.request.get("delay", "0s")))
                connection = connection or await dial()
                reader = Reader(transaction.method)
                with suppress(TimeoutError):
                    await asyncio.wait_for(_ask(connection, transaction, reader), PATIENCE_S)
                self.played[transaction.key].at_client = reader.message
                if reader.is_last:
                    connection.close()
                    connection = None
        finally:
            if connection is not None:
                connection.close()


async def _ask(connection: socket.socket, transaction: Transaction, reader: Reader) -> None:
    with suppress(ConnectionError):  # there may be an answer all the same
        await asyncio.get_running_loop().sock_sendall(connection, transaction.request_bytes())
    if not transaction.request_is_whole:
        hang_up(connection)
    await received(connection, reader)


SPEAKERS = {"http": Stage.play_http1}
"""How sessions are played, by what they speak. HTTP/2 with prior knowledge is to go here."""


def play(node: Node, sessions: list[Session], port_of: Callable[[Session], int]) -> dict[str, Played]:
    """All sessions at once, each to its own port of the server. What became of the transactions, by their keys."""
    return asyncio.run(_play(node, sessions, port_of))


async def _play(node: Node, sessions: list[Session], port_of: Callable[[Session], int]) -> dict[str, Played]:
    stage = Stage(sessions)
    async with AsyncExitStack() as origins:
        listeners = {
            port: await origins.enter_async_context(listening(node, port, stage.serve))
            for port in {port_of(session) for session in sessions}
        }
        async with asyncio.TaskGroup() as group:
            for session in sessions:
                group.create_task(SPEAKERS[session.stack](stage, session, _dialler(node, port_of(session))))
        for origin in listeners.values():
            assert await origin.settled()
    return stage.played


def _dialler(node: Node, port: int) -> Callable[[], Awaitable[socket.socket]]:
    return lambda: dialled(node, port)


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ours:
    """Where our proxy is to do something else than Apache Traffic Server, and why."""

    why: str
    status: int = 0
    """What the client is to get."""
    is_cut_off: bool = False
    """The client is to get no whole answer."""
    fields: tuple[str, ...] = ()
    """Header fields that the file's expectations do not hold for."""
    trailers: bool = True
    """Trailers of the request reach the origin."""


def complaints(played: Played, ours: Ours) -> list[str]:
    """What is not as the file, or our exception to it, has it."""
    return [*_at_client(played, ours), *_at_origin(played, ours)]


def _status(played: Played, ours: Ours) -> int:
    transaction = played.transaction
    return int(ours.status or transaction.at_client.get("status") or transaction.response["status"])


def _is_refused(played: Played, ours: Ours) -> bool:
    """The proxy answers by itself; with 502 it does so when it has seen the origin's answer."""
    status = _status(played, ours)
    return status not in (502, played.transaction.response.get("status"))


def _at_origin(played: Played, ours: Ours) -> Iterator[str]:
    """A request arrives unchanged, or not at all."""
    transaction, seen = played.transaction, played.at_origin
    if _is_refused(played, ours) or not transaction.request_is_whole:
        if seen is not None and seen.is_whole:
            yield f"the origin got {seen}"
        return
    if seen is None:
        yield "the origin got nothing"
        return
    sent = read(transaction.request_bytes())
    if not ours.trailers:
        sent.trailers = []
    if seen != sent:
        yield f"the origin got {seen}, not {sent}"
    yield from _unmet(transaction.at_origin, seen, ours)


def _at_client(played: Played, ours: Ours) -> Iterator[str]:
    """An answer of the origin's arrives unchanged."""
    transaction, got = played.transaction, played.at_client
    assert got is not None
    if ours.is_cut_off:
        if got.is_whole:
            yield f"the client got {got}"
        return
    if not got.is_whole or int(got.start) != _status(played, ours):
        yield f"the client got {got}, not {_status(played, ours)}"
        return
    if got.start == str(transaction.response.get("status")):
        sent = read(transaction.response_bytes(), transaction.method)
        if got != sent:
            yield f"the client got {got}, not {sent}"
    yield from _unmet(transaction.at_client, got, ours)


def _unmet(wanted: Document, message: Message, ours: Ours) -> Iterator[str]:
    """What a file expects of a message, and does not find."""
    for name, rule in wanted.get("headers", {}).get("fields", ()):
        if name.lower() not in ours.fields and not _meets(rule, message.values(str(name))):
            yield f"{name}: {message.values(str(name))}, not {rule}"
    content = wanted.get("content", {})
    size = content.get("size")
    if size is not None and len(message.body) != int(size["value"] if isinstance(size, dict) else size):
        yield f"{len(message.body)} bytes of body, not {size}"


def _meets(rule: object, values: list[str]) -> bool:
    """Rules are `{value: ..., as: equal | contains | present | absent}`; a value alone asks for nothing."""
    if not isinstance(rule, dict):
        return True
    match rule["as"]:
        case "absent":
            return not values
        case "present":
            return bool(values)
        case "contains":
            return any(str(rule["value"]) in value for value in values)
        case "equal":
            return values == [str(rule["value"])]
    raise ValueError(f"a rule of a kind that is not known: {rule}")
