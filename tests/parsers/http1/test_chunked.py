"""Chunked bodies: what goes on, what is left out, what is refused, in any split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.errors import ParseError
from parsers.http1.chunked import ChunkedBody
from parsers.limits import Http1Limits


def feed_all(data: bytes, step: int, *, keep_trailers: bool = False) -> tuple[bytes, bytes]:
    """(forwarded, what was left behind the body)."""
    body = ChunkedBody(Http1Limits(), keep_trailers=keep_trailers)
    out = b""
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        used, forward = body.feed(piece, 0)
        out += forward
        if body.is_done:
            return out, piece[used:] + data[at + step :]
    assert not body.is_done
    return out, b""


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("data", "forwarded"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"A\r\n0123456789\r\n000\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n"),
        (b'1;a=b;c="d\\"e"\r\nx\r\n0;z\r\n\r\n', b"1\r\nx\r\n0\r\n\r\n"),
        (b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"),
    ],
)
def test_forwarded(data: bytes, forwarded: bytes, step: int) -> None:
    assert feed_all(data + b"REST", step) == (forwarded, b"REST")


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_trailers_of_responses_are_kept(step: int) -> None:
    data = b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert feed_all(data, step, keep_trailers=True) == (data, b"")


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"\r\n\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\n0\r\n",
        b"1" * 17 + b"\r\n",
        b"5;\r\nhello",
        b"5;a=\r\nhello",
        b'5;a="\r\nhello',
        b"5;a\x00\r\nhello",
        b"5;" + b"a" * 300 + b"\r\nhello",
        b"0\r\nContent-Length: 4\r\n\r\n",
        b"0\r\nHost: a\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    ],
)
def test_refused(data: bytes, step: int) -> None:
    with pytest.raises(ParseError):
        feed_all(data, step)


def test_extensions_are_bounded_over_the_whole_body() -> None:
    with pytest.raises(ParseError):
        feed_all(b"1;" + b"a" * 250 + b"\r\nx\r\n" + (b"1;" + b"a" * 250 + b"\r\nx\r\n") * 80, 1000)


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), step=st.integers(1, 50))
def test_any_split_gives_the_same(chunks: list[bytes], step: int) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    assert feed_all(data + b"NEXT", step) == (data, b"NEXT")
