"""What both directions do with bytes: frames are cut out, header blocks put together, and what a frame's handler lets
pass goes on in the pieces in which it came.
"""

from __future__ import annotations

from parsers.errors import ParseError
from parsers.http2 import frames
from parsers.http2.blocks import OpenBlock, fragment
from parsers.limits import Http2Limits


class FrameReader:
    """`feed` gives the bytes that go on. A frame is passed on whole or not at all.

    Handlers return what goes on instead of a frame or a block; None: it goes on as it is. When `feed` raises, `passed`
    is what goes on all the same, from before the fault.
    """

    __slots__ = ("_held", "_limits", "_open", "passed", "serial")

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._held = b""
        self._open: OpenBlock | None = None
        self.passed = b""
        self.serial = 0
        """Changes with each frame, and each block, that arrives in pieces."""

    def _frame(self, kind: int, flags: int, stream: int, data: bytes, at: int, end: int, now: int) -> bytes | None:
        """One whole frame, data[at:end], when no block is open."""
        raise NotImplementedError

    def _block(self, number: int, flags: int, block: bytes, now: int) -> bytes | None:
        """One whole header block."""
        raise NotImplementedError

    def _too_large(self) -> ParseError:
        """The fault of a frame that is larger than was agreed."""
        raise NotImplementedError

    def feed(self, data: bytes, now: int) -> bytes:
        """Bytes as they came → bytes that go on. Raises ParseError."""
        if self._held:
            data = self._held + data
        size, at, start = len(data), 0, 0
        out: list[bytes] = []
        unpack = frames.HEAD.unpack_from
        try:
            while size - at >= frames.HEADER_BYTES:
                high, low, kind, flags, stream = unpack(data, at)
                length = high << 8 | low
                if length > frames.MAX_PAYLOAD:
                    raise self._too_large()
                end = at + frames.HEADER_BYTES + length
                if end > size:
                    break
                stream &= frames.MAX_STREAM
                if self._open is None:
                    instead = self._frame(kind, flags, stream, data, at, end, now)
                else:
                    instead = self._continue(kind, flags, stream, data[at:end], now)
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
        self._hold(data, at)
        if start == 0 and at == size:
            return data
        if start < at:
            out.append(data[start:at])
        return out[0] if len(out) == 1 else b"".join(out)

    def _hold(self, data: bytes, at: int) -> None:
        """Keep the frame that has begun: at most one."""
        if at == len(data):
            self._held = b""
            return
        if at or not self._held:
            self.serial += 1
        self._held = data[at:]

    @property
    def holds_head(self) -> bool:
        """A header block has begun and not ended."""
        is_head = len(self._held) > 3 and self._held[3] in (frames.HEADERS, frames.CONTINUATION)
        return self._open is not None or is_head

    def _headers(self, flags: int, number: int, data: bytes, at: int, end: int, now: int) -> bytes | None:
        block = data[at + frames.HEADER_BYTES : end]
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            block = fragment(flags, block, number)
        if flags & frames.END_HEADERS:
            return self._block(number, flags, block, now)
        self._open = OpenBlock(number, flags, data[at:end], block, self._limits)
        self.serial += 1
        return b""

    def _continue(self, kind: int, flags: int, number: int, raw: bytes, now: int) -> bytes:
        whole = self._open
        assert whole is not None
        whole.add(kind, number, raw)
        if not flags & frames.END_HEADERS:
            return b""
        self._open = None
        instead = self._block(number, whole.flags, whole.block, now)
        return whole.raw if instead is None else instead
