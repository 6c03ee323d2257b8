"""What all filters have in common: one connection, two inputs, and how it ends."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class End(Enum):
    """How a connection ends. CLOSE: after what was written. ABORT: by reset, because a message is cut off."""

    CLOSE = "close"
    ABORT = "abort"


class Way(Enum):
    """Of bytes through a connection."""

    FROM_CLIENT = "from client"
    FROM_SERVER = "from server"


UNBOUNDED = 1 << 62
"""More bytes than any connection carries."""


class Filter(Protocol):
    """The filter of one connection.

    After each call look at `answer` (bytes for the client: take and clear them), `end`, `failure` (why it ends, in
    words) and `limit` (the bound that was reached, by its name in `parsers.limits`). Times are the caller's, in ns.
    """

    answer: bytes
    end: End | None
    failure: str
    limit: str

    @property
    def is_idle(self) -> bool:
        """Between messages: nothing begun, nothing owed."""
        ...

    @property
    def may_be_silent(self) -> bool:
        """Nothing has to happen for as long as both ends like: bytes pass unread, or a server takes its time."""
        ...

    @property
    def unfinished_head(self) -> int:
        """A number that names what has begun and must be complete soon; 0 if there is nothing."""
        ...

    @property
    def awaits_server_close(self) -> bool:
        """The server closes by itself behind its last answer."""
        ...

    def client_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the client → bytes for the server."""
        ...

    def server_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the server → bytes for the client."""
        ...

    def unread(self, way: Way) -> int:
        """So many of the next bytes pass as they come, whatever they are. UNBOUNDED: all of them, from now on."""
        ...

    def passed(self, way: Way, count: int) -> None:
        """`count` bytes have passed by the filter: fewer than it had said, so that it sees the last one itself."""
        ...

    def client_eof(self) -> None:
        """The client will send no more."""
        ...

    def server_eof(self) -> None:
        """The server will send no more."""
        ...

    def server_unreachable(self, reason: str, now: int) -> None:
        """There is no connection to the server."""
        ...

    def time_out(self) -> None:
        """What `unfinished_head` names took too long."""
        ...

    def drain(self, now: int) -> bool:
        """The proxy wants to end: take on nothing new. True when nothing is under way any more."""
        ...

    def finish(self, now: int) -> None:
        """The connection is over: record what went unanswered."""
        ...


class ReadsAll:
    """Of a filter by which nothing passes."""

    __slots__ = ()

    def unread(self, way: Way) -> int:
        return 0

    def passed(self, way: Way, count: int) -> None:
        raise AssertionError("nothing passes by this filter")
