"""Frames of the server: checked as far as order, status and the client's safety need it, and passed on."""

from __future__ import annotations

from parsers.errors import ParseError
from parsers.http2 import frames, settings
from parsers.http2.blocks import OpenBlock, fragment
from parsers.http2.budget import Budget
from parsers.http2.conversation import Conversation, acknowledged
from parsers.http2.fields import check_list, check_trailers, response_status
from parsers.http2.hpack import Decoder, Field
from parsers.http2.requests import MAX_UNACKNOWLEDGED
from parsers.http2.streams import Ended, Stream

TRAILERS = 0
"""Stands for the status of a block that has none."""


class Responses:
    """`feed` gives the bytes for the client. Every ParseError is the server's fault, and the connection's end."""

    __slots__ = ("_bounds", "_budget", "_conversation", "_decoder", "_held", "_known", "_limits", "_open", "passed")

    def __init__(self, conversation: Conversation, budget: Budget) -> None:
        self._conversation = conversation
        self._budget = budget
        self._limits = conversation.shared.limits
        self._bounds = settings.of_server(self._limits)
        self._decoder = Decoder(self._limits.header_list_bytes)
        self._held = b""
        self._open: OpenBlock | None = None
        self._known: dict[bytes, int] = {}
        self.passed = b""

    def feed(self, data: bytes, now: int) -> bytes:
        """Bytes from the server → bytes for the client. Raises ParseError; `passed` is what still goes on then."""
        if self._held:
            data = self._held + data
        size, at, start = len(data), 0, 0
        out: list[bytes] = []
        unpack = frames.HEAD.unpack_from
        try:
            while size - at >= frames.HEADER_BYTES:
                high, low, kind, flags, stream = unpack(data, at)
                length = high << 8 | low
                if not self._conversation.server_spoke:
                    _check_first(length, kind, flags)
                if length > frames.MAX_PAYLOAD:
                    raise ParseError("a frame of the server is larger than was agreed", 502)
                end = at + frames.HEADER_BYTES + length
                if end > size:
                    break
                instead = self._frame(kind, flags, stream & frames.MAX_STREAM, data, at, end, now)
                if instead is not None:
                    if start < at:
                        out.append(data[start:at])
                    if instead:
                        out.append(instead)
                    start = end
                at = end
        except ParseError:
            out.append(data[start:at])
            self.passed = b"".join(out)
            raise
        self._held = data[at:] if at < size else b""
        if start == 0 and at == size:
            return data
        if start < at:
            out.append(data[start:at])
        return out[0] if len(out) == 1 else b"".join(out)

    def _frame(self, kind: int, flags: int, stream: int, data: bytes, at: int, end: int, now: int) -> bytes | None:
        """What goes on instead of the frame data[at:end]; None: it goes on as it is."""
        if self._open is not None:
            return self._continue(kind, flags, stream, data[at:end], now)
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

    def _headers(self, flags: int, number: int, data: bytes, at: int, end: int, now: int) -> bytes | None:
        block = data[at + frames.HEADER_BYTES : end]
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            block = fragment(flags, block, number)
        if not flags & frames.END_HEADERS:
            self._open = OpenBlock(number, flags, data[at:end], block, self._limits)
            return b""
        self._block(number, flags, block, now)
        return None

    def _continue(self, kind: int, flags: int, number: int, raw: bytes, now: int) -> bytes:
        whole = self._open
        assert whole is not None
        whole.add(kind, number, raw)
        if not flags & frames.END_HEADERS:
            return b""
        self._open = None
        self._block(number, whole.flags, whole.block, now)
        return whole.raw

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


def _check_first(length: int, kind: int, flags: int) -> None:
    """RFC 9113 §3.4: the first frame is SETTINGS. A server of HTTP/1 says something else here."""
    if kind != frames.SETTINGS or flags & frames.ACK or length > frames.MAX_PAYLOAD:
        raise ParseError("the server does not speak HTTP/2", 502)
