"""HEADERS with their CONTINUATIONs (RFC 9113 §§6.2, 6.10), until the block is whole."""

from __future__ import annotations

from parsers.http2 import frames
from parsers.http2.frames import ConnectionFault, ErrorCode
from parsers.limits import Http2Limits


def fragment(flags: int, payload: bytes, stream: int) -> bytes:
    """The part of a header block in a HEADERS frame: without padding and priority."""
    piece = frames.content(flags, payload)
    if not flags & frames.HAS_PRIORITY:
        return piece
    if len(piece) < 5:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame is too short for its priority")
    check_dependency(piece, stream)
    return piece[5:]


def check_dependency(priority: bytes, stream: int) -> None:
    if frames.U32.unpack_from(priority)[0] & frames.MAX_STREAM == stream:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")


class OpenBlock:
    """A block whose last frame has not come. Nothing else may come before it (§6.10)."""

    __slots__ = ("_count", "_fragments", "_frames", "_limits", "_size", "flags", "stream")

    def __init__(self, stream: int, flags: int, raw: bytes, piece: bytes, limits: Http2Limits) -> None:
        self.stream = stream
        self.flags = flags
        self._limits = limits
        self._frames = [raw]
        self._fragments = [piece]
        self._size = len(piece)
        self._count = 0

    def add(self, kind: int, stream: int, raw: bytes) -> None:
        if kind != frames.CONTINUATION or stream != self.stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "another frame comes in the middle of a header block")
        self._count += 1
        self._size += len(raw) - frames.HEADER_BYTES
        if self._size > self._limits.header_block_bytes:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large", limit="header_block_bytes"
            )
        if self._count > self._limits.continuation_frames:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, "a header block has too many pieces", limit="continuation_frames"
            )
        self._frames.append(raw)
        self._fragments.append(raw[frames.HEADER_BYTES :])

    @property
    def raw(self) -> bytes:
        """All its frames, as they came."""
        return b"".join(self._frames)

    @property
    def block(self) -> bytes:
        return b"".join(self._fragments)
