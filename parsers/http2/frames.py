"""Frames (RFC 9113 §§4, 6, 7): numbers, and how to build the few that we send ourselves."""

from __future__ import annotations

import struct
from enum import IntEnum

from parsers.errors import ParseError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
MAX_PAYLOAD = 16384
"""SETTINGS_MAX_FRAME_SIZE as everybody starts with it. Larger frames are never agreed to on our connections."""

MAX_STREAM = 0x7FFFFFFF

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEAD = struct.Struct("!HBBBI")
"""Length (high two bytes, low byte), type, flags, stream."""

U32 = struct.Struct("!I")


class ErrorCode(IntEnum):
    """RFC 9113 §7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(ParseError):
    """The connection can not go on: GOAWAY with `code`, then the end."""

    def __init__(self, code: ErrorCode, reason: str, *, limit: str = "") -> None:
        super().__init__(reason, limit=limit)
        self.code = code


class StreamFault(ParseError):
    """One stream can not go on: RST_STREAM with `code`. The others are not touched."""

    def __init__(self, code: ErrorCode, reason: str, *, limit: str = "") -> None:
        super().__init__(reason, limit=limit)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def goaway(last_stream: int, code: ErrorCode, reason: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, U32.pack(last_stream) + U32.pack(code) + reason.encode())


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream, U32.pack(code))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, U32.pack(increment))


def headers(stream: int, block: bytes, *, end_stream: bool) -> bytes:
    """A header block as HEADERS and as many CONTINUATIONs as it needs."""
    pieces = [block[at : at + MAX_PAYLOAD] for at in range(0, len(block), MAX_PAYLOAD)] or [b""]
    out = []
    for number, piece in enumerate(pieces):
        flags = END_HEADERS if number == len(pieces) - 1 else 0
        if number == 0 and end_stream:
            flags |= END_STREAM
        out.append(frame(CONTINUATION if number else HEADERS, flags, stream, piece))
    return b"".join(out)


def data(stream: int, body: bytes, *, end_stream: bool) -> bytes:
    """At most MAX_PAYLOAD bytes."""
    return frame(DATA, END_STREAM if end_stream else 0, stream, body)


def content(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding (§6.1)."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding of a frame is longer than the frame")
    return payload[1 : len(payload) - payload[0]]
