"""A response head: strict parse and framing (RFC 9112 §§4, 6.3). Responses always go on verbatim."""

from __future__ import annotations

from dataclasses import dataclass

from parsers.errors import ParseError
from parsers.http1 import grammar
from parsers.http1.request import CHUNKED
from parsers.limits import Http1Limits

UNTIL_CLOSE = -2
"""Length of a body that ends with the connection."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A parsed response head. `length` is that of the body if it has one: bytes, CHUNKED or UNTIL_CLOSE.

    `is_bodiless`: a status that never has a body, whatever the headers say (RFC 9112 §6.3). `accept`: the proof that
    the server has understood a WebSocket handshake.
    """

    status: int
    length: int
    is_bodiless: bool
    accept: bytes = b""


def parse_response_untrusted(head: bytes, limits: Http1Limits) -> ResponseHead:
    """The meaning of `head`, which ends in its first empty line. Raises ParseError with status 502."""
    match = grammar.RESPONSE_HEAD.fullmatch(head)
    if match is None:
        raise ParseError("the response head is malformed", 502)
    minor, digits, block = match.groups()
    fields = grammar.fields_of(block)
    if len(fields) > limits.header_count:
        raise ParseError("the response has too many headers", 502, limit="header_count")
    status = int(digits)
    is_bodiless = status < 200 or status in (204, 304)
    if status == 101:
        return ResponseHead(status, 0, is_bodiless, _accept(fields))
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or minor != b"1":
            raise ParseError("the framing of the response is ambiguous", 502)
        return ResponseHead(status, CHUNKED, is_bodiless)
    if lengths:
        if len(lengths) > 1 or grammar.DIGITS.fullmatch(lengths[0]) is None:
            raise ParseError("the length of the response is ambiguous", 502)
        return ResponseHead(status, int(lengths[0]), is_bodiless)
    return ResponseHead(status, UNTIL_CLOSE, is_bodiless)


def _accept(fields: list[tuple[bytes, bytes]]) -> bytes:
    if [value.lower() for name, value in fields if name == b"upgrade"] != [b"websocket"]:
        raise ParseError("the server switched to a protocol that was not asked for", 502)
    proofs = [value for name, value in fields if name == b"sec-websocket-accept"]
    if len(proofs) != 1:
        raise ParseError("the server switched protocols without the proof that it understood", 502)
    return proofs[0]


def check_unfinished_response(head: bytearray, new: int, limits: Http1Limits) -> None:
    """Refuse the start of a head that no further bytes can make valid; those before index `new` are known."""
    if len(head) > limits.head_bytes:
        raise ParseError("the response head is too large", 502, limit="head_bytes")
    if not (head.startswith(b"HTTP/1.") or b"HTTP/1.".startswith(head)):
        raise ParseError("these bytes are not an HTTP/1 response", 502)
    if grammar.BARE_LF.search(head, max(0, new - 1)):
        raise ParseError("a line of the response does not end in CRLF", 502)
