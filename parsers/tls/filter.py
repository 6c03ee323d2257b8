"""One TLS connection as a filter: its hello is judged by the server name, then all bytes pass unread.

    client ──▶ held until the hello is judged ──▶ server
    client ◀──────── unread, from then on ───────▶ server

A refused client gets a reset: an alert in plain text would look like the server's, and the server never spoke. A second
hello, which a server may ask for, passes unread too: it has to name the same server (RFC 8446 §4.1.2), and that is the
server's to enforce.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from parsers.errors import ParseError
from parsers.facts import ClientHello
from parsers.filters import UNBOUNDED, End, Way
from parsers.tls.client_hello import HelloReader, TlsLimits


@dataclass(frozen=True, slots=True)
class NameRuling:
    """What a judge says of a connection. `note` is the judge's own; `reason` says in words why not."""

    permit: bool
    note: object = None
    reason: str = ""


class ServerNameJudge(Protocol):
    """Decides on connections by their hello."""

    def rule_name(self, hello: ClientHello) -> NameRuling: ...


class _Nobody:
    """Judges for connections that are over."""

    def rule_name(self, hello: ClientHello) -> NameRuling:
        return NameRuling(False)


_NOBODY = _Nobody()


class _State(Enum):
    HELLO = "hello"
    TUNNEL = "tunnel"
    ENDED = "ended"


class TlsFilter:
    """The filter of one connection (`parsers.filters.Filter`).

    `hello` and `ruling` are None until the connection is judged, which happens once. The judge may be set to another
    before that; whoever sets it later has to put `hello` to it.
    """

    __slots__ = ("_reader", "_state", "answer", "end", "failure", "hello", "judge", "limit", "ruling")

    def __init__(self, judge: ServerNameJudge, limits: TlsLimits) -> None:
        self.judge = judge
        self.answer = b""
        self.end: End | None = None
        self.failure = ""
        self.limit = ""
        self.hello: ClientHello | None = None
        self.ruling: NameRuling | None = None
        self._state = _State.HELLO
        self._reader: HelloReader | None = HelloReader(limits)

    def __repr__(self) -> str:
        return f"TlsFilter({self._state.value})"

    @property
    def is_idle(self) -> bool:
        """Never: the hello is owed from the first moment on, and what passes in a tunnel is not known."""
        return False

    @property
    def may_be_silent(self) -> bool:
        return self._state is _State.TUNNEL

    @property
    def unfinished_head(self) -> int:
        """The hello must come soon, also when no byte of it has: nobody opens a TLS connection to be silent."""
        return int(self._state is _State.HELLO)

    @property
    def awaits_server_close(self) -> bool:
        return False

    # -- from the client -------------------------------------------------------------------------------------------

    def client_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the client → bytes for the server."""
        if self._state is _State.TUNNEL:
            return data
        if self._reader is None:
            return b""
        try:
            hello = self._reader.feed(data)
        except ParseError as error:
            self._abort(error.reason, error.limit)
            return b""
        return b"" if hello is None else self._judge(hello, bytes(self._reader.held))

    def _judge(self, hello: ClientHello, held: bytes) -> bytes:
        self._close()  # nothing passes should the judge fail
        self.hello = hello
        self.ruling = self.judge.rule_name(hello)
        if self.ruling.permit:
            self._state = _State.TUNNEL
            return held
        self._abort(self.ruling.reason)
        return b""

    def client_eof(self) -> None:
        """The client will send no more. In a tunnel the other way may go on."""
        if self._reader is None:
            return
        if self._reader.held:
            self._abort("the client stopped before its TLS hello was complete")
        else:
            self.end = End.CLOSE  # whoever only wanted to know whether the port is open
            self._close()

    # -- from the server -------------------------------------------------------------------------------------------

    def server_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the server → bytes for the client."""
        if self._state is _State.TUNNEL:
            return data
        if self._state is _State.HELLO:
            self._abort("the server sent bytes before the client's TLS hello")
        return b""

    def server_eof(self) -> None:
        """The server will send no more. In a tunnel the other way may go on."""
        if self._state is _State.HELLO:
            self._abort("the server stopped before the client's TLS hello")

    def server_unreachable(self, reason: str, now: int) -> None:
        """There is no connection to the server: the client learns it as it would have from the network."""
        self._abort(reason)

    # -- what nobody reads -------------------------------------------------------------------------------------------

    def unread(self, way: Way) -> int:
        return UNBOUNDED if self._state is _State.TUNNEL else 0

    def passed(self, way: Way, count: int) -> None:
        """What passes in a tunnel is not counted."""

    # -- ends ------------------------------------------------------------------------------------------------------

    def time_out(self) -> None:
        if self._state is _State.HELLO:
            self._abort("the TLS hello did not arrive in time", "header_timeout")

    def drain(self, now: int) -> bool:
        """A hello that is not complete has reached nobody: the client may try again elsewhere."""
        return self._state is _State.HELLO

    def finish(self, now: int) -> None:
        """The connection is over: nothing goes unanswered that `ruling` does not tell.

        The filter lets go of its judge, which may hold the filter: no cycle is left for the collector.
        """
        self._close()
        self.judge = _NOBODY

    def _abort(self, failure: str, limit: str = "") -> None:
        self.failure, self.limit = failure, limit
        self.end = End.ABORT
        self._close()

    def _close(self) -> None:
        self._state = _State.ENDED
        self._reader = None
