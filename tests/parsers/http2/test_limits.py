"""Floods and other ways to make the proxy work for nothing: each ends at its bound, which is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parsers.filters import End
from parsers.http2 import frames
from parsers.http2.frames import ErrorCode
from parsers.http2.hpack import encode
from parsers.limits import Http2Limits
from tests.parsers.http2.driving import PathJudge, Wire, request

LIMITS = Http2Limits()
GET = encode(request(b"/a"))
SECOND = 1_000_000_000


def opened(limits: Http2Limits = LIMITS, judge: PathJudge | None = None) -> Wire:
    wire = Wire(judge, limits)
    wire.answers = False
    return wire.run()


def fed(wire: Wire, pieces: Iterator[bytes] | list[bytes], now: int = 1) -> int:
    """Straight into the filter, until it ends; how many pieces that took."""
    count = 0
    for piece in pieces:
        wire.filter.client_data(piece, now)
        count += 1
        if wire.filter.end is not None:
            break
    return count


def ended_by(wire: Wire, limit: str, code: ErrorCode = ErrorCode.ENHANCE_YOUR_CALM) -> None:
    assert (wire.filter.end, wire.filter.limit) == (End.CLOSE, limit)
    assert wire.filter.answer[-4:] == int(code).to_bytes(4, "big")
    assert wire.filter.answer[-17:-8][3] == frames.GOAWAY


FLOODS = {
    "PING": frames.frame(frames.PING, 0, 0, b"12345678"),
    "SETTINGS": frames.frame(frames.SETTINGS, 0, 0),
    "PRIORITY": frames.frame(frames.PRIORITY, 0, 5, b"\0\0\0\0\1"),
    "WINDOW_UPDATE": frames.window_update(0, 1),
    "unknown": frames.frame(200, 0, 0, b""),
    "RST_STREAM of what is over": frames.rst_stream(1, ErrorCode.CANCEL),
}


@pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS.keys())
def test_frames_that_carry_nothing(piece: bytes) -> None:
    wire = opened()
    wire.filter.client_data(frames.headers(1, GET, end_stream=True) + frames.rst_stream(1, ErrorCode.CANCEL), 1)
    assert fed(wire, [piece] * 5000) <= LIMITS.control_frames + 100
    if wire.filter.limit:
        ended_by(wire, "control_frames")
    assert wire.filter.end is End.CLOSE


def test_what_comes_slowly_is_no_flood() -> None:
    """A keep-alive PING every ten seconds, for a week."""
    wire = opened()
    for number in range(60_000):
        wire.filter.client_data(FLOODS["PING"], number * 10 * SECOND)
    assert wire.filter.end is None


def test_window_updates_that_go_with_data_are_no_flood() -> None:
    wire = opened()
    number = wire.get(b"/a")
    wire.run()
    wire.filter.server_data(frames.headers(number, encode([(b":status", b"200")]), end_stream=False), 1)
    for _ in range(5000):
        wire.filter.server_data(frames.data(number, b"x" * 10, end_stream=False), 1)
        wire.filter.client_data(frames.window_update(0, 10) + frames.window_update(number, 10), 1)
    assert wire.filter.end is None


def test_headers_for_a_stream_that_was_refused() -> None:
    wire = opened()
    wire.filter.client_data(frames.headers(1, encode(request(b"/deny")), end_stream=False), 1)
    assert fed(wire, [frames.headers(1, b"", end_stream=True)] * 1000) < 100
    ended_by(wire, "control_frames")


def test_rapid_reset() -> None:
    wire = opened()
    pieces = (
        frames.headers(number, GET, end_stream=True) + frames.rst_stream(number, ErrorCode.CANCEL)
        for number in range(1, 20_001, 2)
    )
    assert fed(wire, pieces) == LIMITS.reset_streams
    ended_by(wire, "reset_streams")


def test_resets_after_a_life_are_none_of_that() -> None:
    wire = opened()
    for number in range(1, 4001, 2):
        wire.filter.client_data(frames.headers(number, GET, end_stream=True), number * SECOND)
        wire.filter.client_data(frames.rst_stream(number, ErrorCode.CANCEL), (number + 1) * SECOND + 1)
    assert wire.filter.end is None


def test_made_you_reset() -> None:
    """CVE-2025-8671: the client makes the other end do the resetting."""
    wire = opened()
    pieces = (
        frames.headers(number, GET, end_stream=True) + frames.window_update(number, 0) for number in range(1, 20_001, 2)
    )
    assert fed(wire, pieces) == LIMITS.reset_streams
    ended_by(wire, "reset_streams")


def test_malformed_requests_count_as_resets() -> None:
    wire = opened()
    block = encode([*request(b"/a"), (b"Upper", b"1")])
    pieces = (frames.headers(number, block, end_stream=True) for number in range(1, 20_001, 2))
    assert fed(wire, pieces) == LIMITS.reset_streams
    ended_by(wire, "reset_streams")


def test_data_without_data() -> None:
    wire = opened()
    wire.filter.client_data(frames.headers(1, GET, end_stream=False), 1)
    assert fed(wire, [frames.data(1, b"", end_stream=False)] * 10) == LIMITS.empty_frames + 1
    ended_by(wire, "empty_frames")


def test_continuation_flood() -> None:
    wire = opened()
    wire.filter.client_data(frames.frame(frames.HEADERS, 0, 1, GET), 1)
    assert fed(wire, [frames.frame(frames.CONTINUATION, 0, 1, b"")] * 500) == LIMITS.continuation_frames + 1
    ended_by(wire, "continuation_frames")


def test_a_header_block_without_end() -> None:
    wire = opened()
    wire.filter.client_data(frames.frame(frames.HEADERS, 0, 1, GET), 1)
    fed(wire, [frames.frame(frames.CONTINUATION, 0, 1, b"x" * 16384)] * 10)
    ended_by(wire, "header_block_bytes")


def test_a_header_list_of_references() -> None:
    wire = opened()
    wire.filter.client_data(frames.headers(1, b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000, end_stream=True), 1)
    fed(wire, [frames.headers(3, b"\xbe" * 1000, end_stream=True)])
    ended_by(wire, "header_list_bytes")


def test_too_many_headers_are_answered() -> None:
    wire = opened()
    number = wire.get(b"/a", *[(b"x-%d" % i, b"1") for i in range(101)])
    wire.run()
    assert wire.status(number) == 431
    assert wire.filter.end is None


def test_refused_streams_of_a_client_that_does_not_listen() -> None:
    wire = opened(Http2Limits(concurrent_streams=1, control_frames=100))
    pieces = (frames.headers(number, GET, end_stream=False) for number in range(1, 2001, 2))
    assert fed(wire, pieces) < 50


def test_answers_that_wait_for_the_server_are_bounded() -> None:
    wire = Wire()
    wire._client_turn()
    pieces = (frames.headers(number, encode(request(b"/deny")), end_stream=True) for number in range(1, 100_001, 2))
    assert fed(wire, pieces) < 5000
    ended_by(wire, "waiting_answer_bytes")


@pytest.mark.parametrize("padding", [1, 255])
def test_padding_longer_than_its_frame(padding: int) -> None:
    wire = opened()
    wire.filter.client_data(frames.headers(1, GET, end_stream=False), 1)
    wire.filter.client_data(frames.frame(frames.DATA, frames.PADDED, 1, bytes((padding,))), 1)
    ended_by(wire, "", ErrorCode.PROTOCOL_ERROR)


def test_what_is_remembered_is_bounded() -> None:
    wire = opened()
    for number in range(1, 4001, 2):
        block = encode(request(b"/a", (b"x-n", b"%d" % number)))
        wire.filter.client_data(frames.headers(number, block, end_stream=True), 1)
        wire.filter.server_data(frames.headers(number, encode([(b":status", b"200")]), end_stream=True), 1)
    requests = wire.filter._requests
    assert len(requests._known) <= LIMITS.memo_entries
    assert len(wire.filter._conversation.streams.ended) <= LIMITS.ended_streams
    assert not wire.filter._conversation.streams.live


def test_what_is_unfinished_has_another_name_each_time() -> None:
    """However the pieces fall, a connection on which things go on does not look like one that waits for a head."""
    wire = opened()
    frame = frames.headers(1, GET, end_stream=True)
    half = len(frame) // 2
    wire.filter.client_data(frame[:half], 1)
    seen = {wire.filter.unfinished_head}
    for number in range(3, 41, 2):
        following = frames.headers(number, GET, end_stream=True)
        wire.filter.client_data(frame[half:] + following[:half], 1)
        frame = following
        seen.add(wire.filter.unfinished_head)
    assert len(seen) == 20
    assert 0 not in seen
    wire.filter.client_data(frame[half:], 1)
    assert wire.filter.unfinished_head == 0
