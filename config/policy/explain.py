"""May this connection be, and why: every entry that was considered, and which matcher said no.

The verdicts are those of `decide.py` and of the L7 matchers, on the rules that are enforced; the documents only give
the words. Both ends are judged: egress of the source and ingress of the destination.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from config.labels import parse_label
from config.policy.decide import NO_NAMES, Allowed, Denied, Inspect, covers, covers_peer, decide, only_by_names
from config.policy.mismatch import Mismatch, names_port, peer_mismatch, port_mismatch, subject_mismatch
from config.policy.name_binding import BOUND_KINDS, wrong_name
from config.policy.name_groups import name_matcher
from config.policy.requests import L7Facts, faults_of, http_matcher, judge, kind_of_request
from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    Endpoint,
    L7Kind,
    L7Rule,
    Origin,
    Rule,
    Snapshot,
    kind_of,
)
from config.policy.rules import Document, Entry, PolicyRule
from config.policy.selectors import satisfies
from parsers.facts import ClientHello, HttpRequest, edited_request

Json = dict[str, Any]

MAX_CONSIDERED = 1000
"""Entries that one direction lists; those that match come first if there are more."""

DEFAULT_DENY = "default deny"
"""Stands for the rule where no rule refuses, but that none allows."""

_NAMES = {L7Kind.HTTP: "HTTP", L7Kind.TLS: "TLS", L7Kind.DNS: "DNS", L7Kind.KAFKA: "Kafka"}


class Verdict(StrEnum):
    """AUDIT: it passes only because audit mode, or a policy that is tried out, does not refuse."""

    ALLOW = "allow"
    DENY = "deny"
    AUDIT = "audit"


class L4(StrEnum):
    """What peer and port alone say, as the kernel's rows do; NONE: nothing is enforced. REDIRECT: the proxy goes on."""

    ALLOW = "allow"
    DENY = "deny"
    REDIRECT = "redirect"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a connection, as it is called, and as the datapath sees it. `endpoint`: the pod, if it is one.

    `names`: DNS names that its address is taken to have been looked up by (canonical).
    """

    name: str
    identity: int
    endpoint: Endpoint | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A connection to a port (or an ICMP type), and the request on it, if there is one to judge."""

    source: Party
    destination: Party
    protocol: int
    port: int
    request: L7Facts | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What is enforced, and the documents that it was resolved from. `bind_names`: the setting `tofqdns-bind-names`."""

    snapshot: Snapshot
    documents: tuple[Document, ...]
    bind_names: str = "tls"


@dataclass(frozen=True, slots=True)
class By:
    """A rule that decided; `rule` is DEFAULT_DENY for a policy whose being there refuses what nobody allows."""

    policy: str
    namespace: str
    rule: str
    file: str
    line: int

    def to_json(self) -> Json:
        return {
            "policy": self.policy,
            "namespace": self.namespace,
            "rule": self.rule,
            "file": self.file,
            "line": self.line,
        }


@dataclass(frozen=True, slots=True)
class Considered:
    """One entry. Not `matched`: `matcher` said no, for `reason`."""

    policy: str
    namespace: str
    kind: str
    rule: str
    file: str
    line: int
    deny: bool
    matched: bool
    matcher: str = ""
    reason: str = ""

    def to_json(self) -> Json:
        return {
            "policy": self.policy,
            "namespace": self.namespace,
            "kind": self.kind,
            "rule": self.rule,
            "file": self.file,
            "line": self.line,
            "deny": self.deny,
            "matched": self.matched,
            "matcher": self.matcher or None,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Side:
    """One direction. `l7` is None where no request was judged; `note` says what rules alone do not."""

    enforced: bool
    verdict: Verdict
    l4: L4
    l7: Verdict | None = None
    by: tuple[By, ...] = ()
    considered: tuple[Considered, ...] = ()
    note: str = ""

    def to_json(self) -> Json:
        body: Json = {
            "enforced": self.enforced,
            "verdict": self.verdict.value,
            "l4": self.l4.value,
            "l7": self.l7.value if self.l7 is not None else None,
            "by": [item.to_json() for item in self.by],
            "considered": [item.to_json() for item in self.considered],
        }
        return body | {"note": self.note} if self.note else body


@dataclass(frozen=True, slots=True)
class Explanation:
    egress: Side
    ingress: Side
    revision: int

    @property
    def verdict(self) -> Verdict:
        """Refused if either end refuses."""
        said = (self.egress.verdict, self.ingress.verdict)
        return next((verdict for verdict in (Verdict.DENY, Verdict.AUDIT) if verdict in said), Verdict.ALLOW)

    def to_json(self) -> Json:
        return {
            "verdict": self.verdict.value,
            "egress": self.egress.to_json(),
            "ingress": self.ingress.to_json(),
            "revision": self.revision,
        }


def explain(world: World, question: Question, *, everything: bool = False) -> Explanation:
    """The verdict with its reasons. `everything`: also entries of policies that are about other pods."""
    return Explanation(
        egress=_explain_side(world, question, Direction.EGRESS, everything),
        ingress=_explain_side(world, _as_sent(world, question), Direction.INGRESS, everything),
        revision=world.snapshot.revision,
    )


def _as_sent(world: World, question: Question) -> Question:
    """With the headers as the rules of the source leave them: that is what the destination judges."""
    source, request = question.source.endpoint, question.request
    policy = world.snapshot.policies.get(source.id) if source is not None and source.is_local else None
    if policy is None or not isinstance(request, HttpRequest):
        return question
    named = groups_of(policy.egress, question.destination.names)
    decision = decide(policy.egress, question.destination.identity, question.protocol, question.port, named)
    if not isinstance(decision, Inspect) or decision.kind is not L7Kind.HTTP or decision.fault:
        return question
    edits, _ = http_matcher(decision.rules).edits(request)
    return replace(question, request=edited_request(request, edits))


def _explain_side(world: World, question: Question, direction: Direction, everything: bool) -> Side:
    ends = question.source, question.destination
    subject, peer = ends if direction is Direction.EGRESS else reversed(ends)
    endpoint = subject.endpoint
    if endpoint is None:
        return _open(f"{subject.name} is no pod: no policy is enforced there")
    if not endpoint.is_local:
        return _open(f"{subject.name} is on another node, which enforces its policies")
    if peer.endpoint is not None and peer.endpoint.id == endpoint.id:
        return _open(f"{subject.name} talks to itself: no policy is asked")
    found = world.snapshot.policies.get(endpoint.id)
    policy = found.direction(direction) if found is not None else DirectionPolicy(enforced=True)
    return _Side(world, question, direction, endpoint, policy).explain(everything)


def groups_of(policy: DirectionPolicy, names: Iterable[str]) -> frozenset[int]:
    """The groups of the policy's `toFQDNs` that these names are in."""
    return frozenset(number for name in names for number in name_matcher(policy).groups(name))


