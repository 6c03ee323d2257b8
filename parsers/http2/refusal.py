"""The answers that we give in the server's place.

A gRPC client looks for its status in the trailers: a refusal is one header block that is both (gRPC over HTTP/2,
"Trailers-Only"), and its HTTP status is 200.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote_from_bytes

from parsers.http.judging import Ruling
from parsers.http2 import frames
from parsers.http2.hpack import encode

_PERMISSION_DENIED, _UNKNOWN = 7, 2
_GRPC_STATUS = {400: 3, 403: _PERMISSION_DENIED, 417: 3, 431: 8, 502: 14, 503: 14}
"""HTTP status → gRPC's (INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE)."""


def grpc_refusal(stream: int, ruling: Ruling) -> bytes:
    fields = [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % _GRPC_STATUS.get(ruling.status, _UNKNOWN)),
        (b"grpc-message", quote_from_bytes(ruling.body.strip(), safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()),
    ]
    return frames.headers(stream, encode(fields + _told(ruling)), end_stream=True)


def http_refusal(stream: int, ruling: Ruling, *, is_head: bool, credit: int) -> tuple[bytes, int]:
    """(frames, flow-control credit that they take). Without the credit for its body the answer has none."""
    body = ruling.body
    is_bodiless = is_head or len(body) > credit
    length = b"0" if is_bodiless and not is_head else b"%d" % len(body)
    fields = [
        (b":status", b"%d" % ruling.status),
        (b"content-length", length),
        (b"content-type", b"text/plain"),
    ]
    is_bodiless = is_bodiless or not body
    head = frames.headers(stream, encode(fields + _told(ruling)), end_stream=is_bodiless)
    if is_bodiless:
        return head, 0
    return head + frames.data(stream, body, end_stream=True), len(body)


def unreachable(status: int) -> Ruling:
    """What is said for a server that can not be reached, or that does not speak HTTP/2."""
    return Ruling(False, status=status, body=HTTPStatus(status).phrase.encode() + b"\r\n")


def _told(ruling: Ruling) -> list[tuple[bytes, bytes]]:
    return [(b"x-denied-by", ruling.told)] if ruling.told else []
