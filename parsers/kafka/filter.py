"""The filter of one Kafka connection: frames in, verdicts, frames out.

    client's bytes ──▶ frames ──▶ requests ──▶ permitted: to the server, refused: into the queue of answers
    client's bytes ◀── answers in order ◀── server's bytes

Frames that are whole in one read are judged where they lie and pass uncopied. Of a Produce request that comes in
pieces, the first names the topic: what follows passes, or is dropped, as it arrives. All else that comes in pieces is
held until it is whole.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from parsers.errors import ParseError
from parsers.filters import End, Way
from parsers.kafka.answers import Answers
from parsers.kafka.header import SMALLEST, RequestHeader, read_header
from parsers.kafka.judging import KafkaJudge
from parsers.kafka.refusals import MESSAGE_TOO_LARGE
from parsers.kafka.requests import KafkaShared, Requests, UnknownTopics
from parsers.kafka.skim import FETCH, PRODUCE, ProduceWalk

_INT32 = Struct(">i")
_SIZE = 4
_TLS_HANDSHAKE = 0x16
TLS_FAILURE = "the client speaks TLS, and Kafka rules can not see into it"


class Valve(Protocol):
    """What a filter asks of the connection whose bytes it sees."""

    def hold_client(self) -> None:
        """Read nothing more of the client; what has been read is kept here."""
        ...

    def release_client(self) -> None: ...

    def hold_server(self) -> None: ...

    def release_server(self) -> None: ...

    def send_to_server(self, data: bytes) -> None:
        """Bytes of the client that were kept here until now."""
        ...

    def wake_at(self, when: int) -> None:
        """Call `wake` at that time (ns)."""
        ...


class _Partial:
    """A frame of which the beginning is here. `size`: of all of it with its length field; 0: not known yet."""

    __slots__ = ("data", "header", "size", "walk", "walked")

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.size = 0
        self.header: RequestHeader | None = None
        self.walk: ProduceWalk | None = None
        self.walked = 0


class KafkaFilter:
    """`parsers.filters.Filter` for Kafka."""

    def __init__(
        self, judge: KafkaJudge, shared: KafkaShared, server: tuple[str, int], tag: object, valve: Valve
    ) -> None:
        self.answer = b""
        self.end: End | None = None
        self.failure = ""
        self.limit = ""
        self._shared = shared
        self._answers = Answers(shared.exchanges, shared.limits)
        self._requests = Requests(judge, shared, shared.topic_ids.of(server), tag, self._answers)
        self._valve: Valve | None = valve
        self._partial: _Partial | None = None
        self._passing = 0
        self._dropping = 0
        self._streamed: tuple[RequestHeader, ProduceWalk, int] | None = None
        self._kept = b""
        self._holds_client = False
        self._holds_server = False
        self._resolving = False
        self._draining = False
        self._frames = 0
        self._woken_at = 0

    # -- Filter: what there is to know -------------------------------------------------------------------------------

    @property
    def judge(self) -> KafkaJudge:
        return self._requests.judge

    @judge.setter
    def judge(self, judge: KafkaJudge) -> None:
        self._requests.judge = judge

    @property
    def is_idle(self) -> bool:
        return self._answers.is_idle and not (self._is_amid_request or self._kept)

    @property
    def may_be_silent(self) -> bool:
        """A server answers when there is something to say: a group that waits for its members takes minutes."""
        return not self._is_amid_request

    @property
    def _is_amid_request(self) -> bool:
        return bool(self._passing or self._dropping or self._partial)

    @property
    def unfinished_head(self) -> int:
        """Changes with each 64 KiB of a request that is held until it is whole: slow is allowed, stuck is not."""
        partial = self._partial
        if partial is None or self._resolving:
            return 0
        return self._frames << 32 | len(partial.data) >> 16 << 1 | 1

    @property
    def awaits_server_close(self) -> bool:
        return False

    # -- Filter: what happens ----------------------------------------------------------------------------------------

    def client_data(self, data: bytes, now: int) -> bytes:
        if self.end is not None:
            return b""
        try:
            out = self._client_data(data, now)
        except ParseError as error:
            self._fail(error)
            out = b""
        self._settle(now)
        return out + self._go_on(now) if self._holds_client else out

    def _client_data(self, data: bytes, now: int) -> bytes:
        if self._kept or self._holds_client:
            self._kept += data
            return b""
        partial = self._partial
        if partial is None:
            return self._frames_in(data, now)
        self._grow(partial, data)
        return self._advance(partial, now)

    def server_data(self, data: bytes, now: int) -> bytes:
        if self.end is not None:
            return b""
        try:
            out = self._answers.server_data(data, now)
        except ParseError as error:
            self._fail(error)
            return b""
        self._send(self._go_on(now))
        if self._answers.server_waits and not self._holds_server and self._valve is not None:
            self._holds_server = True
            self._valve.hold_server()
        self._settle(now)
        return out

    def wake(self, now: int) -> None:
        """The time has come that `wake_at` was asked for."""
        self._woken_at = 0
        if self.end is None:
            self._settle(now)
            self._send(self._go_on(now))

    def client_eof(self) -> None:
        if not any(not pending.answer for pending in self._answers.queue):
            self.end = End.CLOSE

    def server_eof(self) -> None:
        self.end = End.CLOSE

    def server_unreachable(self, reason: str, now: int) -> None:
        self.failure = reason
        self.end = End.ABORT

    def time_out(self) -> None:
        self.failure = "a request did not arrive in time"
        self.limit = "header_timeout"
        self.end = End.CLOSE

    def drain(self, now: int) -> bool:
        self._draining = True
        return self._answers.is_idle and not self._is_amid_request

    def finish(self, now: int) -> None:
        self._answers.finish()
        self._release_partial()
        self._valve = None
        self._requests.tag = None

    # -- what nobody reads -------------------------------------------------------------------------------------------

    def unread(self, way: Way) -> int:
        """Of an answer that passes, or of the records of a partition that are being produced."""
        if way is Way.FROM_SERVER:
            return self._answers.unread
        return min(self._passing, self._streamed[1].unread) if self._streamed is not None else 0

    def passed(self, way: Way, count: int) -> None:
        if way is Way.FROM_SERVER:
            self._answers.passed(count)
        elif self._streamed is not None:
            self._passing -= count
            self._streamed[1].passed(count)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _frames_in(self, data: bytes, now: int) -> bytes:
        """Bytes from the middle or the beginning of a frame → bytes for the server."""
        out: list[bytes] = []
        position = start = 0
        end = len(data)
        while position < end:
            if self._passing or self._dropping:
                taken = min(self._passing or self._dropping, end - position)
                is_dropped = not self._passing
                position = self._stream(data, position, position + taken, now)
                if is_dropped:
                    start = position
                continue
            if self._must_stop():
                self._keep(data[position:])
                break
            size = _INT32.unpack_from(data, position)[0] if end - position >= _SIZE else -1
            frame_end = position + _SIZE + size
            if size < SMALLEST or frame_end > end:
                out.append(data[start:position])
                out.append(self._begin(data[position:], now))
                start = position = end
                break
            try:
                changed = self._whole(data, position + _SIZE, frame_end, now)
            except UnknownTopics as unknown:
                out.append(data[start:position])
                out.append(self._ask_for(unknown.ids))
                self._keep(data[position:])
                start = position = end
                break
            if changed is not None:
                out.append(data[start:position])
                out.append(changed)
                start = frame_end
            position = frame_end
        if not start and position == end:
            return data
        out.append(data[start:position])
        return b"".join(out)

    def _whole(self, data: bytes | bytearray, start: int, end: int, now: int) -> bytes | None:
        self._frames += 1
        repeated = self._requests.repeated(data, start, end, now)
        if repeated is not None:
            return repeated or None
        header = read_header(data, start, end)
        return self._requests.take(header, data, start, end, now)

    def _stream(self, data: bytes, start: int, stop: int, now: int) -> int:
        """More of a Produce request that has been decided on. Returns the position behind it."""
        assert self._streamed is not None
        header, walk, error = self._streamed
        walk.feed(memoryview(data)[start:stop])
        count = stop - start
        if self._passing:
            self._passing -= count
        else:
            self._dropping -= count
            if not self._dropping:
                reason = "it names several topics and is too large to be held" if error else ""
                self._requests.refuse_produce(header, walk.produce, now, error, reason)
        if not (self._passing or self._dropping):
            self._streamed = None
        return stop

    def _must_stop(self) -> bool:
        if not self._has_to_wait():
            return False
        if not self._holds_client and self._valve is not None:
            self._holds_client = True
            self._valve.hold_client()
        return True

    def _keep(self, data: bytes) -> None:
        self._kept = data

    def _ask_for(self, ids: list[bytes]) -> bytes:
        """The client is not read until the server has said which topics these are."""
        asked = self._requests.ask_for(ids)
        self._resolving = True
        self._must_stop()
        return asked

    def _go_on(self, now: int) -> bytes:
        """Answers have been given: what was kept of the client may go on now. Returns bytes for the server."""
        out = b""
        while self.end is None and self._holds_client and not self._has_to_wait():
            self._holds_client = False
            try:
                if self._partial is not None:
                    out += self._advance(self._partial, now)
                if self._kept and not self._holds_client:
                    kept, self._kept = self._kept, b""
                    out += self._client_data(kept, now)
            except ParseError as error:
                self._fail(error)
                return b""
            if not self._holds_client and self._valve is not None:
                self._valve.release_client()
            self._settle(now)
        return out

    def _send(self, data: bytes) -> None:
        if data and self._valve is not None:
            self._valve.send_to_server(data)

    def _has_to_wait(self) -> bool:
        if self._resolving and not any(pending.is_ours for pending in self._answers.queue):
            self._resolving = False
        return self._resolving or self._draining or self._answers.is_full

    # -- requests in pieces ------------------------------------------------------------------------------------------

    def _begin(self, data: bytes, now: int) -> bytes:
        self._frames += 1
        partial = self._partial = _Partial(b"")
        self._grow(partial, data)
        return self._advance(partial, now)

    def _grow(self, partial: _Partial, data: bytes) -> None:
        partial.data += data
        shared = self._shared
        shared.held_bytes += len(data)
        if shared.held_bytes > shared.limits.held_bytes and len(partial.data) > shared.limits.small_request_bytes:
            raise ParseError("too much is held of all requests that are not whole", limit="held_bytes")

    def _release_partial(self) -> None:
        if self._partial is not None:
            self._shared.held_bytes -= len(self._partial.data)
            self._partial = None

    def _advance(self, partial: _Partial, now: int) -> bytes:
        """What is held has grown, or can be judged now."""
        data = partial.data
        if not partial.size and not self._read_size(partial):
            return b""
        if len(data) >= partial.size:
            self._release_partial()
            return self._frames_in(bytes(data), now)
        if partial.size <= self._shared.limits.streamed_bytes or not self._is_produce(partial):
            return b""
        try:
            return self._advance_produce(partial, now)
        except UnknownTopics as unknown:
            return self._ask_for(unknown.ids)

    def _read_size(self, partial: _Partial) -> bool:
        data, limits = partial.data, self._shared.limits
        if data[0] == _TLS_HANDSHAKE and data[1:2] in (bytearray(), bytearray(b"\3")):
            if len(data) < 3:
                return False
            raise ParseError(TLS_FAILURE)
        if len(data) < _SIZE:
            return False
        size = int(_INT32.unpack_from(data)[0])
        if size < SMALLEST:
            raise ParseError("these are not Kafka requests")
        if size > limits.request_bytes:
            raise ParseError("a request is too large", limit="request_bytes")
        if len(data) < _SIZE + 2 and size > limits.small_request_bytes:
            return False
        key = int.from_bytes(data[_SIZE : _SIZE + 2], "big", signed=True)
        bound = limits.buffered_bytes if key in (PRODUCE, FETCH) else limits.small_request_bytes
        if key != PRODUCE and size > bound:
            raise ParseError("a request is too large", limit="buffered_bytes")
        partial.size = _SIZE + size
        return True

    def _is_produce(self, partial: _Partial) -> bool:
        return len(partial.data) >= _SIZE + 2 and not any(partial.data[_SIZE : _SIZE + 2])

    def _advance_produce(self, partial: _Partial, now: int) -> bytes:
        walk = self._walk(partial)
        if walk is None or partial.header is None:
            return b""
        if walk.is_single:
            is_permitted = self._requests.judge_produce(partial.header, walk.produce, now)
            return self._decided(partial, partial.header, walk, is_permitted)
        if len(partial.data) > self._shared.limits.buffered_bytes:
            return self._decided(partial, partial.header, walk, False, MESSAGE_TOO_LARGE)
        return b""

    def _walk(self, partial: _Partial) -> ProduceWalk | None:
        """The walk over the body so far; None while not even the header is here."""
        data = partial.data
        walk = partial.walk
        if walk is None:
            header = _header_so_far(data, partial.size)
            if header is None:
                return None
            partial.header = header
            self._requests.check_version(header)
            walk = partial.walk = ProduceWalk(header.version, partial.size - header.body)
            partial.walked = header.body
        if partial.walked < len(data):
            walk.feed(bytes(data[partial.walked :]))
            partial.walked = len(data)
        return walk

    def _decided(
        self, partial: _Partial, header: RequestHeader, walk: ProduceWalk, permit: bool, error: int = 0
    ) -> bytes:
        left = partial.size - len(partial.data)
        held = bytes(partial.data) if permit else b""
        self._release_partial()
        self._streamed = (header, walk, error)
        self._passing, self._dropping = (left, 0) if permit else (0, left)
        return held

    # -- ends --------------------------------------------------------------------------------------------------------

    def _settle(self, now: int) -> None:
        """Send what is due, and ask to be woken for what will be."""
        answers, valve = self._answers, self._valve
        if answers.queue or self._holds_server:
            try:
                self.answer += answers.due(now)
            except ParseError as error:
                self._fail(error)
                return
        if valve is None:
            return
        if self._holds_server and not answers.server_waits:
            self._holds_server = False
            valve.release_server()
        when = answers.wake_at
        if when and (not self._woken_at or when < self._woken_at):
            self._woken_at = when
            valve.wake_at(when)

    def _fail(self, error: ParseError) -> None:
        self.failure = error.reason
        self.limit = error.limit
        self.end = End.ABORT


def _header_so_far(data: bytearray, size: int) -> RequestHeader | None:
    """The header of a request that is not whole; None if not all of it is here."""
    try:
        return read_header(data, _SIZE, min(len(data), size))
    except ParseError:
        if len(data) >= min(size, _SIZE + MAX_HEADER):
            raise
        return None


MAX_HEADER = 65536
"""Bytes of a header: its client id has at most 32,767."""
