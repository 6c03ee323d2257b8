"""The first bytes of a connection choose the parser, however they are cut."""

from __future__ import annotations

import pytest

from parsers.filters import End, Filter
from parsers.http.opening import TLS_FAILURE, Opening
from parsers.http1.filter import Http1Filter
from parsers.http1.judging import HeadMemo, Http1Shared
from parsers.http2 import frames
from parsers.http2.conversation import Http2Shared
from parsers.http2.filter import Http2Filter
from parsers.http2.frames import PREFACE
from tests.parsers.http2.driving import PathJudge

GET = b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"
STEPS = pytest.mark.parametrize("step", [1, 5, 1 << 20])


class Judge(PathJudge):
    """For both versions."""

    def __init__(self) -> None:
        super().__init__()
        self.memo = HeadMemo(looks_at_headers=False)


class Wire:
    def __init__(self) -> None:
        self.filter: Filter = Opening(Judge(), Http1Shared(), Http2Shared(), None, self._choose)
        self.chosen: Filter | None = None
        self.to_server = b""

    def _choose(self, filter_: Filter) -> None:
        assert self.chosen is None, "the choice is made once"
        self.filter = self.chosen = filter_

    def client(self, data: bytes, step: int) -> Wire:
        for at in range(0, len(data), step):
            if self.filter.end is None:
                self.to_server += self.filter.client_data(data[at : at + step], 0)
        return self


@STEPS
def test_http1(step: int) -> None:
    wire = Wire().client(GET, step)
    assert isinstance(wire.chosen, Http1Filter)
    assert wire.to_server == GET


@STEPS
def test_http2(step: int) -> None:
    settings = frames.frame(frames.SETTINGS, 0, 0, b"\0\2\0\0\0\0")
    wire = Wire().client(PREFACE + settings, step)
    assert isinstance(wire.chosen, Http2Filter)
    assert wire.to_server == PREFACE + settings


@STEPS
@pytest.mark.parametrize("data", [b"P", b"POST /a HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI /a HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_what_begins_like_the_preface_may_be_http1(data: bytes, step: int) -> None:
    wire = Wire().client(data, step)
    assert isinstance(wire.chosen, Http1Filter) or data == b"P"
    assert wire.to_server == (data if wire.chosen else b"")


@STEPS
def test_a_preface_that_is_none_is_answered_by_nobody(step: int) -> None:
    wire = Wire().client(PREFACE[:-1] + b"x", step)
    assert isinstance(wire.chosen, Http1Filter)
    assert (wire.to_server, wire.filter.end) == (b"", End.CLOSE)


@STEPS
def test_tls_ends_in_a_reset(step: int) -> None:
    wire = Wire().client(b"\x16\x03\x01\x00\xa5\x01", step)
    assert (wire.chosen, wire.filter.end, wire.filter.failure) == (None, End.ABORT, TLS_FAILURE)


def test_nothing_yet_is_idle_and_a_piece_of_the_preface_must_go_on() -> None:
    wire = Wire()
    assert (wire.filter.is_idle, wire.filter.unfinished_head) == (True, 0)
    wire.client(b"PRI", 1)
    assert (wire.filter.is_idle, wire.filter.unfinished_head) == (False, 1)
    wire.filter.time_out()
    assert (wire.filter.end, wire.filter.limit) == (End.CLOSE, "header_timeout")


def test_a_client_that_says_nothing_ends_quietly() -> None:
    wire = Wire()
    wire.filter.client_eof()
    assert (wire.filter.end, wire.filter.failure) == (End.CLOSE, "")
