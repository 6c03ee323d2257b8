"""A request head: strict parse, framing of its body, and the bytes that go on.

A head goes on verbatim when it is in canonical form already. Otherwise it is rebuilt from what was parsed and
judged, so that the server can not read anything else into it.
"""

from __future__ import annotations

from typing import NamedTuple

from parsers.errors import ParseError
from parsers.facts import HttpRequest
from parsers.http.overrides import FRAMING, is_override
from parsers.http.target import check_authority, split_target
from parsers.http.websocket import KEY, accept_of
from parsers.http1 import grammar
from parsers.limits import Http1Limits

NO_ANSWER = 0
"""In place of a status: the connection ends without words."""

CHUNKED = -1
"""Length of a body in chunks."""


_HANDSHAKE = frozenset((b"sec-websocket-key", b"sec-websocket-version"))


class RequestHead(NamedTuple):
    """A parsed request head.

    `length` is the body's length in bytes, or CHUNKED. `forward` is what the server gets instead of the bytes as
    they came, or None for those. `close`: no request may follow. `expects_continue`: the body waits for a 100.
    `accept`: asks for a WebSocket, and this is what the server proves its consent with. `connects`: CONNECT.
    """

    facts: HttpRequest
    version: str
    length: int
    close: bool
    expects_continue: bool
    accept: bytes
    connects: bool
    forward: bytes | None

    @property
    def opens_tunnel(self) -> bool:
        return self.connects or bool(self.accept)


def parse_request_untrusted(head: bytes, limits: Http1Limits) -> RequestHead:
    """The meaning of `head`, which ends in its first empty line. Raises ParseError."""
    match = grammar.REQUEST_HEAD.fullmatch(head)
    if match is None:
        raise _why_malformed(head, limits)
    method, target, minor, block = match.groups()
    if len(method) + len(target) + len(b"  HTTP/1.1") > limits.request_line_bytes:
        raise _long_line()
    fields = grammar.fields_of(block)
    if len(fields) > limits.header_count:
        raise ParseError("the request has too many headers", 431, limit="header_count")
    framing = _Framing(fields, minor == b"1")
    path, authority = split_target(method, target)
    host = framing.host if authority is None else authority
    connects = method == b"CONNECT"
    if connects and framing.length:
        raise ParseError("a CONNECT request has a body")
    forward = None
    judged_fields = tuple(fields)
    if framing.dropped:
        judged_fields = tuple(field for field in fields if field[0] not in framing.dropped)
    onward = host if connects else path
    if onward != target or framing.dropped or (authority is not None and authority != framing.host):
        forward = _rebuilt(method, onward, host, minor, block, framing.dropped)
    return RequestHead(
        facts=HttpRequest(method, path, host, judged_fields),
        version="HTTP/1.1" if minor == b"1" else "HTTP/1.0",
        length=framing.length,
        close=framing.close,
        expects_continue=framing.expects_continue,
        accept=framing.accept,
        connects=connects,
        forward=forward,
    )


class _Framing:
    """What the headers say of body, host and connection; every doubt is a ParseError (RFC 9112 §6)."""

    __slots__ = ("accept", "close", "dropped", "expects_continue", "host", "length")

    def __init__(self, fields: list[tuple[bytes, bytes]], is_http11: bool) -> None:
        self.length = 0
        self.host = b""
        self.close = not is_http11
        self.expects_continue = False
        self.accept = b""
        self.dropped: frozenset[bytes] = frozenset()
        seen: set[bytes] = set()
        connection: list[bytes] = []
        upgrades: list[bytes] = []
        handshake: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            if name in FRAMING:
                if name in seen:
                    raise ParseError(f"the header {name.decode()} is there twice")
                seen.add(name)
                self._framing_field(name, value, is_http11)
            elif name == b"connection":
                connection += grammar.list_of(value)
            elif name == b"expect":
                self._expect(value)
            elif name == b"upgrade":
                upgrades.append(value.lower())
            elif name in _HANDSHAKE:
                handshake.setdefault(name, []).append(value)
            elif is_override(name):
                self.dropped |= {name}
        if b"content-length" in seen and b"transfer-encoding" in seen:
            raise ParseError("the request has both a length and a transfer coding")
        if is_http11 and b"host" not in seen:
            raise ParseError("the request names no host")
        self._connection(connection)
        self._upgrade(upgrades, handshake, connection, is_http11)

    def _framing_field(self, name: bytes, value: bytes, is_http11: bool) -> None:
        if name == b"host":
            if value or is_http11:
                check_authority(value)
            self.host = value
        elif name == b"content-length":
            if grammar.DIGITS.fullmatch(value) is None:
                raise ParseError("the length of the body is not a plain number")
            self.length = int(value)
        else:
            if value.lower() != b"chunked" or not is_http11:
                raise ParseError("the transfer coding is not plain chunked of HTTP/1.1")
            self.length = CHUNKED

    def _expect(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            raise ParseError("the expectation is not 100-continue", 417)
        self.expects_continue = True

    def _connection(self, options: list[bytes]) -> None:
        if not FRAMING.isdisjoint(options):
            raise ParseError("the header connection names one that frames the message")
        if b"close" in options:
            self.close = True
        elif b"keep-alive" in options:
            self.close = False

    def _upgrade(
        self, upgrades: list[bytes], handshake: dict[bytes, list[bytes]], options: list[bytes], is_http11: bool
    ) -> None:
        """Only one plain WebSocket upgrade goes on, with all that RFC 6455 §4.1 asks for.

        RFC 9110 §7.8: a server may ignore Upgrade. Dropping any other keeps HTTP/1.1, which is what was judged.
        """
        offers_http2 = b"http2-settings" in options
        plain = is_http11 and b"upgrade" in options and self.length == 0 and not offers_http2
        keys = handshake.get(b"sec-websocket-key", [])
        proven = len(keys) == 1 and KEY.fullmatch(keys[0]) and handshake.get(b"sec-websocket-version") == [b"13"]
        if upgrades == [b"websocket"] and plain and proven:
            self.accept = accept_of(keys[0])
        elif upgrades or offers_http2:
            self.dropped |= {b"upgrade", b"http2-settings", b"connection"}


def _rebuilt(method: bytes, path: bytes, host: bytes, minor: bytes, block: bytes, dropped: frozenset[bytes]) -> bytes:
    """The canonical head: request line, the judged host first, every other header as it came."""
    lines = [b"%b %b HTTP/1.%b\r\n" % (method, path, minor)]
    if host:
        lines.append(b"Host: %b\r\n" % host)
    for line in block.splitlines(keepends=True):
        name = line.partition(b":")[0].lower()
        if name == b"connection" and name in dropped:
            kept = [o for o in grammar.list_of(line.partition(b":")[2].strip()) if o in (b"close", b"keep-alive")]
            if kept:
                lines.append(b"Connection: %b\r\n" % b", ".join(kept))
        elif name != b"host" and name not in dropped:
            lines.append(line)
    lines.append(b"\r\n")
    return b"".join(lines)


def _why_malformed(head: bytes, limits: Http1Limits) -> ParseError:
    if grammar.OTHER_VERSION.match(head):
        return ParseError("the HTTP version is not 1.0 or 1.1", 505)
    if len(head.partition(b"\r\n")[0]) > limits.request_line_bytes:
        return _long_line()
    return _not_http(head, "the request head is malformed")


def _long_line() -> ParseError:
    return ParseError("the request line is too long", 414, limit="request_line_bytes")


def _not_http(head: bytes, reason: str) -> ParseError:
    """An answer is for those who can read it: other protocols than HTTP get none."""
    return ParseError(reason, NO_ANSWER if grammar.OTHER_PROTOCOL.match(head) else 400)


def check_unfinished_request(head: bytearray, new: int, limits: Http1Limits) -> None:
    """Refuse the start of a head that no further bytes can make valid, so that it is not waited for.

    Bytes before index `new` have been looked at before.
    """
    if len(head) > limits.head_bytes:
        raise ParseError("the request head is too large", 431, limit="head_bytes")
    line_end = head.find(b"\r\n")
    if line_end < 0:
        if len(head) - head.endswith(b"\r") > limits.request_line_bytes:
            raise _long_line()
        if grammar.REQUEST_LINE_START.fullmatch(head) is None:
            raise _not_http(bytes(head), "these bytes are not the start of an HTTP/1 request")
    elif line_end > limits.request_line_bytes:
        raise _long_line()
    if grammar.BARE_LF.search(head, max(0, new - 1)):
        raise ParseError("a line does not end in CRLF")
    if line_end >= 0 and line_end + 2 > new and grammar.REQUEST_LINE.match(head) is None:
        raise _why_malformed(bytes(head), limits)
