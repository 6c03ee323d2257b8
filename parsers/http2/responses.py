"""Frames of the server: checked as far as order, status and the client's safety need it, and passed on."""

from __future__ import annotations

from parsers.errors import ParseError
from parsers.http2 import frames, settings
from parsers.http2.budget import Budget
from parsers.http2.conversation import Conversation, acknowledged
from parsers.http2.fields import check_list, check_trailers, response_status
from parsers.http2.hpack import Decoder, Field
from parsers.http2.reader import FrameReader
from parsers.http2.requests import MAX_UNACKNOWLEDGED
from parsers.http2.streams import Ended, Stream

NOT_HTTP2 = "the server does not speak HTTP/2"
TRAILERS = 0
"""Stands for the status of a block that has none."""


class Responses(FrameReader):
    """Bytes of the server → bytes for the client. Every ParseError is the server's fault, and the connection's end."""

    __slots__ = ("_bounds", "_budget", "_conversation", "_decoder", "_known")

    def __init__(self, conversation: Conversation, budget: Budget) -> None:
        super().__init__(conversation.shared.limits)
        self._conversation = conversation
        self._budget = budget
        self._bounds = settings.of_server(self._limits)
        self._decoder = Decoder(self._limits.header_list_bytes)
        self._known: dict[bytes, int] = {}

    def _too_large(self) -> ParseError:
        why = "a frame of the server is larger than was agreed" if self._conversation.server_spoke else NOT_HTTP2
        return ParseError(why, 502)

    def _frame(self, kind: int, flags: int, stream: int, data: bytes, at: int, end: int, now: int) -> bytes | None:
        if not self._conversation.server_spoke and (kind != frames.SETTINGS or flags & frames.ACK):
            # RFC 9113 §3.4: the first frame is SETTINGS. A server of HTTP/1 says something else here.
            raise ParseError(NOT_HTTP2, 502)
        match kind:
            case frames.DATA:
                self._data(flags, stream, is_empty=end - at == frames.HEADER_BYTES)
            case frames.HEADERS:
                return self._headers(flags, stream, data, at, end, now)
            case frames.RST_STREAM:
                self._rst_stream(stream, now)
            case frames.SETTINGS:
                return self._settings(flags, data[at + frames.HEADER_BYTES : end])
            case frames.PUSH_PROMISE | frames.CONTINUATION:
                raise ParseError("the server sent a frame that is not allowed there", 502)
            case frames.WINDOW_UPDATE | frames.PING | frames.GOAWAY | frames.PRIORITY:
                pass
            case _:
                return b""
        return None

    def _block(self, number: int, flags: int, block: bytes, now: int) -> None:
        stream = self._conversation.streams.live.get(number)
        if stream is None or stream.is_kept:
            self._check_straggler(number)
            check_list(self._decode(block))
            return
        is_trailer = stream.is_answered
        status = self._known.get(block)
        if status is None or (status == TRAILERS) != is_trailer:
            status = self._read(block, is_trailer=is_trailer)
        end_stream = flags & frames.END_STREAM
        if is_trailer:
            if not end_stream:
                raise ParseError("the server sent headers in the middle of a response", 502)
        elif status < 200:
            self._informational(stream, status, end_stream)
            return
        else:
            stream.is_answered = True
            self._conversation.record(stream.judged, stream.started, now, status)
        if end_stream:
            self._finished(number, stream)

    def _read(self, block: bytes, *, is_trailer: bool) -> int:
        before = self._decoder.version
        fields = self._decode(block)
        if is_trailer:
            check_trailers(fields)
            status = TRAILERS
        else:
            status = response_status(fields)
        if self._decoder.version == before and len(block) <= self._limits.memo_block_bytes:
            if len(self._known) >= self._limits.memo_entries:
                self._known.clear()
            self._known[block] = status
        return status

    def _decode(self, block: bytes) -> list[Field]:
        before = self._decoder.version
        fields = self._decoder.decode(block)
        if self._decoder.version != before:
            self._known.clear()
        return fields

    def _informational(self, stream: Stream, status: int, end_stream: int) -> None:
        stream.informational += 1
        if end_stream or status == 101:
            raise ParseError("an informational response of the server is malformed", 502)
        if stream.informational > self._limits.informational_responses:
            raise ParseError("the server sent too many informational responses", 502, limit="informational_responses")

    def _check_straggler(self, number: int) -> None:
        """For a stream that is over the server may still be sending; for one that it never heard of it may not."""
        streams = self._conversation.streams
        known = streams.ended.get(number)
        stream = streams.live.get(number)
        is_forgotten = 0 < number <= streams.last and number & 1
        if known is Ended.KEPT or (stream is not None and stream.is_kept) or not (known or is_forgotten):
            raise ParseError("the server sent a frame for a stream that it was not asked on", 502)

    def _data(self, flags: int, number: int, *, is_empty: bool) -> None:
        stream = self._conversation.streams.live.get(number)
        if stream is None or stream.is_kept:
            self._check_straggler(number)
            return
        if not stream.is_answered:
            raise ParseError("the server sent a body without a response", 502)
        if not is_empty:
            self._budget.useful()
        if flags & frames.END_STREAM:
            self._finished(number, stream)

    def _finished(self, number: int, stream: Stream) -> None:
        stream.server_done = True
        if stream.client_done:
            self._conversation.streams.end(number, Ended.COMPLETE)

    def _rst_stream(self, number: int, now: int) -> None:
        stream = self._conversation.streams.live.get(number)
        if stream is None or stream.is_kept:
            self._check_straggler(number)
            return
        if not stream.is_answered:
            self._conversation.record(stream.judged, stream.started, now, 0)
        self._conversation.streams.end(number, Ended.RESET)

    def _settings(self, flags: int, payload: bytes) -> bytes | None:
        conversation = self._conversation
        if flags & frames.ACK:
            self._decoder.limit = acknowledged(conversation.client_tables, self._decoder.limit)
            return None
        is_first = not conversation.server_spoke
        instead, values = self._bounds.bounded(payload, is_first=is_first)
        if len(conversation.server_tables) >= MAX_UNACKNOWLEDGED:
            raise ParseError("too many SETTINGS of the server wait to be acknowledged", 502)
        conversation.remember_table(conversation.server_tables, values.get(settings.HEADER_TABLE_SIZE))
        conversation.server_spoke = True
        return instead + conversation.take_waiting() if is_first else instead
