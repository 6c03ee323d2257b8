"""Response heads: framing, and what is refused with 502."""

from __future__ import annotations

import pytest

from parsers.errors import ParseError
from parsers.http1.request import CHUNKED
from parsers.http1.response import UNTIL_CLOSE, ResponseHead, check_unfinished_response, parse_response_untrusted
from parsers.limits import Http1Limits

LIMITS = Http1Limits()


def parse(*lines: bytes) -> ResponseHead:
    return parse_response_untrusted(b"\r\n".join((*lines, b"", b"")), LIMITS)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((b"HTTP/1.1 200 OK", b"Content-Length: 3"), ResponseHead(200, 3, False)),
        ((b"HTTP/1.1 200 ", b"Transfer-Encoding: chunked"), ResponseHead(200, CHUNKED, False)),
        ((b"HTTP/1.0 404 Not Found",), ResponseHead(404, UNTIL_CLOSE, False)),
        ((b"HTTP/1.1 204 No Content",), ResponseHead(204, UNTIL_CLOSE, True)),
        ((b"HTTP/1.1 304 Not Modified", b"Content-Length: 9"), ResponseHead(304, 9, True)),
        ((b"HTTP/1.1 100 Continue",), ResponseHead(100, UNTIL_CLOSE, True)),
        ((b"HTTP/1.1 200",), ResponseHead(200, UNTIL_CLOSE, False)),
    ],
)
def test_framing(lines: tuple[bytes, ...], expected: ResponseHead) -> None:
    assert parse(*lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        (b"HTTP/1.1 20 OK",),
        (b"HTTP/1.1 600 OK",),
        (b"HTTP/2.0 200 OK",),
        (b"HTTP/1.1  200 OK",),
        (b"HTTP/1.1 200 OK", b"Content-Length: 3", b"Content-Length: 3"),
        (b"HTTP/1.1 200 OK", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        (b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip"),
        (b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked"),
        (b"HTTP/1.1 200 OK", b"Content-Length: -1"),
        (b"HTTP/1.1 200 OK", b"X: a\nSet-Cookie: b"),
        (b"HTTP/1.1 200 OK", b"X: a\x00"),
        (b"HTTP/1.1 200 OK", b" folded"),
        (b"HTTP/1.1 200 OK", *[b"X: %d" % i for i in range(101)]),
    ],
)
def test_refused(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(ParseError) as caught:
        parse(*lines)
    assert caught.value.status == 502


@pytest.mark.parametrize("start", [b"SSH-2.0", b"HTTP/2", b"HTTP/1.1 200 OK\n", b"HTTP/1.1 200\r\n" + b"a" * 61440])
def test_what_can_not_become_a_response(start: bytes) -> None:
    with pytest.raises(ParseError):
        check_unfinished_response(bytearray(start), 0, LIMITS)


@pytest.mark.parametrize("start", [b"H", b"HTTP/1.", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 OK\r\nX: y"])
def test_what_may_become_a_response(start: bytes) -> None:
    check_unfinished_response(bytearray(start), 0, LIMITS)
