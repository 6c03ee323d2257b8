"""One filter with both of its sides. What holds always is checked after every call."""

from __future__ import annotations

from collections.abc import Iterable

from parsers.filters import End, Filter
from parsers.http.opening import Opening
from parsers.http1.chunked import ChunkedBody
from parsers.http1.filter import Http1Filter
from parsers.http1.judging import MEMO_ENTRIES
from parsers.http2.blocks import OpenBlock
from parsers.http2.filter import Http2Filter
from parsers.http2.frames import HEADER_BYTES, MAX_PAYLOAD, PREFACE
from parsers.http2.hpack import MAX_TABLE
from parsers.limits import Http2Limits

SECOND = 1_000_000_000


class Run:
    """Collects what leaves the filter. Once it has ended it is fed on, to see that nothing comes any more."""

    def __init__(self, filter_: Filter) -> None:
        self.filter = filter_
        self.to_server = b""
        self.to_client = b""
        self.end: End | None = None
        self.failure = ""
        self.limit = ""
        self._read = 0

    def client(self, data: Iterable[bytes]) -> None:
        for piece in data:
            self._took(self.filter.client_data(piece, SECOND), b"", len(piece))

    def server(self, data: Iterable[bytes]) -> None:
        for piece in data:
            self._took(b"", self.filter.server_data(piece, SECOND), len(piece))

    def finish(self, ending: int) -> None:
        """Ends the connection in one of eight ways; the filter must be able to bear each at any time."""
        filter_ = self.filter
        if self.end is None:
            match ending:
                case 0:
                    filter_.client_eof()
                case 1:
                    filter_.server_eof()
                case 2 if filter_.unfinished_head:
                    filter_.time_out()
                case 3:
                    filter_.server_unreachable("no route", SECOND)
                case 4:
                    filter_.drain(SECOND)
                case 5:
                    filter_.drain(SECOND)
                    filter_.drain(3 * SECOND)
                case 6:
                    filter_.client_eof()
                    if filter_.end is None:
                        filter_.server_eof()
            self._took(b"", b"", self._read)
        self.failure, self.limit = filter_.failure, filter_.limit
        filter_.finish(4 * SECOND)
        assert not filter_.answer, "the end is recorded, not answered"

    def _took(self, to_server: bytes, to_client: bytes, read: int) -> None:
        filter_ = self.filter
        answer, filter_.answer = filter_.answer, b""
        if self.end is not None:
            produced = to_server + to_client + answer
            assert not produced, f"produced behind the end: {produced!r}"
            assert filter_.end is self.end, "one end became another"
            return
        self.to_server += to_server
        self.to_client += to_client + answer
        self.end = filter_.end
        self._read = read
        self.check_bounds(read)

    def check_bounds(self, read: int) -> None:
        """What a filter holds is bounded by its limits and by what came last: `read` bytes."""
        check_bounds(self.filter, read)


def check_bounds(filter_: Filter, read: int) -> None:
    if isinstance(filter_, Http1Filter):
        _check_http1(filter_, read)
    elif isinstance(filter_, Http2Filter):
        _check_http2(filter_)
    elif isinstance(filter_, Opening):
        assert len(filter_._first) < len(PREFACE) or filter_.end is not None


def _check_http1(filter_: Http1Filter, read: int) -> None:
    limits = filter_._shared.limits
    assert len(filter_._head._held) <= limits.head_bytes + read
    assert len(filter_._response_head._held) <= limits.head_bytes + read
    for chunks in (filter_._chunks, filter_._response_chunks):
        _check_chunks(chunks, max(limits.chunk_line_bytes, limits.trailer_bytes + 4))
    assert len(filter_._owed) <= limits.pipelined_requests + 1
    assert filter_._informational <= limits.informational_responses + (filter_.end is not None)
    memo = filter_.judge.memo
    assert max(len(memo), len(memo.plain or ()), len(memo._once)) <= MEMO_ENTRIES
    assert len(filter_._shared.response_heads) <= limits.memo_entries


def _check_chunks(chunks: ChunkedBody | None, bound: int) -> None:
    assert chunks is None or len(chunks._line) <= bound


def _check_http2(filter_: Http2Filter) -> None:
    conversation, limits = filter_._conversation, filter_._conversation.shared.limits
    for side in (filter_._requests, filter_._responses):
        if filter_.end is None:
            assert len(side._held) < HEADER_BYTES + MAX_PAYLOAD
            _check_block(side._open, limits)
        assert len(side._known) <= limits.memo_entries
        assert side._decoder._size <= MAX_TABLE
        entries = side._decoder._entries
        assert side._decoder._size == sum(len(field.name) + len(field.value) + 32 for field in entries)
    assert all(it.informational <= limits.informational_responses + 1 for it in conversation.streams.live.values())
    assert len(conversation.streams.live) <= limits.concurrent_streams
    assert len(conversation.streams.ended) <= limits.ended_streams
    assert 0 <= conversation.credit <= limits.body_credit
    if filter_.end is None:
        assert sum(map(len, conversation.waiting)) <= limits.waiting_answer_bytes


def _check_block(block: OpenBlock | None, limits: Http2Limits) -> None:
    if block is not None:
        assert len(block._frames) <= limits.continuation_frames + 1
        assert block._size <= (limits.header_block_bytes if len(block._frames) > 1 else MAX_PAYLOAD)
