"""Heads that arrive in pieces."""

from __future__ import annotations

import pytest

from parsers.errors import ParseError
from parsers.http1.heads import HeadBuffer
from parsers.http1.request import check_unfinished_request
from parsers.limits import Http1Limits

HEAD = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


def feed(buffer: HeadBuffer, data: bytes, step: int) -> None:
    for at in range(0, len(data), step):
        buffer.take(data[at : at + step], 0)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 16, len(HEAD)])
def test_whole_head_from_pieces(step: int) -> None:
    buffer = HeadBuffer(check_unfinished_request, Http1Limits())
    stream = HEAD + b"body"
    at = 0
    while True:
        head, used = buffer.take(stream[at : at + step], 0)
        at += used
        if head is not None:
            break
    assert head == HEAD
    assert stream[at:] == b"body"
    assert not buffer


def test_head_in_the_middle_of_data() -> None:
    assert HeadBuffer(check_unfinished_request, Http1Limits()).take(b"xx" + HEAD + b"y", 2) == (HEAD, 2 + len(HEAD))


def test_too_large_at_once_and_in_pieces() -> None:
    limits = Http1Limits(head_bytes=40)
    whole = b"GET / HTTP/1.1\r\nHost: " + b"a" * 40 + b"\r\n\r\n"
    for step in (1, 30, len(whole)):
        with pytest.raises(ParseError):
            feed(HeadBuffer(check_unfinished_request, limits), whole, step)


def test_each_held_head_has_its_own_serial() -> None:
    buffer = HeadBuffer(check_unfinished_request, Http1Limits())
    buffer.take(b"GET", 0)
    first = buffer.serial
    buffer.take(HEAD[3:], 0)
    buffer.take(b"GET", 0)
    assert buffer.serial != first
