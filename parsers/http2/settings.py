"""SETTINGS as they go on (RFC 9113 §6.5): values are checked, and those that we have bounds for are bounded.

Settings that we do not know are left out: both ends could agree on something that we do not understand.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

from parsers.http2 import frames
from parsers.http2.frames import ConnectionFault, ErrorCode
from parsers.http2.hpack import MAX_TABLE
from parsers.limits import Http2Limits

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, NO_RFC7540_PRIORITIES = 4, 5, 6, 9
_ONE = struct.Struct("!HI")
_LARGEST_FRAME = 0xFFFFFF
MAX_SETTINGS = 64
"""Entries of one frame; there are nine settings."""


class Bounds:
    """What one side's settings may say at most, and what they say if it says nothing."""

    __slots__ = ("_largest", "_unsaid")

    def __init__(self, largest: Mapping[int, int], unsaid: Mapping[int, int]) -> None:
        self._largest = MappingProxyType(dict(largest))
        self._unsaid = tuple(unsaid.items())

    def bounded(self, payload: bytes, *, is_first: bool) -> tuple[bytes, dict[int, int]]:
        """(frame to send on, values in it). Raises ConnectionFault."""
        values = {key: min(value, self._largest.get(key, value)) for key, value in _read(payload)}
        if is_first:
            for key, value in self._unsaid:
                values.setdefault(key, value)
        return frames.frame(frames.SETTINGS, 0, 0, b"".join(_ONE.pack(*item) for item in values.items())), values


def _read(payload: bytes) -> list[tuple[int, int]]:
    """The settings that we know, in order; of one that is there twice the last counts (§6.5.3)."""
    if len(payload) % _ONE.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS frame is cut off")
    if len(payload) > _ONE.size * MAX_SETTINGS:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a SETTINGS frame has too many entries")
    found = []
    for key, value in _ONE.iter_unpack(payload):
        if key == ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if key == INITIAL_WINDOW_SIZE and value > frames.MAX_STREAM:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        if key == MAX_FRAME_SIZE and not frames.MAX_PAYLOAD <= value <= _LARGEST_FRAME:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
        if HEADER_TABLE_SIZE <= key <= MAX_HEADER_LIST_SIZE or key == NO_RFC7540_PRIORITIES:
            found.append((key, value))
    return found


def of_client(limits: Http2Limits) -> Bounds:
    """What a client may tell a server. Nothing is pushed: that would be answers to requests that nobody judged."""
    return Bounds(
        {HEADER_TABLE_SIZE: MAX_TABLE, ENABLE_PUSH: 0, MAX_FRAME_SIZE: frames.MAX_PAYLOAD},
        {ENABLE_PUSH: 0},
    )


def of_server(limits: Http2Limits) -> Bounds:
    """What a server may tell a client. Extended CONNECT (RFC 8441) is not among the known settings."""
    streams = {MAX_CONCURRENT_STREAMS: limits.concurrent_streams, MAX_HEADER_LIST_SIZE: limits.header_list_bytes}
    return Bounds({HEADER_TABLE_SIZE: MAX_TABLE, MAX_FRAME_SIZE: frames.MAX_PAYLOAD, **streams}, streams)
