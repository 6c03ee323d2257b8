"""The first bytes of a connection to a port with HTTP rules say which HTTP it is.

HTTP/2 announces itself by its preface (prior knowledge, RFC 9113 §3.3), TLS by the type of its first record; all else
has to be HTTP/1. The same judge is asked whichever it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from parsers.filters import End, Filter, ReadsAll
from parsers.http1.filter import Http1Filter
from parsers.http1.judging import Http1Judge, Http1Shared
from parsers.http2.conversation import Http2Judge, Http2Shared
from parsers.http2.filter import Http2Filter
from parsers.http2.frames import PREFACE

_TLS_HANDSHAKE = 0x16
TLS_FAILURE = "the client speaks TLS, and HTTP rules can not see into it"


class HttpJudge(Http1Judge, Http2Judge, Protocol):
    """Whoever judges requests of both."""


class Opening(ReadsAll):
    """Stands for the filter of a connection (`parsers.filters.Filter`) until `choose` is told which it is."""

    __slots__ = ("_choose", "_first", "_http1", "_http2", "_tag", "answer", "end", "failure", "judge", "limit")

    def __init__(
        self,
        judge: HttpJudge,
        http1: Http1Shared,
        http2: Http2Shared,
        tag: object,
        choose: Callable[[Filter], None],
    ) -> None:
        self.judge = judge
        self.answer = b""
        self.end: End | None = None
        self.failure = ""
        self.limit = ""
        self._http1 = http1
        self._http2 = http2
        self._tag = tag
        self._choose = choose
        self._first = b""

    @property
    def is_idle(self) -> bool:
        return not self._first

    @property
    def may_be_silent(self) -> bool:
        return False

    @property
    def unfinished_head(self) -> int:
        return 1 if self._first else 0

    @property
    def awaits_server_close(self) -> bool:
        return False

    def client_data(self, data: bytes, now: int) -> bytes:
        if self.end is not None:
            return b""
        first = self._first + data if self._first else data
        if first[0] == _TLS_HANDSHAKE:
            self.failure = TLS_FAILURE
            self.end = End.ABORT
            return b""
        if not first.startswith(PREFACE[: len(first)]):
            return self._chosen(Http1Filter(self.judge, self._http1, self._tag)).client_data(first, now)
        if len(first) < len(PREFACE):
            self._first = first
            return b""
        return self._chosen(Http2Filter(self.judge, self._http2, self._tag)).client_data(first, now)

    def _chosen(self, filter_: Filter) -> Filter:
        self._first = b""
        self._choose(filter_)
        self.finish(0)
        return filter_

    def server_data(self, data: bytes, now: int) -> bytes:
        """There is no server yet."""
        self.end = End.ABORT
        return b""

    def client_eof(self) -> None:
        self.end = End.CLOSE

    def server_eof(self) -> None:
        self.end = End.CLOSE

    def server_unreachable(self, reason: str, now: int) -> None:
        self.end = End.CLOSE

    def time_out(self) -> None:
        self.failure = "the first bytes did not arrive in time"
        self.limit = "header_timeout"
        self.end = End.CLOSE

    def drain(self, now: int) -> bool:
        return self.is_idle

    def finish(self, now: int) -> None:
        """Let go of the connection, which holds this filter: no cycle is left for the collector."""
        self._tag = None
        self._choose = _nobody


def _nobody(filter_: Filter) -> None:
    """The choice has been made."""