def _open(note: str) -> Side:
    return Side(False, Verdict.ALLOW, L4.NONE, note=note)


class _Side:
    """One direction of one endpoint of this node."""

    def __init__(
        self, world: World, question: Question, direction: Direction, endpoint: Endpoint, policy: DirectionPolicy
    ) -> None:
        egress = direction is Direction.EGRESS
        self._snapshot = world.snapshot
        self._bound_kinds = BOUND_KINDS[world.bind_names]
        self._question = question
        self._direction = direction
        self._endpoint = endpoint
        self._policy = policy
        self._subject, self._peer = (
            (question.source, question.destination) if egress else (question.destination, question.source)
        )
        self._documents = _first_of_each(world.documents)
        labels = [parse_label(text) for text in endpoint.labels]
        self._governing = [
            (document, rule)
            for document in self._documents
            for rule in document.rules
            if rule.governs[direction] and satisfies(rule.subject, labels)
        ]
        self._named = groups_of(policy, self._peer.names) if egress else NO_NAMES
        destination = question.destination.endpoint
        self._ports = destination.ports if destination is not None else ()
        self._covering = [rule for rule in policy.rules if self._covers(rule)]

    def _covers(self, rule: Rule) -> bool:
        return covers(rule, self._peer.identity, self._question.protocol, self._question.port, self._named)

    def explain(self, everything: bool) -> Side:
        if not self._policy.enforced:
            side = _open(self._why_open())
            considered = self._others() if everything else iter(())
        else:
            side = self._judge()
            considered = self._considered(everything)
        return _limited(side, considered)

    def _why_open(self) -> str:
        direction = self._direction.name.lower()
        if self._governing:
            return f"not enforced: enable-policy is never, so no policy of {self._subject.name} counts"
        return f"not enforced: no policy is about {direction} of {self._subject.name}, so everything is allowed"

    # The verdict

    def _judge(self) -> Side:
        question = self._question
        decision = decide(self._policy, self._peer.identity, question.protocol, question.port, self._named)
        match decision:
            case Denied():
                mode = "audit mode" if self._endpoint.audit else ""
                return self._refused(decision, mode, audited=False)
            case Allowed() if decision.audited is not None:
                side = self._refused(decision.audited, "a policy that is only tried out", audited=True)
                inspected = side.l4 is L4.REDIRECT and question.request is not None
                return replace(side, l7=Verdict.ALLOW) if inspected else side
            case Allowed():
                return self._allowed(decision)
            case Inspect():
                return self._inspected(decision)

    def _refused(self, denied: Denied, mode: str, *, audited: bool) -> Side:
        """`mode`: why it passes all the same, empty if it does not. `audited`: policies that are tried out refuse."""
        if denied.origin_id:
            deniers = (rule.origin for rule in self._covering if rule.deny and rule.audit is audited)
            by, note = self._decided(deniers, denied.origin_id), ""
        else:
            by, note = self._default_deniers(), self._default_deny_words()
        if not mode:
            return Side(True, Verdict.DENY, self._l4(), by=by, note=note)
        note = f"passes only because of {mode}: {note or 'a deny rule matches'}"
        return Side(True, Verdict.AUDIT, self._l4(), by=by, note=note)

    def _l4(self) -> L4:
        if any(rule.deny and not rule.audit for rule in self._covering):
            return L4.DENY
        allowing = [rule for rule in self._covering if not rule.deny]
        if any(rule.l7 is not None for rule in allowing):
            return L4.REDIRECT
        return L4.ALLOW if allowing else L4.DENY

    def _default_deniers(self) -> tuple[By, ...]:
        found = [document for document, rule in self._governing if rule.default_deny[self._direction]]
        by = (By(item.name, item.namespace, DEFAULT_DENY, item.file, item.line) for item in found)
        return tuple(dict.fromkeys(by))

    def _default_deny_words(self) -> str:
        if self._governing:
            return "default deny: no rule allows this peer and port"
        return "default deny: enable-policy is always, and no policy allows this peer and port"

    def _allowed(self, decision: Allowed) -> Side:
        plain = (rule.origin for rule in self._covering if not rule.deny and rule.l7 is None)
        # L7 rules beside a plain one send the connection to the proxy, which lets everything pass.
        l4 = self._l4()
        inspected = l4 is L4.REDIRECT
        return Side(
            enforced=True,
            verdict=Verdict.ALLOW,
            l4=l4,
            l7=Verdict.ALLOW if inspected and self._question.request is not None else None,
            by=self._decided(plain, decision.origin_id),
            note=_own_words(decision.origin_id, self._snapshot.origins, inspected),
        )

    def _inspected(self, decision: Inspect) -> Side:
        name, request = _NAMES[decision.kind], self._question.request
        ids = [number for _, number in decision.rules] or [rule.origin.id for rule in self._covering if rule.l7]
        everyone = self._decided((self._snapshot.origins[number] for number in ids), min(ids))
        if decision.fault:
            return Side(True, Verdict.DENY, L4.REDIRECT, Verdict.DENY, everyone, note=decision.fault)
        if request is None:
            note = f"{name} rules judge each request; none was given, so this is what peer and port say"
            return self._passed(decision, Side(True, Verdict.ALLOW, L4.REDIRECT, None, everyone, note=note))
        origin = _judged(decision, request)
        wrong = "" if origin is None else self._wrong_name(decision.kind, request)
        if origin is not None and not wrong:
            permitting = (number for rule, number in decision.rules if _permits((rule,), request))
            by = self._decided((self._snapshot.origins[number] for number in permitting), origin)
            return self._passed(decision, Side(True, Verdict.ALLOW, L4.REDIRECT, Verdict.ALLOW, by))
        note = wrong or f"no {name} rule permits this request"
        # What is no such protocol at all cannot be passed on, in audit mode neither.
        if decision.kind is kind_of_request(request) and (self._endpoint.audit or decision.audit):
            note = f"passes only because of audit: {note}"
            return Side(True, Verdict.AUDIT, L4.REDIRECT, Verdict.DENY, everyone, note=note)
        return Side(True, Verdict.DENY, L4.REDIRECT, Verdict.DENY, everyone, note=note)

    def _wrong_name(self, kind: L7Kind, request: L7Facts) -> str:
        """What speaks against a request to whom only DNS names have opened the way; empty: nothing."""
        if not self._named or kind not in self._bound_kinds or not isinstance(request, ClientHello | HttpRequest):
            return ""
        question = self._question
        asked = (self._peer.identity, question.protocol, question.port, self._named)
        names = only_by_names(self._policy, *asked, kind)
        return "" if names is None else wrong_name(names, request)

    def _passed(self, decision: Inspect, side: Side) -> Side:
        """What the proxy lets pass, unless a deny rule that is only tried out would refuse it."""
        if decision.audited is None:
            return side
        refused = self._refused(decision.audited, "a policy that is only tried out", audited=True)
        return replace(refused, l7=side.l7, note="; ".join(filter(None, (refused.note, side.note))))

    def _decided(self, origins: Iterable[Origin], first: int) -> tuple[By, ...]:
        """Each once, the one that flow records name before the others."""
        ordered = sorted(origins, key=lambda origin: (origin.id != first, origin.file, origin.line))
        return tuple(dict.fromkeys(_by(origin) for origin in ordered))

    # What was considered

    def _considered(self, everything: bool) -> Iterator[Considered]:
        by_name: defaultdict[tuple[str, str, str, str], list[Rule]] = defaultdict(list)
        for rule in self._policy.rules:
            origin = rule.origin
            by_name[origin.kind, origin.namespace, origin.name, origin.rule].append(rule)
        for document, policy_rule in self._governing:
            for entry in policy_rule.entries:
                if entry.direction is self._direction:
                    yield self._look(document, entry, by_name.get((*document.key, entry.name), []))
        for rule in self._covering:
            if not rule.origin.file:
                yield Considered(**_place(rule.origin), deny=False, matched=True)
        if everything:
            yield from self._others()

    def _look(self, document: Document, entry: Entry, rules: list[Rule]) -> Considered:
        covering = [rule for rule in rules if self._covers(rule)]
        if covering:
            mismatch, said = self._look_at_l7(covering)
        else:
            mismatch, said = self._mismatch(entry, rules), ""
        return _entry(document, entry, mismatch, said)

    def _mismatch(self, entry: Entry, rules: list[Rule]) -> Mismatch:
        question = self._question
        about_peer = any(covers_peer(rule, self._peer.identity, self._named) for rule in rules)
        # Named ports without a number here leave no rule behind, and those of peers only rules for peers that have
        # them, so the rules tell nothing about this peer.
        untold = not rules or (self._direction is Direction.EGRESS and _has_names(entry))
        no_port = not names_port(entry, question.protocol, question.port, self._ports)
        if about_peer or (untold and no_port and entry.peers != ()):
            return port_mismatch(entry, question.protocol, question.port, self._ports)
        return peer_mismatch(entry, self._peer.name, self._labels_of(self._peer))

    def _look_at_l7(self, covering: list[Rule]) -> tuple[Mismatch | None, str]:
        if any(rule.l7 is None for rule in covering):
            return None, ""
        items = tuple(item for rule in covering for item in rule.l7 or ())
        request = self._question.request
        if request is None:
            kinds = " and ".join(dict.fromkeys(_NAMES[kind_of(item)] for item in items))
            return None, f"its {kinds} rules judge each request"
        return (None, "") if _permits(items, request) else (_closest(items, request), "")

    def _others(self) -> Iterator[Considered]:
        """Entries of rules that are about other pods."""
        governing = {id(rule) for _, rule in self._governing}
        labels = self._labels_of(self._subject)
        for document in self._documents:
            for rule in document.rules:
                if rule.governs[self._direction] and id(rule) not in governing:
                    mismatch = subject_mismatch(rule.subject, self._subject.name, labels)
                    yield from (_entry(document, entry, mismatch) for entry in _of_direction(rule, self._direction))

    def _labels_of(self, party: Party) -> frozenset[str]:
        if party.endpoint is not None:
            return party.endpoint.labels
        return self._snapshot.identities.get(party.identity, frozenset())


