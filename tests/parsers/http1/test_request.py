"""Request heads: what is refused, how the body is framed, what goes on."""

from __future__ import annotations

import pytest

from parsers.errors import ParseError
from parsers.http1.request import CHUNKED, RequestHead, check_unfinished_request, parse_request_untrusted
from parsers.limits import Http1Limits

LIMITS = Http1Limits()


def parse(*lines: bytes) -> RequestHead:
    return parse_request_untrusted(b"\r\n".join((*lines, b"", b"")), LIMITS)


def get(*headers: bytes) -> RequestHead:
    return parse(b"GET / HTTP/1.1", b"Host: a.test", *headers)


def test_plain_head_goes_on_verbatim() -> None:
    head = parse(b"GET /x?y HTTP/1.1", b"Host: a.test:80", b"Accept:  */* ")
    assert head.forward is None
    assert (head.facts.method, head.facts.path, head.facts.host) == (b"GET", b"/x?y", b"a.test:80")
    assert head.facts.headers == ((b"host", b"a.test:80"), (b"accept", b"*/*"))
    assert (head.length, head.close, head.version) == (0, False, "HTTP/1.1")


@pytest.mark.parametrize(
    ("headers", "length"),
    [((b"Content-Length: 5",), 5), ((b"Content-Length: 0",), 0), ((b"transfer-encoding: Chunked",), CHUNKED)],
)
def test_body_length(headers: tuple[bytes, ...], length: int) -> None:
    assert get(*headers).length == length


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: +5",),
        (b"Content-Length: 05",),
        (b"Content-Length: 5x",),
        (b"Content-Length:",),
        (b"Content-Length: 1000000000000000000",),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: ,chunked",),
        (b"Transfer_Encoding: chunked",),
        (b"Host: b.test",),
        (b"Connection: close, content-length",),
        (b"Name : v",),
        (b" folded",),
        (b": v",),
        (b"no colon",),
        (b"X: a\x00b",),
        (b"X: a\x7fb",),
        (b"X: a\rb",),
        (b"X: a\nb",),
        (b"X\x80: v",),
        (b"X: v\r\n\tfolded",),
    ],
)
def test_refused_headers(headers: tuple[bytes, ...]) -> None:
    with pytest.raises(ParseError):
        get(*headers)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"G\xc3\xa4T / HTTP/1.1", 400),
        (b"GET /\x80 HTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/2.0", 505),
        (b"GET /" + b"a" * 16384 + b" HTTP/1.1", 414),
    ],
)
def test_refused_request_lines(line: bytes, status: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse(line, b"Host: a.test")
    assert caught.value.status == status


def test_host_is_needed_once_in_http11_only() -> None:
    with pytest.raises(ParseError):
        parse(b"GET / HTTP/1.1")
    assert parse(b"GET / HTTP/1.0").facts.host == b""


def test_chunks_are_not_for_http10() -> None:
    with pytest.raises(ParseError):
        parse(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked")


def test_too_many_headers() -> None:
    with pytest.raises(ParseError) as caught:
        get(*[b"X-%d: v" % i for i in range(100)])
    assert caught.value.status == 431


def test_rebuilt_in_canonical_form() -> None:
    head = parse(b"GET /a/../b HTTP/1.1", b"X: 1", b"Host: a.test", b"Y:2")
    assert head.forward == b"GET /b HTTP/1.1\r\nHost: a.test\r\nX: 1\r\nY:2\r\n\r\n"
    assert head.facts.path == b"/b"


def test_authority_of_the_target_replaces_the_host() -> None:
    head = parse(b"GET http://b.test/x HTTP/1.1", b"Host: a.test")
    assert head.facts.host == b"b.test"
    assert head.forward == b"GET /x HTTP/1.1\r\nHost: b.test\r\n\r\n"


def test_headers_that_name_another_target_are_dropped() -> None:
    head = get(b"X-Original-URL: /admin", b"X-HTTP-Method-Override: DELETE", b"X: 1")
    assert head.forward == b"GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n\r\n"
    assert head.facts.headers == ((b"host", b"a.test"), (b"x", b"1"))


def test_upgrade_to_http2_is_dropped() -> None:
    head = get(b"Connection: Upgrade, HTTP2-Settings, close", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    assert head.forward == b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
    assert not head.accept


def test_upgrade_to_websocket_is_kept() -> None:
    key, version = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13"  # RFC 6455 §1.3
    head = get(b"Connection: Upgrade", b"Upgrade: websocket", key, version)
    assert head.forward is None
    assert head.accept == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("line", "header", "close"),
    [
        (b"GET / HTTP/1.1", b"Connection: close", True),
        (b"GET / HTTP/1.1", b"Connection: keep-alive", False),
        (b"GET / HTTP/1.0", b"Connection: keep-alive", False),
        (b"GET / HTTP/1.0", b"X: y", True),
    ],
)
def test_persistence(line: bytes, header: bytes, close: bool) -> None:
    assert parse(line, b"Host: a.test", header).close is close


def test_expectation() -> None:
    assert get(b"Expect: 100-continue").expects_continue
    with pytest.raises(ParseError) as caught:
        get(b"Expect: 200-ok")
    assert caught.value.status == 417


@pytest.mark.parametrize(
    "start",
    [b"\x16\x03\x01\x02", b"SSH-2.0-x\n", b"GET /\x01", b"GET / HTTP/1.1\nHost", b"GET / SPDY", b"{json"],
)
def test_what_can_not_become_a_request_is_not_waited_for(start: bytes) -> None:
    with pytest.raises(ParseError):
        check_unfinished_request(bytearray(start), 0, LIMITS)


@pytest.mark.parametrize(
    "start", [b"G", b"GET", b"GET ", b"GET /x", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: a\r"]
)
def test_what_may_become_a_request_is_waited_for(start: bytes) -> None:
    check_unfinished_request(bytearray(start), 0, LIMITS)


def test_size_of_a_head_that_arrives() -> None:
    for start, status in ((b"G" * 20000, 414), (b"GET / HTTP/1.1\r\nX: " + b"a" * 61440, 431)):
        with pytest.raises(ParseError) as caught:
            check_unfinished_request(bytearray(start), 0, LIMITS)
        assert caught.value.status == status
