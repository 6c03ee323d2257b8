"""From a snapshot and the facts of a connection to the judge of its requests.

Both ends are judged in one pass: the egress rules of the source where it sits on this node, and the ingress rules of
the destination where that does. Connections with the same rules share one judge, and with it the memo of heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from config.policy.decide import Allowed, Denied, Inspect, decide
from config.policy.http import HttpMatcher
from config.policy.requests import http_matcher
from config.policy.resolved import Direction, L7Kind, Protocol, Snapshot
from parsers.facts import HeaderEdit, HttpRequest, edited_request
from parsers.http.judging import Ruling
from parsers.http1.judging import JudgedHead
from proxy.datapath import ConnectionFacts
from proxy.flows.model import Verdict

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
    """One direction's say on requests: a matcher, or a plain allow of rule `rule`. In audit mode a no is a note."""

    direction: Direction
    matcher: HttpMatcher | None
    rule: int
    audit: bool


class HttpJudge:
    """Judges the requests of all connections that have the same sides. Bound to one snapshot."""

    def __init__(self, sides: tuple[_Side, ...], snapshot: Snapshot, denial: bytes) -> None:
        self.memo: dict[bytes, JudgedHead] = {}
        self._sides = sides
        self._snapshot = snapshot
        self._denial = denial
        self._rulings: dict[tuple[bytes, bytes, bytes], Ruling] = {}
        self._needs_headers = any(side.matcher is not None and side.matcher.needs_headers for side in sides)

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
            origin = side.rule if side.matcher is None else side.matcher.judge(request)
            if origin is not None:
                note = Note(Verdict.FORWARDED, side.direction, origin, revision)
                if side.matcher is not None and side.matcher.acts:
                    made, said = side.matcher.edits(request)
                    told += said
                    edits += made
                    # The other end judges what it would be sent.
                    request = edited_request(request, made)
                continue
            assert side.matcher is not None
            reason = side.matcher.explain(request, self._snapshot.origins)
            if not side.audit:
                denied = Note(Verdict.DROPPED, side.direction, 0, revision, reason)
                return Ruling(False, denied, 403, self._denial)
            audited = Note(Verdict.AUDIT, side.direction, 0, revision, reason)
        note = audited or note
        if told:
            note = replace(note, reason="; ".join(filter(None, (note.reason, *_told(told)))))
        return Ruling(True, note, edits=edits)


def _told(said: list[str]) -> list[str]:
    more = len(said) - MAX_TOLD_HEADERS
    return said[:MAX_TOLD_HEADERS] + ([f"and {more} more headers"] if more > 0 else [])


class JudgeTable:
    """The judges of one snapshot, made on demand."""

    def __init__(self, snapshot: Snapshot, denial: bytes) -> None:
        self.snapshot = snapshot
        self.denial = denial
        self._judges: dict[tuple[_Side, ...], HttpJudge] = {}
        self._known: dict[tuple[ConnectionFacts, int], HttpJudge | ConnectionRefused] = {}

    def judge(self, facts: ConnectionFacts, port: int) -> HttpJudge | ConnectionRefused:
        """The judge of a connection to TCP port `port`, or why there may be no such connection."""
        key = (facts, port)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MEMO_RULINGS:
                self._known.clear()
            found = self._known[key] = self._make(facts, port)
        return found

    def _make(self, facts: ConnectionFacts, port: int) -> HttpJudge | ConnectionRefused:
        sides: list[_Side] = []
        for direction, endpoint, peer in (
            (Direction.EGRESS, facts.source_endpoint, facts.destination_identity),
            (Direction.INGRESS, facts.destination_endpoint, facts.source_identity),
        ):
            if not endpoint:
                continue
            side = self._side(direction, endpoint, peer, port)
            if isinstance(side, ConnectionRefused):
                return side
            sides.append(side)
        if not sides:
            return ConnectionRefused(Direction.INGRESS, 0, "neither end of the connection is known")
        return self._judges.setdefault(tuple(sides), HttpJudge(tuple(sides), self.snapshot, self.denial))

    def _side(self, direction: Direction, endpoint: int, peer: int, port: int) -> _Side | ConnectionRefused:
        policy = self.snapshot.policies.get(endpoint)
        known = self.snapshot.endpoints.get(endpoint)
        if policy is None or known is None:
            return ConnectionRefused(direction, 0, "the endpoint is not known any more")
        decision = decide(policy.direction(direction), peer, Protocol.TCP, port)
        match decision:
            case Inspect():
                if decision.kind is not L7Kind.HTTP:
                    return ConnectionRefused(direction, 0, f"the proxy has no parser for {decision.kind.name} yet")
                if decision.fault:
                    return ConnectionRefused(direction, 0, decision.fault)
                return _Side(direction, http_matcher(decision.rules), 0, known.audit or decision.audit)
            case Allowed():
                return _Side(direction, None, decision.origin_id, known.audit)
            case Denied():
                if known.audit:
                    return _Side(direction, None, decision.origin_id, True)
                return ConnectionRefused(direction, decision.origin_id, decision.reason)