def _of_direction(rule: PolicyRule, direction: Direction) -> Iterator[Entry]:
    return (entry for entry in rule.entries if entry.direction is direction)


def _has_names(entry: Entry) -> bool:
    return any(spec.name for rule in entry.port_rules or () for spec in rule.ports)


def _first_of_each(documents: Iterable[Document]) -> list[Document]:
    """Of two documents about one object only the first by file and line is in force."""
    found: dict[tuple[str, str, str], Document] = {}
    for document in sorted(documents, key=lambda item: (item.file, item.line)):
        found.setdefault(document.key, document)
    return list(found.values())


def _limited(side: Side, considered: Iterable[Considered]) -> Side:
    found = list(considered)
    if len(found) > MAX_CONSIDERED:
        found.sort(key=lambda item: not item.matched)
        left = f"{len(found) - MAX_CONSIDERED} more entries that do not match are left out"
        return replace(side, considered=tuple(found[:MAX_CONSIDERED]), note="; ".join(filter(None, (side.note, left))))
    return replace(side, considered=tuple(found))


def _entry(document: Document, entry: Entry, mismatch: Mismatch | None, said: str = "") -> Considered:
    return Considered(
        policy=document.name,
        namespace=document.namespace,
        kind=document.kind,
        rule=entry.name,
        file=document.file,
        line=entry.line,
        deny=entry.deny,
        matched=mismatch is None,
        matcher=mismatch.matcher if mismatch is not None else "",
        reason=mismatch.reason if mismatch is not None else said,
    )


