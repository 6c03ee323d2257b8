"""The hello that opens a TLS connection, in its records (RFC 8446 §4.1.2 and §5.1; RFC 5246 §7.4.1.2 is alike).

A hello may be spread over records in any way, and records arrive in pieces of any size. The parser is written as if all
bytes were there: where they are not it yields how many there must be, and goes on from that very place. So the work is
linear in the bytes, and bytes that can become no hello are refused when the first wrong one has come, wherever the
pieces were cut.

With Encrypted Client Hello (extension 0xfe0d) the name that can be read is that of the outer hello, and the server that
is known by it is the one the client talks to: the outer name is the name.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from parsers.errors import ParseError
from parsers.facts import ClientHello

_RECORD_START = (range(22, 23), range(3, 4), range(5))  # a handshake; SSL 3.0 to TLS 1.3
_CLIENT_HELLO = b"\x01"
_HANDSHAKE_HEADER_BYTES = 4
_RECORD_BYTES = 1 << 14  # RFC 8446 §5.1
_RANDOM_BYTES = 32
_SERVER_NAME = 0
_HOST_NAME = 0
_NAME_BYTES = 255
_NAME = re.compile(rb"[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+")
_NAME_CHARACTERS = re.compile(rb"[A-Za-z0-9_.-]++")
_IPV4 = re.compile(rb"[0-9]++(?:\.[0-9]++){3}")  # RFC 1123 §2.1: no host has a name of this form

_NOT_TLS = "these bytes are not the start of a TLS connection"
_CUT = "something else comes between the parts of a TLS hello"


@dataclass(frozen=True, slots=True)
class TlsLimits:
    """Bounds of the beginning of one TLS connection. Each is a setting; none can be switched off."""

    hello_bytes: int = 16384
    """A hello without its header and those of its records: 16 KiB as in Envoy. With post-quantum keys it has 2 KiB."""

    record_count: int = 64
    """Records that one hello may be spread over; clients that split it at all make a few."""


class HelloReader:
    """Collects the client's first bytes until they hold a whole hello.

    `held` is every byte so far, as it came. While no hello is complete it is bounded by the limits and what came last.
    """

    __slots__ = ("_needed", "_steps", "held")

    def __init__(self, limits: TlsLimits) -> None:
        self.held = bytearray()
        self._needed = 1
        self._steps = _hello(_Hello(self.held, limits), limits)

    def feed(self, data: bytes) -> ClientHello | None:
        """The hello, or None while it is not complete. Not to be called again behind a hello or a ParseError."""
        self.held += data
        if len(self.held) < self._needed:
            return None
        try:
            self._needed = next(self._steps)
        except StopIteration as done:
            hello: ClientHello = done.value
            return hello
        return None


def parse_client_hello_untrusted(data: bytes, limits: TlsLimits) -> ClientHello | None:
    """`data`: all that the client has sent so far. None when that is too little; what follows a hello is not read."""
    return HelloReader(limits).feed(data)


class _Hello:
    """The bytes of the hello, taken from its records in order.

    The generators yield how many bytes must be held before it makes sense to go on.
    """

    __slots__ = ("_at", "_held", "_limits", "_records", "left", "record_left")

    def __init__(self, held: bytearray, limits: TlsLimits) -> None:
        self._held = held
        self._limits = limits
        self._at = 0
        self._records = 0
        self.left = _HANDSHAKE_HEADER_BYTES
        """How much of the hello has not been taken; of its header, until that says how long the rest is."""
        self.record_left = 0
        """How much of the current record has not been taken."""

    def take(self, count: int) -> Generator[int, None, bytes]:
        if count > self.left:
            raise ParseError("a part of the TLS hello is longer than the whole")
        self.left -= count
        taken = bytearray()
        while len(taken) < count:
            if not self.record_left:
                yield from self._open_record()
            size = min(count - len(taken), self.record_left)
            yield from self._await(size)
            taken += self._held[self._at : self._at + size]
            self._at += size
            self.record_left -= size
        return bytes(taken)

    def number(self, size: int) -> Generator[int, None, int]:
        return int.from_bytes((yield from self.take(size)))

    def vector(self, size: int, lengths: range, fault: str) -> Generator[int, None, bytes]:
        """Bytes behind their length, which is itself a number of `size` bytes."""
        length = yield from self.number(size)
        if length not in lengths:
            raise ParseError(fault)
        return (yield from self.take(length))

    def _open_record(self) -> Generator[int, None, None]:
        """Each byte of the header is looked at as it comes: whoever speaks no TLS is not waited for."""
        self._records += 1
        if self._records > self._limits.record_count:
            raise ParseError("the TLS hello is spread over too many records", limit="record_count")
        for index, allowed in enumerate(_RECORD_START):
            yield from self._await(index + 1)
            if self._held[self._at + index] not in allowed:
                raise ParseError(_NOT_TLS if self._records == 1 else _CUT)
        yield from self._await(5)
        length = int.from_bytes(self._held[self._at + 3 : self._at + 5])
        if length == 0:
            raise ParseError("a TLS record is empty")
        if length > _RECORD_BYTES:
            raise ParseError("a TLS record is too long")
        self._at += 5
        self.record_left = length

    def _await(self, count: int) -> Generator[int, None, None]:
        while len(self._held) < self._at + count:
            yield self._at + count


def _hello(hello: _Hello, limits: TlsLimits) -> Generator[int, None, ClientHello]:
    if (yield from hello.take(1)) != _CLIENT_HELLO:
        raise ParseError("the TLS connection does not begin with a client's hello")
    length = yield from hello.number(3)
    if length > limits.hello_bytes:
        raise ParseError("the TLS hello is too long", limit="hello_bytes")
    hello.left = length
    yield from _fixed_part(hello)
    name = (yield from _extensions(hello)) if hello.left else ""
    if hello.record_left:
        # No client has more to say before the server has answered, and servers do not agree on what to make of it.
        raise ParseError("more follows the TLS hello in its record")
    return ClientHello(name)


def _fixed_part(hello: _Hello) -> Generator[int, None, None]:
    if (yield from hello.number(2)) >> 8 != 3:
        raise ParseError("the TLS hello is of an unknown version")
    yield from hello.take(_RANDOM_BYTES)
    yield from hello.vector(1, range(33), "the session id of the TLS hello is too long")
    yield from hello.vector(2, range(2, 1 << 16, 2), "the cipher suites of the TLS hello are none, or half a one")
    methods = yield from hello.vector(1, range(1, 256), "the TLS hello has no compression method, not even none")
    if 0 not in methods:
        raise ParseError("the TLS hello insists on compression")


def _extensions(hello: _Hello) -> Generator[int, None, str]:
    """The server's name; empty when no extension names one."""
    if (yield from hello.number(2)) != hello.left:
        raise ParseError("the extensions do not end where the TLS hello ends")
    seen: set[int] = set()
    name = ""
    while hello.left:
        kind = yield from hello.number(2)
        if kind in seen:
            raise ParseError("an extension comes twice in the TLS hello")
        seen.add(kind)
        body = yield from hello.take((yield from hello.number(2)))
        if kind == _SERVER_NAME:
            name = _server_name(body)
    return name


def _server_name(body: bytes) -> str:
    """RFC 6066 §3: a list of names, of which there must be one, of the one kind that exists."""
    if len(body) < 2 or int.from_bytes(body[:2]) != len(body) - 2:
        raise ParseError("the list of server names does not end where its extension ends")
    if len(body) < 5:
        raise ParseError("the list of server names holds no name")
    if body[2] != _HOST_NAME:
        raise ParseError("the server name is not the name of a host")
    name = body[5:]
    length = int.from_bytes(body[3:5])
    if length > len(name):
        raise ParseError("the server name is longer than its list")
    if length < len(name):
        raise ParseError("the client names more than one server")
    _check_host_name(name)
    return name.decode("ascii")


def _check_host_name(name: bytes) -> None:
    if not name:
        raise ParseError("the server name is empty")
    if len(name) > _NAME_BYTES:
        raise ParseError("the server name is too long")
    if _NAME_CHARACTERS.fullmatch(name) is None:
        raise ParseError("the server name has characters that no host name has")
    if _NAME.fullmatch(name) is None:
        raise ParseError("the server name has an empty label")
    if _IPV4.fullmatch(name):
        raise ParseError("the server name is an address")
