"""From a snapshot and the facts of a connection to the judge of its requests, or of the server name it asks for.

Both ends are judged in one pass: the egress rules of the source where it sits on this node, and the ingress rules of
the destination where that does. Connections with the same rules share one judge, and with it the memo of heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol, TypeVar, cast

from config.policy.decide import Allowed, Denied, Inspect, decide, only_by_names
from config.policy.dns import DnsMatcher
from config.policy.http import HttpMatcher
from config.policy.kafka import KafkaMatcher
from config.policy.name_binding import wrong_name
from config.policy.requests import dns_matcher, http_matcher, kafka_matcher, server_name_matcher
from config.policy.resolved import Direction, FqdnPeer, L7Kind, Origin, Snapshot
from config.policy.resolved import Protocol as IpProtocol
from config.policy.sni import ServerNameMatcher
from parsers.dns.judging import DnsRuling
from parsers.errors import ParseError
from parsers.facts import ClientHello, DnsQuery, HeaderEdit, HttpRequest, KafkaRequest, edited_request
from parsers.http.judging import Ruling
from parsers.http1.judging import HeadMemo
from parsers.kafka.judging import KafkaRuling
from parsers.tls.filter import NameRuling
from proxy.datapath import ConnectionFacts
from proxy.flows.model import Verdict
from proxy.worker.options import NameOptions, Refusals

MEMO_RULINGS = 4096
"""Rulings remembered per judge, by method, path and host."""

MAX_TOLD_HEADERS = 20
"""Headers that a record says are not as rules want them."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a ruling tells the flow record: who decided, by which rule (origin id, 0 = none), and why not.

    Of a request that is permitted, `reason` tells the headers that are not as rules want them.
    """

    verdict: Verdict
    direction: Direction
    rule: int
    revision: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionRefused:
    """The connection itself is not allowed (any more)."""

    direction: Direction
    rule: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Side:
    """One direction's say: a matcher, or a plain allow of rule `rule`. In audit mode a no is a note.

    `names`: only by these DNS names can the server be reached at all; None: they do not matter.
    """

    direction: Direction
    matcher: HttpMatcher | ServerNameMatcher | KafkaMatcher | DnsMatcher | None
    rule: int
    audit: bool
    names: frozenset[FqdnPeer] | None = None

    def wrong_name(self, request: object) -> str:
        """Why a client that came by names may not ask for this; empty if it may."""
        if self.names is None:
            return ""
        assert isinstance(request, ClientHello | HttpRequest)
        return wrong_name(self.names, request)


class HttpJudge:
    """Judges the requests of all connections that have the same sides. Bound to one snapshot."""

    def __init__(self, sides: tuple[_Side, ...], snapshot: Snapshot, refusals: Refusals) -> None:
        self._sides = sides
        self._snapshot = snapshot
        self._refusals = refusals
        self._rulings: dict[tuple[bytes, bytes, bytes], Ruling] = {}
        matchers = [side.matcher for side in sides if isinstance(side.matcher, HttpMatcher)]
        self._needs_headers = any(matcher.needs_headers for matcher in matchers)
        self.memo = HeadMemo(looks_at_headers=self._needs_headers)

    def rule(self, request: HttpRequest) -> Ruling:
        if self._needs_headers:
            return self._rule(request)
        key = (request.method, request.path, request.host)
        ruling = self._rulings.get(key)
        if ruling is None:
            if len(self._rulings) >= MEMO_RULINGS:
                self._rulings.clear()
            ruling = self._rulings[key] = self._rule(request)
        return ruling

    def _rule(self, request: HttpRequest) -> Ruling:
        revision = self._snapshot.revision
        note = Note(Verdict.FORWARDED, Direction.INGRESS, 0, revision)
        audited: Note | None = None
        edits: tuple[HeaderEdit, ...] = ()
        told: list[str] = []
        for side in self._sides:
            matcher = side.matcher
            assert matcher is None or isinstance(matcher, HttpMatcher)
            origin = side.rule if matcher is None else matcher.judge(request)
            wrong = "" if origin is None else side.wrong_name(request)
            if origin is not None and not wrong:
                if origin or not note.rule:
                    note = Note(Verdict.FORWARDED, side.direction, origin, revision)
                if matcher is not None and matcher.acts:
                    made, said = matcher.edits(request)
                    told += said
                    edits += made
                    # The other end judges what it would be sent.
                    request = edited_request(request, made)
                continue
            assert matcher is not None
            reason = wrong or matcher.explain(request, self._snapshot.origins)
            if not side.audit:
                return self._refusal(Note(Verdict.DROPPED, side.direction, 0, revision, reason))
            audited = Note(Verdict.AUDIT, side.direction, 0, revision, reason)
        note = audited or note
        if told:
            note = replace(note, reason="; ".join(filter(None, (note.reason, *_told(told)))))
        return Ruling(True, note, edits=edits)

    def _refusal(self, note: Note) -> Ruling:
        refusals = self._refusals
        told = _header_text(note.reason) if refusals.tell_why else b""
        return Ruling(False, note, 403, refusals.body, denial=refusals.denial, told=told)

    def refuse(self, request: HttpRequest, error: ParseError) -> Ruling:
        """No rule sees what is not in the one form that is judged."""
        note = Note(Verdict.ERROR, Direction.INGRESS, 0, self._snapshot.revision, error.reason)
        return Ruling(False, note, error.status, HTTPStatus(error.status).phrase.encode() + b"\r\n")


class NameJudge:
    """Judges the server names of all TLS connections that have the same sides. Bound to one snapshot."""

    def __init__(self, sides: tuple[_Side, ...], snapshot: Snapshot) -> None:
        self._sides = sides
        self._snapshot = snapshot

    def rule_name(self, hello: ClientHello) -> NameRuling:
        note = _decided(self._sides, hello, self._snapshot)
        permit = note.verdict is not Verdict.DROPPED
        return NameRuling(permit, note, "" if permit else note.reason)


class DnsJudge:
    """Judges the DNS queries of all clients that have the same sides. Bound to one snapshot."""

    def __init__(self, sides: tuple[_Side, ...], snapshot: Snapshot) -> None:
        self._sides = sides
        self._snapshot = snapshot

    def rule_dns(self, query: DnsQuery) -> DnsRuling:
        note = _decided(self._sides, query, self._snapshot)
        return DnsRuling(note.verdict is not Verdict.DROPPED, note)

    def refuse_dns(self, reason: str) -> DnsRuling:
        """No rule gets to see it."""
        return DnsRuling(False, Note(Verdict.ERROR, Direction.EGRESS, 0, self._snapshot.revision, reason))


class KafkaJudge:
    """Judges the Kafka requests of all connections that have the same sides. Bound to one snapshot."""

    def __init__(self, sides: tuple[_Side, ...], snapshot: Snapshot) -> None:
        self._sides = sides
        self._snapshot = snapshot
        self._rulings: dict[KafkaRequest, KafkaRuling] = {}

    def rule_kafka(self, request: KafkaRequest) -> KafkaRuling:
        ruling = self._rulings.get(request)
        if ruling is None:
            if len(self._rulings) >= MEMO_RULINGS:
                self._rulings.clear()
            note = _decided(self._sides, request, self._snapshot)
            ruling = self._rulings[request] = KafkaRuling(note.verdict is not Verdict.DROPPED, note)
        return ruling

    def refuse_kafka(self, request: KafkaRequest, reason: str) -> KafkaRuling:
        """No rule gets to see it."""
        return KafkaRuling(False, Note(Verdict.ERROR, Direction.INGRESS, 0, self._snapshot.revision, reason))


_F = TypeVar("_F", contravariant=True)


class _Matcher(Protocol[_F]):
    """What the matchers of all kinds of facts have in common."""

    def judge(self, facts: _F, /) -> int | None: ...

    def explain(self, facts: _F, origins: Mapping[int, Origin], /) -> str: ...


def _decided(sides: tuple[_Side, ...], facts: _F, snapshot: Snapshot) -> Note:
    """What all sides together say: the first no that is enforced, else the last rule that permits."""
    note = Note(Verdict.FORWARDED, Direction.INGRESS, 0, snapshot.revision)
    audited: Note | None = None
    for side in sides:
        matcher = cast("_Matcher[_F] | None", side.matcher)  # all sides of a judge are about the same kind of facts
        origin = side.rule if matcher is None else matcher.judge(facts)
        wrong = "" if origin is None else side.wrong_name(facts)
        if origin is not None and not wrong:
            if origin or not note.rule:
                note = Note(Verdict.FORWARDED, side.direction, origin, snapshot.revision)
            continue
        assert matcher is not None
        reason = wrong or matcher.explain(facts, snapshot.origins)
        if not side.audit:
            return Note(Verdict.DROPPED, side.direction, 0, snapshot.revision, reason)
        audited = Note(Verdict.AUDIT, side.direction, 0, snapshot.revision, reason)
    return audited or note


_KINDS: dict[type, str] = {
    HttpMatcher: "HTTP",
    KafkaMatcher: "Kafka",
    ServerNameMatcher: "TLS",
    DnsMatcher: "DNS",
}

ConnectionJudge = HttpJudge | NameJudge | KafkaJudge | DnsJudge

MAX_TOLD_BYTES = 512


def _header_text(reason: str) -> bytes:
    """The reason as the value of a header: visible ASCII, and not the whole policy."""
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in reason)
    return plain[:MAX_TOLD_BYTES].strip().encode()


def _told(said: list[str]) -> list[str]:
    more = len(said) - MAX_TOLD_HEADERS
    return said[:MAX_TOLD_HEADERS] + ([f"and {more} more headers"] if more > 0 else [])


def _matcher_of(decision: Inspect) -> HttpMatcher | ServerNameMatcher | KafkaMatcher | DnsMatcher:
    match decision.kind:
        case L7Kind.HTTP:
            return http_matcher(decision.rules)
        case L7Kind.TLS:
            return server_name_matcher(decision.rules)
        case L7Kind.KAFKA:
            return kafka_matcher(decision.rules)
        case L7Kind.DNS:
            return dns_matcher(decision.rules)


_Asked = tuple[ConnectionFacts, IpProtocol, int, frozenset[int]]


class JudgeTable:
    """The judges of one snapshot, made on demand."""

    def __init__(self, snapshot: Snapshot, refusals: Refusals, names: NameOptions | None = None) -> None:
        self.snapshot = snapshot
        self._refusals = refusals
        bound = names or NameOptions()
        self._bound_kinds = [L7Kind.TLS] * bound.bind_tls + [L7Kind.HTTP] * bound.bind_host
        self._judges: dict[tuple[IpProtocol, tuple[_Side, ...]], ConnectionJudge] = {}
        self._known: dict[_Asked, ConnectionJudge | ConnectionRefused] = {}

    def judge(
        self, facts: ConnectionFacts, port: int, named: frozenset[int] = frozenset()
    ) -> ConnectionJudge | ConnectionRefused:
        """The judge of a connection to TCP port `port`, or why there may be no such connection. `named`: the groups of
        names that have opened the server's address to the client.
        """
        return self._find(facts, IpProtocol.TCP, port, named)

    def judge_datagrams(self, facts: ConnectionFacts, port: int) -> DnsJudge | ConnectionRefused:
        """The judge of DNS queries to UDP port `port`, or why there may be none."""
        found = self._find(facts, IpProtocol.UDP, port, frozenset())
        if isinstance(found, DnsJudge | ConnectionRefused):
            return found
        return ConnectionRefused(Direction.EGRESS, 0, "the rules of this port are not about DNS")

    def _find(
        self, facts: ConnectionFacts, protocol: IpProtocol, port: int, named: frozenset[int]
    ) -> ConnectionJudge | ConnectionRefused:
        key = (facts, protocol, port, named)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MEMO_RULINGS:
                self._known.clear()
            found = self._known[key] = self._make(facts, protocol, port, named)
        return found

    def _make(
        self, facts: ConnectionFacts, protocol: IpProtocol, port: int, named: frozenset[int]
    ) -> ConnectionJudge | ConnectionRefused:
        sides: list[_Side] = []
        for direction, endpoint, peer in (
            (Direction.EGRESS, facts.source_endpoint, facts.destination_identity),
            (Direction.INGRESS, facts.destination_endpoint, facts.source_identity),
        ):
            if not endpoint:
                continue
            opened = named if direction is Direction.EGRESS else frozenset[int]()
            side = self._side(direction, endpoint, peer, protocol, port, opened)
            if isinstance(side, ConnectionRefused):
                return side
            sides.append(side)
        if not sides:
            return ConnectionRefused(Direction.INGRESS, 0, "neither end of the connection is known")
        kinds = {type(side.matcher) for side in sides if side.matcher is not None}
        if len(kinds) > 1:
            both = " and the other of ".join(sorted(_KINDS[kind] for kind in kinds))
            why = f"the rules of one end are about requests of {both}"
            return ConnectionRefused(sides[0].direction, 0, why)
        key = protocol, tuple(sides)
        judge = self._judges.get(key)
        if judge is None:
            judge = self._judges[key] = self._judge_of(kinds, *key)
        return judge

    def _judge_of(self, kinds: set[type], protocol: IpProtocol, sides: tuple[_Side, ...]) -> ConnectionJudge:
        if DnsMatcher in kinds or (protocol is IpProtocol.UDP and not kinds):
            return DnsJudge(sides, self.snapshot)
        if ServerNameMatcher in kinds:
            return NameJudge(sides, self.snapshot)
        if KafkaMatcher in kinds:
            return KafkaJudge(sides, self.snapshot)
        return HttpJudge(sides, self.snapshot, self._refusals)

    def _side(
        self, direction: Direction, endpoint: int, peer: int, protocol: IpProtocol, port: int, named: frozenset[int]
    ) -> _Side | ConnectionRefused:
        policy = self.snapshot.policies.get(endpoint)
        known = self.snapshot.endpoints.get(endpoint)
        if policy is None or known is None:
            return ConnectionRefused(direction, 0, "the endpoint is not known any more")
        section = policy.direction(direction)
        decision = decide(section, peer, protocol, port, named)
        match decision:
            case Inspect():
                if decision.fault:
                    return ConnectionRefused(direction, 0, decision.fault)
                audit = known.audit or decision.audit
                names = None
                if named and decision.kind in self._bound_kinds:
                    names = only_by_names(section, peer, protocol, port, named, decision.kind)
                return _Side(direction, _matcher_of(decision), 0, audit, names)
            case Allowed():
                return _Side(direction, None, decision.origin_id, known.audit)
            case Denied():
                if known.audit:
                    return _Side(direction, None, decision.origin_id, True)
                return ConnectionRefused(direction, decision.origin_id, decision.reason)
