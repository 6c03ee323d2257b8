"""What the two sides of a connection have in common."""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import IntFlag

LINGER_NS = 1_000_000_000
"""A closed connection's incoming bytes are still read over until none have come for so long, so that our last answer
is not lost to a reset."""

MAX_LINGER_NS = 10_000_000_000
"""And so long altogether."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Hold(IntFlag):
    """Why nothing is read from a side."""

    OTHER_SIDE_FULL = 1
    NOT_CONNECTED = 2
    ANSWERS_UNREAD = 4
    FILTER = 8


NO_HOLD = Hold(0)


class Side(asyncio.Protocol):
    """A transport, until it is lost."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._holds = NO_HOLD

    def hold(self, why: Hold) -> None:
        """Read nothing until all reasons are gone."""
        if not self._holds and self._transport is not None:
            self._transport.pause_reading()
        self._holds |= why

    def release(self, why: Hold) -> None:
        if self._holds:
            self._holds &= ~why
            if not self._holds and self._transport is not None:
                self._transport.resume_reading()

    def reset(self) -> None:
        """End at once and visibly, so that nobody takes what was cut off for a whole message."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()
