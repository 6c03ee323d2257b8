"""Framed messages between agent and worker on a stream socket: u32 length, u8 kind, payload.

Agent to worker: `SNAPSHOT` and `CHANGE` (pickle; the agent is trusted), `DRAIN`. Worker to agent: `APPLIED` (u64
revision in force), `BATCH` (msgpack, fixed schema), `DRAINED`. The agent never unpickles what a worker sends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

_HEADER = struct.Struct("!IB")
MAX_MESSAGE_BYTES = 1 << 30
"""A snapshot of a very large cluster is some hundred MiB; beyond this the channel is broken."""


class Kind(IntEnum):
    SNAPSHOT = 1
    DRAIN = 2
    APPLIED = 3
    BATCH = 4
    DRAINED = 5
    CHANGE = 6


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    return _HEADER.pack(len(payload), kind) + payload


class Deframer:
    """Collects bytes and yields whole messages. Raises ValueError on a length or kind that can not be."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._held = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        self._held += data
        while len(self._held) >= _HEADER.size:
            length, kind = _HEADER.unpack_from(self._held)
            if length > self._max_bytes:
                raise ValueError(f"a control message of {length} bytes")
            end = _HEADER.size + length
            if len(self._held) < end:
                return
            payload = bytes(self._held[_HEADER.size : end])
            del self._held[:end]
            yield Kind(kind), payload