def _place(origin: Origin) -> dict[str, Any]:
    return {
        "policy": origin.name,
        "namespace": origin.namespace,
        "kind": origin.kind,
        "rule": origin.rule,
        "file": origin.file,
        "line": origin.line,
    }


def _by(origin: Origin) -> By:
    return By(origin.name, origin.namespace, origin.rule, origin.file, origin.line)


def _own_words(origin_id: int, origins: Mapping[int, Origin], inspected: bool) -> str:
    """What stands in no file."""
    origin = origins.get(origin_id)
    if origin is None or origin.file:
        return "a rule without L7 rules allows everything here, whatever L7 rules say" if inspected else ""
    if origin.name == "allow-localhost":
        return "the node itself always reaches its pods (allow-localhost)"
    return "default allow: no policy here makes anything refused (enableDefaultDeny)"


# L7


def _judged(decision: Inspect, request: L7Facts) -> int | None:
    """The id of the rule that permits the request."""
    if decision.fault or decision.kind is not kind_of_request(request):
        return None
    return judge(decision.rules, request)


def _permits(items: tuple[L7Rule, ...], request: L7Facts) -> bool:
    """Does one of the rules permit the request, taken for themselves?"""
    return judge(tuple((item, 1) for item in items), request) is not None


def _closest(items: tuple[L7Rule, ...], request: L7Facts) -> Mismatch:
    """What is wrong with the rule that comes closest."""
    found = [said for item in items if (said := faults_of(item, request)) is not None]
    asked = _NAMES[kind_of_request(request)]
    if not found:
        kind = kind_of(items[0])
        return Mismatch(kind.value, f"{_NAMES[kind]} rules permit no {asked}")
    closest = min(found, key=len)
    more = f"; and {len(found) - 1} more {asked} rules" if len(found) > 1 else ""
    return Mismatch(closest[0].matcher, " and ".join(fault.said for fault in closest) + more)
