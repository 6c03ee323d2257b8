"""Plain heads: what one look finds is what the full parse finds."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from parsers.errors import ParseError
from parsers.http1.plain import plain_key
from parsers.http1.request import parse_request_untrusted
from parsers.limits import Http1Limits
from tests.parsers.http1 import streams

LIMITS = Http1Limits()
HEAD = b"GET /a/b.c?d=e HTTP/1.1\r\nHost: a.test:80\r\nAccept: */*\r\n\r\n"


def agree(head: bytes) -> bool:
    """Whether the head is plain; if it is, both readings are the same."""
    key = plain_key(head, LIMITS)
    if key is None:
        return False
    parsed = parse_request_untrusted(head, LIMITS)
    assert (parsed.facts.method, parsed.facts.path, parsed.facts.host) == key
    assert (parsed.length, parsed.close, parsed.expects_continue, parsed.opens_tunnel) == (0, False, False, False)
    assert parsed.forward is None
    assert parsed.version == "HTTP/1.1"
    return True


def test_a_usual_request_is_plain() -> None:
    browser = HEAD.replace(
        b"Accept: */*\r\n",
        b"Connection: keep-alive\r\nCookie: a=b; c=d\r\nX-Forwarded-For: 192.0.2.1\r\nUser-Agent: x (y)\r\n",
    )
    for head in (HEAD, browser):
        assert plain_key(head, LIMITS) == (b"GET", b"/a/b.c?d=e", b"a.test:80")
        assert agree(head)


NOT_PLAIN = [
    HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    HEAD.replace(b"Accept", b"Host"),
    HEAD.replace(b"Host", b"Accept"),
    HEAD.replace(b"Accept: */*", b"Content-Length: 0"),
    HEAD.replace(b"Accept: */*", b"transfer-encoding: chunked"),
    HEAD.replace(b"Accept: */*", b"CONNECTION: keep-alive, close"),
    HEAD.replace(b"Accept: */*", b"Connection: close"),
    HEAD.replace(b"Accept: */*", b"Expect: 100-continue"),
    HEAD.replace(b"Accept: */*", b"Upgrade: h2c"),
    HEAD.replace(b"Accept: */*", b"X-ORIGINAL-URL: /b"),
    HEAD.replace(b"Accept: */*", b"x-http-method-override: PUT"),
    HEAD.replace(b"Accept", b"Content_Length"),
    HEAD.replace(b"Accept", b"Acc ept"),
    HEAD.replace(b"*/*", b"\x00"),
    HEAD.replace(b"*/*", b"\r\n folded"),
    HEAD.replace(b"/a/b.c", b"/a/../b"),
    HEAD.replace(b"/a/b.c", b"//a"),
    HEAD.replace(b"/a/b.c", b"/%61"),
    HEAD.replace(b"/a/b.c", b"/a#b"),
    HEAD.replace(b"/a/b.c", b"http://a.test/"),
    HEAD.replace(b"a.test:80", b"a.test:70000"),
    HEAD.replace(b"a.test:80", b"u@a.test"),
    HEAD.replace(b"a.test:80", b""),
    HEAD.replace(b"\r\nAccept", b"\nAccept"),
    HEAD + HEAD,
    HEAD[:-1],
    b"\r\n" + HEAD,
    HEAD.replace(b"Accept: */*\r\n", b"a: b\r\n" * 100),
    HEAD.replace(b"e HTTP", b"e" * 20000 + b" HTTP"),
]


@pytest.mark.parametrize("head", NOT_PLAIN, ids=range(len(NOT_PLAIN)))
def test_what_needs_a_second_look_gets_it(head: bytes) -> None:
    assert plain_key(head, LIMITS) is None


@settings(max_examples=600)
@given(st.one_of(streams.plain_request(), streams.odd_request(), streams.mutated(streams.plain_request())))
def test_one_look_finds_what_the_full_parse_finds(data: bytes) -> None:
    event("plain" if agree(data[: data.find(b"\r\n\r\n") + 4]) else "not plain")


@settings(max_examples=400)
@given(
    st.lists(
        st.sampled_from(
            [
                b"Host",
                b"host",
                b"hOst",
                b"Connection",
                b"X",
                b":",
                b" ",
                b"a_b",
                b"a",
                b"\r\n",
                b"\t",
                b"keep-alive",
                b"\n",
                b"\r",
                b"%",
                b"/",
                b"?",
                b"Content-Length: 1",
            ]
        ),
        max_size=14,
    )
)
def test_no_mixture_of_lines_is_read_differently(parts: list[bytes]) -> None:
    for head in (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(parts) + b"\r\n\r\n",
        b"GET /" + b"".join(parts) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        try:
            agree(head)
        except ParseError as error:
            raise AssertionError(f"the full parse refuses it: {error.reason}") from None
