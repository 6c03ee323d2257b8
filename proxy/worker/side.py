"""What the two sides of a connection have in common."""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import IntFlag

from parsers.filters import Way
from proxy.worker.relay import Pipes, Relay, Relayed

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
    RELAYED = 16


NO_HOLD = Hold(0)


class Side(asyncio.Protocol):
    """A transport, until it is lost. `relay`: what takes its bytes to the other side past the filter."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._holds = NO_HOLD
        self.relay: Relay | None = None

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

    # -- past the filter ---------------------------------------------------------------------------------------------

    def relay_to(self, sink: Side, owner: Relayed, way: Way, count: int, pipes: Pipes) -> bool:
        """Have the next `count` bytes pass within the kernel. False: the two sides are not free for that now."""
        ours, theirs = self._transport, sink._transport
        if self._holds or ours is None or theirs is None or theirs.get_write_buffer_size():
            return False
        try:
            self.relay = Relay(owner, way, pipes, _descriptor(ours), _descriptor(theirs), count)
        except OSError:
            return False
        self.hold(Hold.RELAYED)
        return True

    def stop_relay(self) -> bool:
        """Have its bytes come to the filter again. True if some of them have been lost."""
        relay, self.relay = self.relay, None
        if relay is None:
            return False
        relay.stop()
        self.release(Hold.RELAYED)
        return not relay.is_empty

    def check_relay(self) -> None:
        """Called every second: who has no more to say needs no pipe."""
        if self.relay is not None and self.relay.is_quiet():
            self.stop_relay()

    # -- ends --------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """End at once and visibly, so that nobody takes what was cut off for a whole message."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()


def _descriptor(transport: asyncio.Transport) -> int:
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor
