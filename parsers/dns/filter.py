"""The filter of one DNS connection over TCP (RFC 7766): queries in, verdicts, answers in whatever order they come.

    client's bytes ──▶ messages ──▶ queries ──▶ permitted: to the server with an id of ours, refused: answered at once
    client's bytes ◀── its own id ◀── opened ◀── the query that it answers ◀── messages ◀── server's bytes

Ids of ours tell the queries apart even of a client that uses one id twice. Whatever happens to the server, each query
that is under way is answered: with SERVFAIL, if there is nothing else. What nobody waits for (any more) is skipped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from parsers.dns.answer import fits
from parsers.dns.judging import DnsExchange, DnsJudge, DnsRuling, Opener
from parsers.dns.message import HEADER, SERVFAIL, DnsError, Query, read_query
from parsers.dns.replies import failed, malformed, refused
from parsers.facts import DnsQuery
from parsers.filters import End, ReadsAll
from parsers.limits import DnsLimits

_LENGTH: Final = 2
_HEAD: Final = 4
_IDS: Final = 1 << 16
_RCODE: Final = 0x0F
_TLS_HANDSHAKE: Final = b"\x16\x03"
TLS_FAILURE: Final = "the client speaks TLS, and DNS rules can not see into it"


@dataclass(slots=True, eq=False)
class DnsShared:
    """What the connections of one process share. `refuse_rcode`: what a refused query is answered with.

    `exchanges` and `counters` are for the caller to take: judged queries, and how often something was wrong:
    `dns.malformed` queries, `dns.malformed_answers`, `dns.mismatched` answers, `dns.unreachable` servers,
    `dns.timeouts`.
    """

    limits: DnsLimits
    refuse_rcode: int
    exchanges: list[DnsExchange]
    counters: Counter[str] = field(default_factory=Counter)


class _Nobody:
    """Judges for connections that are over."""

    def rule_dns(self, query: DnsQuery) -> DnsRuling:
        return DnsRuling(False)

    def refuse_dns(self, reason: str) -> DnsRuling:
        return DnsRuling(False)


_NOBODY: Final = _Nobody()


class _Messages:
    """One side's bytes, cut into messages. `held`: the beginning of one. `is_broken`: no message is as short."""

    __slots__ = ("_missing", "held", "is_broken")

    def __init__(self) -> None:
        self.held = bytearray()
        self.is_broken = False
        self._missing = 0
        """Bytes of what is held, if its length is known."""

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the messages that are whole now, without their lengths, up to one that is broken."""
        if self.held:
            self.held += data
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = bytes(self.held)
            self.held.clear()
        found: list[bytes] = []
        at, end = 0, len(data)
        self._missing = 0
        while end - at >= _LENGTH:
            size = data[at] << 8 | data[at + 1]
            if size < HEADER:
                self.is_broken = True
                return found
            stop = at + _LENGTH + size
            if stop > end:
                self._missing = stop - end
                break
            found.append(data[at + _LENGTH : stop])
            at = stop
        if at < end:
            self.held += data[at:]
        return found


class _Pending:
    """A query that waits for its answer. `head`: the four bytes of its message that replies need."""

    __slots__ = ("exchange", "head", "query")

    def __init__(self, head: bytes, query: Query, exchange: DnsExchange) -> None:
        self.head = head
        self.query = query
        self.exchange = exchange


class DnsFilter(ReadsAll):
    """`parsers.filters.Filter` for DNS. `judge` and `opener` may be set to others at any time: the next query meets the
    one, the next answer the other. Without an opener answers open nothing.
    """

    __slots__ = (
        "_client",
        "_client_is_done",
        "_draining",
        "_is_first",
        "_last_id",
        "_messages",
        "_now",
        "_pending",
        "_server",
        "_shared",
        "_tag",
        "answer",
        "end",
        "failure",
        "judge",
        "limit",
        "opener",
    )

    def __init__(self, shared: DnsShared, judge: DnsJudge, opener: Opener | None, tag: object) -> None:
        self.judge = judge
        self.opener = opener
        self.answer = b""
        self.end: End | None = None
        self.failure = ""
        self.limit = ""
        self._shared = shared
        self._tag: object = tag
        self._client = _Messages()
        self._server = _Messages()
        self._pending: dict[bytes, _Pending] = {}
        """By the id that the server knows, the oldest first."""
        self._last_id = 0
        self._messages = 0
        self._now = 0
        self._is_first = True
        self._client_is_done = False
        self._draining = False

    def __repr__(self) -> str:
        return f"DnsFilter({len(self._pending)} pending)"

    # -- Filter: what there is to know -------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return not (self._pending or self._client.held)

    @property
    def may_be_silent(self) -> bool:
        """A server that says nothing for long will say nothing any more."""
        return False

    @property
    def unfinished_head(self) -> int:
        """Changes with each message: every one must be complete soon."""
        return self._messages + 1 if self._client.held else 0

    @property
    def awaits_server_close(self) -> bool:
        return False

    # -- from the client -----------------------------------------------------------------------------------------------

    def client_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the client → bytes for the server."""
        if self.end is not None or self._draining:
            return b""
        self._now = now
        client = self._client
        if self._is_first and self._begins_as_tls(data):
            self._abort(TLS_FAILURE)
            return b""
        out: list[bytes] = []
        replies: list[bytes] = []
        for message in client.feed(data):
            self._messages += 1
            self._query(message, now, out, replies)
        if replies:
            self.answer += b"".join(replies)
        if client.is_broken:
            self._abort("these are not DNS messages")
        return b"".join(out)

    def _begins_as_tls(self, data: bytes) -> bool:
        """As a length it would be 5,635: no query is so long."""
        first = (bytes(self._client.held) + data[:_LENGTH])[:_LENGTH]
        self._is_first = len(first) < _LENGTH
        return first == _TLS_HANDSHAKE

    def _query(self, message: bytes, now: int, out: list[bytes], replies: list[bytes]) -> None:
        """One message of the client. Adds to what goes to the server, or to the replies."""
        shared = self._shared
        try:
            query = read_query(message)
        except DnsError as error:
            shared.counters["dns.malformed"] += 1
            reply = None if error.rcode is None else malformed(message, error.rcode)
            if reply is not None:
                replies.append(_framed(reply))
            return
        ruling = self.judge.rule_dns(query.facts)
        exchange = DnsExchange(self._tag, query.facts, ruling, now)
        if not ruling.permit:
            replies.append(_framed(refused(message, query, shared.refuse_rcode)))
            self._record(exchange, now, shared.refuse_rcode)
        elif len(self._pending) >= shared.limits.pending_queries:
            self.limit = "pending_queries"
            exchange.ruling = self.judge.refuse_dns("too many queries of one connection wait for their answer")
            replies.append(_framed(failed(message, query)))
            self._record(exchange, now, SERVFAIL)
        else:
            number = self._new_id()
            self._pending[number] = _Pending(message[:_HEAD], query, exchange)
            out.append(_framed(number + message[2:]))

    def _new_id(self) -> bytes:
        """That no other query has which waits; there are fewer of those than ids."""
        while True:
            self._last_id = (self._last_id + 1) % _IDS
            number = self._last_id.to_bytes(2, "big")
            if number not in self._pending:
                return number

    def client_eof(self) -> None:
        """The client will send no more, but takes the answers that it waits for."""
        self._client_is_done = True
        self._close_if_done()

    # -- from the server -----------------------------------------------------------------------------------------------

    def server_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the server → bytes for the client."""
        if self.end is not None:
            return b""
        self._now = now
        out: list[bytes] = []
        for message in self._server.feed(data):
            pending = self._pending.pop(message[:2], None)
            if pending is None:
                self._shared.counters["dns.mismatched"] += 1
            else:
                out.append(_framed(self._answered(message, pending, now)))
        if self._server.is_broken:
            self._abort("the server sent what is no DNS message")
        self._close_if_done()
        return b"".join(out)

    def _answered(self, message: bytes, pending: _Pending, now: int) -> bytes:
        """The server's answer → the client's."""
        exchange = pending.exchange
        if not fits(message, pending.query):
            self._shared.counters["dns.mismatched"] += 1
            return self._failed(pending, now)
        try:
            body = message[2:] if self.opener is None else self.opener.open(pending.query, message)
        except DnsError:
            self._shared.counters["dns.malformed_answers"] += 1
            body = b""
        if not body:
            return self._failed(pending, now)
        exchange.answer = body
        self._record(exchange, now, message[3] & _RCODE)
        return pending.head[:2] + body

    def _failed(self, pending: _Pending, now: int) -> bytes:
        """What the client gets for want of an answer."""
        self._record(pending.exchange, now, SERVFAIL)
        return failed(pending.head, pending.query)

    def server_eof(self) -> None:
        """Servers end connections that are quiet for a while (RFC 7766 §6.2.3): that is not worth a word."""
        self._give_up("the server ended the connection before it had answered" if self._pending else "")

    def server_unreachable(self, reason: str, now: int) -> None:
        """There is no connection to the server."""
        self._now = now
        if self.end is None:
            self._shared.counters["dns.unreachable"] += 1
        self._give_up(reason)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def expire(self, now: int) -> None:
        """Queries that have waited for too long fail; their answers are skipped, should they still come."""
        if self.end is not None:
            return
        due = now - self._shared.limits.timeout_ns
        late = list(takewhile(lambda item: item[1].exchange.started < due, self._pending.items()))
        for number, pending in late:
            del self._pending[number]
            self._shared.counters["dns.timeouts"] += 1
            self.answer += _framed(self._failed(pending, now))
        self._close_if_done()

    def time_out(self) -> None:
        """A query did not arrive as a whole."""
        if self.end is None:
            self.limit = "header_timeout"
        self._give_up("a query did not arrive in time")

    def drain(self, now: int) -> bool:
        """Queries that come from now on have reached nobody: the client asks again elsewhere (RFC 7766 §6.2.4)."""
        self._draining = True
        return not self._pending

    def finish(self, now: int) -> None:
        """The connection is over. No cycle is left for the collector: judge and tag may hold the filter."""
        for pending in self._pending.values():
            self._shared.exchanges.append(pending.exchange)
        self._pending.clear()
        self._client, self._server = _Messages(), _Messages()
        self.judge, self.opener, self._tag = _NOBODY, None, None

    def _record(self, exchange: DnsExchange, now: int, rcode: int) -> None:
        exchange.answered = now
        exchange.rcode = rcode
        self._shared.exchanges.append(exchange)

    def _close_if_done(self) -> None:
        """Nobody asks any more, and everybody has been answered."""
        if self.end is None and not self._pending and (self._client_is_done or self._draining):
            self.end = End.CLOSE

    def _give_up(self, failure: str) -> None:
        """No server answers any more: each query that waits fails."""
        if self.end is not None:
            return
        self.failure = failure
        self.end = End.CLOSE
        for pending in self._pending.values():
            self.answer += _framed(self._failed(pending, self._now))
        self._pending.clear()

    def _abort(self, failure: str) -> None:
        self.failure = failure
        self.end = End.ABORT


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(_LENGTH, "big") + message
