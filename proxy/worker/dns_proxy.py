"""DNS over UDP: questions of pods, judged, and the servers' answers, which may open addresses before they go on.

    pod ──▶ receiver ──▶ judge ──▶ a socket of the pod's address to the server, own port, own id
                           │                              │
    pod ◀── sender ◀── refusal                     answer: to this very question? ──▶ open its addresses
            (with the server's address)  ◀───────────────────────────────────────────────┘

Everything here happens at once, in one call per datagram; what waits is only for servers. Every question of a client is
answered, in the worst case by SERVFAIL: a resolver that hears nothing loses seconds.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from config.policy.resolved import Direction, Protocol
from parsers.dns.answer import fits
from parsers.dns.judging import DnsExchange, DnsRuling
from parsers.dns.message import SERVFAIL, DnsError, Query, read_query
from parsers.dns.replies import failed, malformed, refused, truncated
from proxy.datapath import ConnectionFacts
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.worker.bursts import Pace
from proxy.worker.datagrams import Address, Receiver, Sender, origin
from proxy.worker.dns_upstreams import SocketPool, Upstreams, UpstreamSocket
from proxy.worker.judges import ConnectionRefused, DnsJudge

if TYPE_CHECKING:
    from proxy.worker.main import Worker

ROUTE_NS: Final = 1_000_000_000
"""What the kernel said of a client and a server is asked anew after this time, and at each new policy."""

MAX_ROUTES: Final = 8192
MAX_MEMO: Final = 32768
"""Questions remembered with their rulings, of all judges."""

_MEMO_BYTES: Final = 512
_LOOK_EVERY_S: Final = 0.25


_Known = dict[bytes, tuple[Query, DnsRuling]]
"""Questions seen before, by their bytes behind the id."""


@dataclass(slots=True)
class Pending:
    """Questions of one endpoint that wait for an answer."""

    count: int = 0


@dataclass(slots=True, eq=False)
class Route:
    """Everything that questions of one client to one server have in common.

    `known` is shared by all routes of the judge, `pending` by all of the endpoint.
    """

    server: Address
    facts: ConnectionFacts
    judge: DnsJudge | ConnectionRefused
    known: _Known
    pending: Pending
    upstreams: Upstreams
    unsent: list[tuple[Address, Address, bytes]]
    expires: int


class Asked(DnsExchange):
    """A question on its way: the exchange itself, what the exchange's record takes for its connection (`Reporting`: its
    client and server), and, while it waits, where. One object, as there are so many of them.
    """

    __slots__ = ("_id", "_worker", "client", "is_reported", "key", "number", "parsed", "route", "upstream")

    def __init__(
        self, worker: Worker, route: Route, client: Address, data: bytes, parsed: Query, ruling: DnsRuling, now: int
    ) -> None:
        self.query = parsed.facts
        self.ruling = ruling
        self.started = now
        self.answered = 0
        self.rcode = -1
        self.answer = b""
        self.route = route
        self.client = client
        self.parsed = parsed
        self.key = client, data, route
        self.is_reported = False
        self.upstream: UpstreamSocket | None = None
        self.number = b""
        """The id that the server knows."""
        self._worker = worker
        self._id = 0

    @property
    def tag(self) -> object:  # type: ignore[override]  # not stored: an object that holds itself is freed late
        return self

    @property
    def id(self) -> int:
        if not self._id:
            self._id = self._worker.next_id()
        return self._id

    @property
    def message(self) -> bytes:
        """As the client sent it."""
        return self.key[1]

    def describe(self) -> wire.Connection:
        return _described(self.id, self.route, self.client)


@dataclass(slots=True, eq=False)
class Datagram:
    """`Reporting` of what is no question."""

    id: int
    route: Route
    client: Address
    is_reported: bool = False

    def describe(self) -> wire.Connection:
        return _described(self.id, self.route, self.client)


def _described(number: int, route: Route, client: Address) -> wire.Connection:
    """Client and server, told as if they were a connection."""
    facts = route.facts
    return wire.Connection(
        number,
        *client,
        *route.server,
        facts.source_endpoint,
        facts.destination_endpoint,
        facts.source_identity,
        facts.destination_identity,
        int(Protocol.UDP),
    )


class DnsProxy:
    """One worker's."""

    def __init__(self, worker: Worker, receivers: list[socket.socket]) -> None:
        self._worker = worker
        self._receivers = [Receiver(sock) for sock in receivers]
        self._senders = {int(sock.family): Sender(sock.family) for sock in receivers}
        self._unsent: dict[Sender, list[tuple[Address, Address, bytes]]] = {
            sender: [] for sender in self._senders.values()
        }
        self._limits = worker.limits
        self._exchanges = worker.dns_exchanges
        self._pace = Pace()
        self._pool = SocketPool(self._answered, self._unreachable, self._ask_over_tcp, self._flush, self._pace)
        self._routes: dict[tuple[str, bytes], Route] = {}
        self._waiting: dict[tuple[Address, bytes, Route], Asked] = {}
        """By client, message and route, the oldest first."""
        self._pending: dict[int, Pending] = {}
        """By endpoint."""
        self._known: dict[DnsJudge | ConnectionRefused, _Known] = {}
        self._remembered = 0

    def serve(self) -> None:
        loop = asyncio.get_running_loop()
        for receiver in self._receivers:
            loop.add_reader(receiver.fileno(), self._read, receiver)
        self._worker.supervisor.start("DNS clock", self._watch_time())

    def judge_anew(self) -> None:
        """There is another policy: what was remembered under the old one does not count any more."""
        for route in self._routes.values():
            route.upstreams.close()
        self._routes.clear()
        self._known.clear()
        self._remembered = 0
        self._pending = {endpoint: pending for endpoint, pending in self._pending.items() if pending.count}

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    # -- questions -----------------------------------------------------------------------------------------------------

    def _read(self, receiver: Receiver) -> None:
        for _ in range(self._pace.begin()):
            found = receiver.read()
            if found is None:
                break
            data, client, sent_to = found
            if sent_to:
                self._question(receiver.family, data, client, sent_to)
            else:
                self._worker.reports.counters["dns.malformed"] += 1
        self._flush()

    def _question(self, family: int, data: bytes, client: Address, sent_to: bytes) -> None:
        now = monotonic_ns()
        route = self._routes.get((client[0], sent_to))
        if route is None or now > route.expires:
            route = self._route(family, client, sent_to, now)
            if route is None:
                return
        judge = route.judge
        if isinstance(judge, ConnectionRefused):
            self._refuse_route(route, judge, data, client, now)
            return
        found = route.known.get(data[2:])
        if found is None:
            found = self._judge(route, judge, data, client, now)
            if found is None:
                return
        query, ruling = found
        asked = Asked(self._worker, route, client, data, query, ruling, now)
        if ruling.permit:
            self._forward(asked)
        else:
            rcode = self._worker.names.refuse_rcode
            self._reply(asked, refused(data, query, rcode), now, rcode)

    def _route(self, family: int, client: Address, sent_to: bytes, now: int) -> Route | None:
        server = origin(sent_to)
        facts = self._worker.facts_of_datagram(family, client, server)
        if facts is None:
            self._worker.reports.counters["refused.unknown"] += 1
            return None
        judge = self._worker.judges.judge_datagrams(facts, server[1])
        key = client[0], sent_to
        known = self._routes.get(key)
        if known is not None and known.facts == facts and known.judge is judge:
            known.expires = now + ROUTE_NS
            return known
        if known is not None:
            known.upstreams.close()
        elif len(self._routes) >= MAX_ROUTES:
            self.judge_anew()
        route = self._routes[key] = Route(
            server,
            facts,
            judge,
            self._known.setdefault(judge, {}),
            self._pending.setdefault(facts.source_endpoint, Pending()),
            Upstreams(client[0], server, self._pool),
            self._unsent[self._senders[family]],
            now + ROUTE_NS,
        )
        return route

    def _judge(
        self, route: Route, judge: DnsJudge, data: bytes, client: Address, now: int
    ) -> tuple[Query, DnsRuling] | None:
        """What there is to say of a question that has not been seen before; None: it has been answered."""
        try:
            query = read_query(data)
        except DnsError as error:
            self._refuse_malformed(route, data, client, error, now)
            return None
        found = query, judge.rule_dns(query.facts)
        if len(data) <= _MEMO_BYTES:
            if self._remembered >= MAX_MEMO:
                for known in self._known.values():
                    known.clear()
                self._remembered = 0
            route.known[data[2:]] = found
            self._remembered += 1
        return found

    def _refuse_malformed(self, route: Route, data: bytes, client: Address, error: DnsError, now: int) -> None:
        self._worker.reports.counters["dns.malformed"] += 1
        tag = Datagram(self._worker.next_id(), route, client)
        self._worker.reports.failure(tag, now, Verdict.ERROR, Direction.EGRESS, error.reason, "malformed DNS query")
        if error.rcode is not None:
            answer = malformed(data, error.rcode)
            if answer is not None:
                self._send(route, client, answer)

    def _refuse_route(self, route: Route, why: ConnectionRefused, data: bytes, client: Address, now: int) -> None:
        """There may be no such questions at all, whatever they are."""
        tag = Datagram(self._worker.next_id(), route, client)
        self._worker.reports.failure(tag, now, Verdict.DROPPED, why.direction, why.reason, "DNS query refused")
        try:
            query = read_query(data)
        except DnsError:
            return
        self._send(route, client, refused(data, query, self._worker.names.refuse_rcode))

    def _forward(self, asked: Asked) -> None:
        route = asked.route
        waiting = self._waiting.setdefault(asked.key, asked)
        if waiting is not asked:
            # The client has lost patience. It is the same question, so it stays one.
            if waiting.upstream is not None:
                self._pool.send(waiting, waiting.message)
            return
        route.pending.count += 1
        if len(self._waiting) > self._limits.dns_max_pending:
            self._worker.reports.limit("dns_max_pending")
        elif route.pending.count > self._limits.dns_max_pending_per_endpoint:
            self._worker.reports.limit("dns_max_pending_per_endpoint")
        else:
            if route.upstreams.ask(asked, asked.message, asked.started):
                return
            self._worker.reports.counters["dns.no_way"] += 1
        self._forget(asked)
        self._reply(asked, failed(asked.message, asked.parsed), asked.started, SERVFAIL)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _answered(self, upstream: UpstreamSocket, answer: bytes) -> bool:
        asked = upstream.waiting.get(answer[:2])
        if asked is None or not fits(answer, asked.parsed):
            self._worker.reports.counters["dns.mismatched"] += 1
            return False
        del upstream.waiting[answer[:2]]
        self._stop_waiting(asked)
        route, now = asked.route, monotonic_ns()
        # That of the policy that is in force now.
        opener = self._worker.opener(route.facts.source_endpoint)
        try:
            body = opener.open(asked.parsed, answer)
        except DnsError as error:
            self._worker.reports.counters["dns.malformed_answers"] += 1
            tag = Datagram(self._worker.next_id(), route, asked.client)
            self._worker.reports.failure(
                tag, now, Verdict.ERROR, Direction.EGRESS, error.reason, "malformed DNS answer"
            )
            body = b""
        if body:
            asked.answer = body
            self._reply(asked, asked.message[:2] + body, now, body[1] & 15)
        else:
            self._fail(asked)
        return True

    def _unreachable(self, asked: Asked) -> None:
        self._worker.reports.counters["dns.unreachable"] += 1
        self._forget(asked)
        self._fail(asked)

    def _ask_over_tcp(self, asked: Asked) -> None:
        self._worker.reports.counters["dns.guessed"] += 1
        self._forget(asked)
        self._reply(asked, truncated(asked.message, asked.parsed), monotonic_ns(), 0)

    def _fail(self, asked: Asked) -> None:
        self._reply(asked, failed(asked.message, asked.parsed), monotonic_ns(), SERVFAIL)

    def _forget(self, asked: Asked) -> None:
        """It waits no more, and its answer would come for nothing."""
        self._stop_waiting(asked)
        self._pool.forget(asked)

    def _stop_waiting(self, asked: Asked) -> None:
        if self._waiting.pop(asked.key, None) is not None:
            asked.route.pending.count -= 1

    def _reply(self, asked: Asked, answer: bytes, now: int, rcode: int) -> None:
        asked.answered = now
        asked.rcode = rcode
        self._exchanges.append(asked)
        self._send(asked.route, asked.client, answer)

    def _send(self, route: Route, client: Address, answer: bytes) -> None:
        """With the next `_flush`."""
        route.unsent.append((route.server, client, answer))

    def _flush(self) -> None:
        """At the end of whatever reads: all that is to be sent goes in one go, so that nobody is woken up for each."""
        self._pool.flush()
        for sender, datagrams in self._unsent.items():
            if datagrams:
                lost = sender.send_all(datagrams)
                if lost:
                    self._worker.reports.counters["dns.unsent"] += lost
                datagrams.clear()
        self._pace.end()

    # -- time ----------------------------------------------------------------------------------------------------------

    async def _watch_time(self) -> None:
        timeout = int(self._worker.limits.dns_timeout_s * 1e9)
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            due = monotonic_ns() - timeout
            late = []
            for asked in self._waiting.values():
                if asked.started > due:
                    break
                late.append(asked)
            for asked in late:
                self._worker.reports.counters["dns.timeouts"] += 1
                self._forget(asked)
                self._fail(asked)
            self._pool.close_idle(monotonic_ns())
            self._flush()
