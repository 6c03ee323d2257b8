"""Changes of headers in bytes: what the server gets of a request whose ruling has edits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.facts import FIXED_HEADERS, EditKind, HeaderEdit, HttpRequest, edited_fields, edited_request
from parsers.http.judging import Ruling
from parsers.http1.edits import edited_head
from parsers.http1.filter import Http1Filter
from parsers.http1.judging import HeadMemo, Http1Shared, JudgedHead
from parsers.http1.request import parse_request_untrusted
from parsers.limits import Http1Limits


def add(name: bytes, value: bytes = b"v") -> HeaderEdit:
    return HeaderEdit(EditKind.ADD, name, value)


def put(name: bytes, value: bytes = b"v") -> HeaderEdit:
    return HeaderEdit(EditKind.SET, name, value)


def remove(name: bytes) -> HeaderEdit:
    return HeaderEdit(EditKind.REMOVE, name)


HEAD = b"GET /a HTTP/1.1\r\nHost: a.test\r\nX-One:  1 \r\nX-Two: 2\r\nx-ONE: 3\r\n\r\n"
START = b"GET /a HTTP/1.1\r\nHost: a.test\r\n"


@pytest.mark.parametrize(
    ("edits", "lines"),
    [
        ((), b"X-One:  1 \r\nX-Two: 2\r\nx-ONE: 3\r\n"),
        ((add(b"x-two"),), b"X-One:  1 \r\nX-Two: 2\r\nx-ONE: 3\r\nx-two: v\r\n"),
        ((put(b"x-one"),), b"x-one: v\r\nX-Two: 2\r\n"),
        ((put(b"x-new", b""),), b"X-One:  1 \r\nX-Two: 2\r\nx-ONE: 3\r\nx-new: \r\n"),
        ((remove(b"x-one"),), b"X-Two: 2\r\n"),
        ((remove(b"x-none"),), b"X-One:  1 \r\nX-Two: 2\r\nx-ONE: 3\r\n"),
        ((remove(b"x-one"), add(b"x-one"), add(b"x-one", b"w")), b"X-Two: 2\r\nx-one: v\r\nx-one: w\r\n"),
        ((remove(b"x_one"),), b"X-Two: 2\r\n"),
        ((add(b"x_one"), put(b"x-one")), b"x-one: v\r\nX-Two: 2\r\n"),
        ((add(b"x-two"), remove(b"x-two")), b"X-One:  1 \r\nx-ONE: 3\r\n"),
        ((put(b"x-two"), put(b"x-two", b"w")), b"X-One:  1 \r\nx-two: w\r\nx-ONE: 3\r\n"),
    ],
)
def test_edits(edits: tuple[HeaderEdit, ...], lines: bytes) -> None:
    assert edited_head(HEAD, edits) == START + lines + b"\r\n"


@pytest.mark.parametrize("name", sorted(FIXED_HEADERS))
def test_what_frames_or_routes_is_out_of_reach(name: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\nTE: trailers\r\n\r\n"
    assert edited_head(head, (add(name), put(name), remove(name))) == head


class EditingJudge:
    def __init__(self, *edits: HeaderEdit) -> None:
        self.memo = HeadMemo(looks_at_headers=True)
        self.asked = 0
        self._edits = edits

    def rule(self, request: HttpRequest) -> Ruling:
        self.asked += 1
        return Ruling(True, edits=self._edits)


def test_a_head_that_is_rebuilt_is_edited_too() -> None:
    raw = b"GET http://b.test/x/../a HTTP/1.1\r\nHost: a.test\r\nX-Rewrite-URL: /z\r\nX-One: 1\r\n\r\n"
    filter_ = Http1Filter(EditingJudge(put(b"x-one"), add(b"x-two")), Http1Shared())
    assert filter_.client_data(raw, 0) == b"GET /a HTTP/1.1\r\nHost: b.test\r\nx-one: v\r\nx-two: v\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_memo_remembers_edits_and_bodies_follow(step: int) -> None:
    judge = EditingJudge(remove(b"x-one"))
    raw = b"POST /a HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nContent-Length: 3\r\n\r\nabc"
    forwarded = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    filter_ = Http1Filter(judge, Http1Shared())
    sent = b""
    for at in range(0, 3 * len(raw), step):
        sent += filter_.client_data((raw * 3)[at : at + step], 0)
    assert sent == forwarded * 3
    assert judge.asked == 1


def test_an_edited_request_that_comes_again_in_one_piece_is_edited_again() -> None:
    filter_ = Http1Filter(EditingJudge(add(b"x-new")), Http1Shared())
    raw = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(3):
        assert filter_.client_data(raw, 0) == b"GET /a HTTP/1.1\r\nHost: a\r\nx-new: v\r\n\r\n"
        assert filter_.server_data(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0)


def test_values_are_not_shown() -> None:
    assert "s3cret" not in repr((put(b"a", b"s3cret"), Ruling(True, edits=(add(b"a", b"s3cret"),))))


_NAMES = st.sampled_from([b"x-one", b"x-two", b"cookie", b"content-length", b"host"])
_VALUES = st.sampled_from([b"", b"1", b"a, b", b"\xc3\xa9"])
_EDITS = st.lists(st.builds(HeaderEdit, st.sampled_from(EditKind), _NAMES, _VALUES), max_size=6).map(tuple)
_FIELDS = st.lists(st.tuples(st.sampled_from([b"X-One", b"x-two", b"COOKIE"]), _VALUES), max_size=6)


@given(_EDITS, _FIELDS, st.sampled_from([b"/a", b"/x/../a?b"]))
def test_the_edited_head_says_what_the_edited_facts_say(
    edits: tuple[HeaderEdit, ...], fields: list[tuple[bytes, bytes]], target: bytes
) -> None:
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    raw = b"POST " + target + b" HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n" + lines + b"\r\n"
    head = parse_request_untrusted(raw, Http1Limits())
    judged = JudgedHead(head, raw, Ruling(True, edits=edits))
    again = parse_request_untrusted(judged.rebuilt or raw, Http1Limits())
    assert again.facts == edited_request(head.facts, edits)
    assert (again.length, again.close, again.forward) == (3, False, None)
    assert judged.is_plain is False
    assert edited_fields(head.facts.headers, ()) == list(head.facts.headers)
