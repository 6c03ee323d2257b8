"""Frames of the client: judged, and passed on as they came wherever that is possible."""

from __future__ import annotations

from parsers.http2 import frames, settings
from parsers.http2.blocks import check_dependency
from parsers.http2.budget import SETTINGS_COST, Budget
from parsers.http2.conversation import Conversation, acknowledged
from parsers.http2.fields import RefusedFields, check_trailers, request_of
from parsers.http2.frames import ConnectionFault, ErrorCode, StreamFault
from parsers.http2.hpack import EMPTY_TABLE, Decoder, Field
from parsers.http2.judged import JudgedBlock, RefusedRequest
from parsers.http2.reader import FrameReader
from parsers.http2.streams import Ended, Stream

MAX_UNACKNOWLEDGED = 64
"""SETTINGS of one side that the other has not acknowledged yet."""

REFUSED_STREAM_COST = 20
"""What a header block costs that goes nowhere, in frames that carry nothing: more than a stream brings."""


class Requests(FrameReader):
    """Bytes of the client → bytes for the server. Faults are ConnectionFaults."""

    __slots__ = (
        "_bounds",
        "_budget",
        "_clear_due",
        "_conversation",
        "_decoder",
        "_has_settings",
        "_is_stateless",
        "_known",
        "_known_judge",
        "refuses_above",
    )

    def __init__(self, conversation: Conversation, budget: Budget) -> None:
        super().__init__(conversation.shared.limits)
        self._conversation = conversation
        self._budget = budget
        self._bounds = settings.of_client(self._limits)
        self._decoder = Decoder(self._limits.header_list_bytes)
        self._has_settings = False
        self._known: dict[bytes, JudgedBlock] = {}
        self._known_judge = conversation.judge
        self._is_stateless = False
        """The server's table is not the client's any more: every block is encoded anew, without a table."""
        self._clear_due = False
        self.refuses_above = frames.MAX_STREAM
        """Streams above are not taken on any more."""

    @property
    def is_unfinished(self) -> bool:
        """A header block, or the first SETTINGS, have begun and not ended."""
        return self.holds_head or not self._has_settings

    def _too_large(self) -> ConnectionFault:
        return ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than was agreed")

    def _frame(self, kind: int, flags: int, stream: int, data: bytes, at: int, end: int, now: int) -> bytes | None:
        if kind == frames.HEADERS and self._has_settings:
            return self._headers(flags, stream, data, at, end, now)
        if kind == frames.DATA and self._has_settings:
            return self._data(flags, stream, data, at, end, now)
        payload = data[at + frames.HEADER_BYTES : end]
        if not self._has_settings:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            return self._settings(0, stream, payload, now)
        match kind:
            case frames.WINDOW_UPDATE:
                return self._window_update(stream, payload, now)
            case frames.RST_STREAM:
                return self._rst_stream(stream, payload, now)
            case frames.SETTINGS:
                return self._settings(flags, stream, payload, now)
            case frames.PING | frames.GOAWAY:
                self._of_connection(kind, stream, payload, now)
                return None
            case frames.PRIORITY:
                return self._priority(stream, payload, now)
            case frames.PUSH_PROMISE | frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client may not send this frame here")
        # RFC 9113 §4.1: frames of other types are ignored, so nobody misses them.
        self._budget.control(now)
        return b""

    # -- header blocks ---------------------------------------------------------------------------------------------

    def _block(self, number: int, flags: int, block: bytes, now: int) -> bytes | None:
        conversation = self._conversation
        streams = conversation.streams
        client_done = bool(flags & frames.END_STREAM)
        stream = streams.live.get(number)
        if stream is not None:
            return self._trailers(number, stream, block, now, client_done=client_done)
        if number <= streams.last or not number & 1:
            return self._late_trailers(number, block, now)
        streams.last = number
        self._budget.opened()
        if self._known_judge is not conversation.judge:
            self._known.clear()
            self._known_judge = conversation.judge
        judged = self._known.get(block)
        changed = False
        if judged is None:
            before = self._decoder.version
            try:
                found = self._judge(block)
            except StreamFault as fault:
                self._left_out(changed=self._decoder.version != before)
                return self._reset(number, fault, now)
            changed = self._decoder.version != before
            if isinstance(found, RefusedRequest):
                self._left_out(changed=changed)
                conversation.refuse(number, found, now, client_done=client_done)
                return b""
            judged = found
        if len(streams.live) >= self._limits.concurrent_streams or number > self.refuses_above:
            self._left_out(changed=changed)
            return self._refuse_stream(number, now)
        if not judged.ruling.permit:
            self._left_out(changed=changed)
            conversation.refuse(number, judged, now, client_done=client_done)
            return b""
        if client_done and judged.length > 0:
            self._left_out(changed=changed)
            return self._reset(number, _other_length(), now)
        streams.live[number] = Stream(judged, now, client_done=client_done)
        if judged.rebuilt is not None:
            self._left_out(changed=changed)
        elif not self._is_stateless:
            return None
        return self._rewritten(number, judged.without_table(), end_stream=client_done)

    def _late_trailers(self, number: int, block: bytes, now: int) -> bytes:
        """The end of a request that was refused, or reset, while it was on its way."""
        ended = self._conversation.streams.ended.get(number)
        if ended is None:
            why = "a new stream has a number that is not new, or not a client's"
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, why)
        if ended is Ended.COMPLETE:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "a request comes on a stream that has ended")
        self._budget.control(now, REFUSED_STREAM_COST)
        self._read(block)
        return b""

    def _judge(self, block: bytes) -> JudgedBlock | RefusedRequest:
        decoder, judge = self._decoder, self._conversation.judge
        before = decoder.version
        fields = decoder.decode(block)
        if decoder.version != before:
            self._known.clear()
        try:
            request = request_of(fields, self._limits)
        except RefusedFields as error:
            return RefusedRequest(error.facts, judge.refuse(error.facts, error), is_grpc=error.is_grpc)
        judged = JudgedBlock(request, fields, judge.rule(request.facts))
        if decoder.version == before and len(block) <= self._limits.memo_block_bytes:
            if len(self._known) >= self._limits.memo_entries:
                self._known.clear()
            self._known[block] = judged
        return judged

    def _trailers(self, number: int, stream: Stream, block: bytes, now: int, *, client_done: bool) -> bytes:
        """Trailers are checked and left out, as those of HTTP/1: what no rule sees must not become a header."""
        fields = self._read(block)
        if stream.client_done:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "headers come on a stream that its client has closed")
        if not client_done:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "headers come in the middle of a request")
        try:
            check_trailers(fields)
            if stream.left > 0:
                raise _other_length()
        except StreamFault as fault:
            return self._reset(number, fault, now)
        self._finished(number, stream)
        return b"" if stream.is_kept else frames.data(number, b"", end_stream=True)

    def _read(self, block: bytes) -> list[Field]:
        """The fields of a block that goes no further."""
        before = self._decoder.version
        fields = self._decoder.decode(block)
        if self._decoder.version != before:
            self._known.clear()
            self._left_out(changed=True)
        return fields

    def _left_out(self, *, changed: bool) -> None:
        """A block does not go on as it came. If it changed the client's table, the server's is another from now on."""
        if changed and not self._is_stateless:
            self._is_stateless = self._clear_due = True

    def _rewritten(self, number: int, block: bytes, *, end_stream: bool) -> bytes:
        if self._clear_due:
            self._clear_due = False
            block = EMPTY_TABLE + block
        return frames.headers(number, block, end_stream=end_stream)

    def _refuse_stream(self, number: int, now: int) -> bytes:
        """RFC 9113 §8.7: nothing has been done for it, so the client may try again."""
        self._conversation.reset(
            number, ErrorCode.REFUSED_STREAM, "too many streams at once", now, "concurrent_streams"
        )
        self._budget.control(now, REFUSED_STREAM_COST)
        return b""

    def _reset(self, number: int, fault: StreamFault, now: int) -> bytes:
        """One stream ends for what its client did; that counts as a reset (CVE-2025-8671)."""
        stream = self._conversation.streams.live.get(number)
        told = self._conversation.reset(number, fault.code, fault.reason, now, fault.limit)
        self._budget.reset(now - stream.started if stream is not None else 0)
        return told

    # -- the other frames ------------------------------------------------------------------------------------------

    def _data(self, flags: int, number: int, data: bytes, at: int, end: int, now: int) -> bytes | None:
        content = length = end - at - frames.HEADER_BYTES
        if flags & frames.PADDED:
            padding = data[at + frames.HEADER_BYTES] if length else 0
            if padding >= length:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding of a frame is longer than the frame")
            content -= 1 + padding
        end_stream = flags & frames.END_STREAM
        if content:
            self._budget.useful()
        elif not end_stream:
            self._budget.empty_data()
        stream = self._conversation.streams.live.get(number)
        if stream is None or stream.client_done:
            return self._late_data(number, length, is_done=stream is not None)
        if stream.left >= 0:
            stream.left -= content
            if stream.left < 0 or (end_stream and stream.left):
                self._conversation.owed_credit += length
                return self._reset(number, _other_length(), now)
        if stream.is_kept:
            self._conversation.owed_credit += length
        if end_stream:
            self._finished(number, stream)
        return b"" if stream.is_kept else None

    def _late_data(self, number: int, length: int, *, is_done: bool) -> bytes | None:
        """DATA for a stream that is over, or never was."""
        ended = self._conversation.streams.ended.get(number)
        if ended is Ended.KEPT:
            self._conversation.owed_credit += length
            return b""
        if ended is Ended.RESET:
            return None
        if number == 0 or (number > self._conversation.streams.last and not is_done):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "data comes on a stream that was not opened")
        raise ConnectionFault(ErrorCode.STREAM_CLOSED, "data comes on a stream that its client has closed")

    def _finished(self, number: int, stream: Stream) -> None:
        stream.client_done = True
        if stream.server_done:
            self._conversation.streams.end(number, Ended.COMPLETE)

    def _rst_stream(self, number: int, payload: bytes, now: int) -> bytes | None:
        self._check_size(payload, 4)
        streams = self._conversation.streams
        stream = streams.live.get(number)
        if stream is None:
            self._budget.control(now)
            return self._for_absent(number)
        self._budget.reset(now - stream.started)
        if stream.is_kept:
            streams.end(number, Ended.KEPT)
            return b""
        if not stream.is_answered:
            self._conversation.record(stream.judged, stream.started, now, 0)
        streams.end(number, Ended.COMPLETE)
        return None

    def _for_absent(self, number: int) -> bytes | None:
        """A frame about a stream that is not live: passed on if the server knows of it."""
        streams = self._conversation.streams
        if number == 0 or number > streams.last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame is about a stream that was not opened")
        ended = streams.ended.get(number)
        return b"" if ended is None or ended is Ended.KEPT else None

    def _window_update(self, number: int, payload: bytes, now: int) -> bytes | None:
        self._check_size(payload, 4)
        self._budget.control(now)
        increment = frames.U32.unpack(payload)[0] & frames.MAX_STREAM
        if number == 0:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE adds nothing")
            kept = self._conversation.keep_credit(increment)
            return frames.window_update(0, increment - kept) if kept else None
        stream = self._conversation.streams.live.get(number)
        if stream is None:
            return self._for_absent(number)
        if not increment:
            fault = StreamFault(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE adds nothing")
            return self._reset(number, fault, now)
        return b"" if stream.is_kept else None

    def _settings(self, flags: int, number: int, payload: bytes, now: int) -> bytes | None:
        conversation = self._conversation
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS are for a whole connection")
        if flags & frames.ACK:
            self._check_size(payload, 0)
            self._budget.control(now)
            self._decoder.limit = acknowledged(conversation.server_tables, self._decoder.limit)
            return None
        self._budget.control(now, SETTINGS_COST)
        instead, values = self._bounds.bounded(payload, is_first=not self._has_settings)
        self._has_settings = True
        conversation.client_window = values.get(settings.INITIAL_WINDOW_SIZE, conversation.client_window)
        if len(conversation.client_tables) >= MAX_UNACKNOWLEDGED:
            why = "too many SETTINGS wait to be acknowledged"
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, why, limit="control_frames")
        conversation.remember_table(conversation.client_tables, values.get(settings.HEADER_TABLE_SIZE))
        return instead

    def _of_connection(self, kind: int, number: int, payload: bytes, now: int) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame for a whole connection names a stream")
        if kind == frames.PING:
            self._check_size(payload, 8)
        elif len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY frame is cut off")
        self._budget.control(now)

    def _priority(self, number: int, payload: bytes, now: int) -> bytes | None:
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY is for a stream")
        self._check_size(payload, 5)
        check_dependency(payload, number)
        self._budget.control(now)
        streams = self._conversation.streams
        stream = streams.live.get(number)
        is_kept = stream.is_kept if stream is not None else streams.ended.get(number) is Ended.KEPT
        return b"" if is_kept else None

    @staticmethod
    def _check_size(payload: bytes, size: int) -> None:
        if len(payload) != size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame does not have the size of its type")


def _other_length() -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, "the body is longer or shorter than the request says")
