"""What changes between two sets of policies, endpoint by endpoint: by meaning, not by text.

For every endpoint and direction whose rules differ, each peer there is and each port that some rule names is asked
about on both sides, with `decide`. Peers are pods, reserved identities, and every prefix that either side knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from config.identity import RESERVED_LABELS, Reserved
from config.policy.cidrs import ancestors
from config.policy.decide import NO_NAMES, Allowed, Denied, Inspect, covers_peer, decide
from config.policy.explain import World, groups_of
from config.policy.mismatch import port_words
from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    FqdnPeer,
    HttpRule,
    L7Rule,
    Network,
    Origin,
    Protocol,
    Rule,
    Snapshot,
    kind_of,
)

Json = dict[str, Any]

_PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP, Protocol.ICMPV6)
_NOWHERE = Origin(0, "", "", "", "")
_LAST = {Protocol.ICMP: 255, Protocol.ICMPV6: 255}


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer, under its identities before and after. `selector`: addresses that such DNS names have opened."""

    name: str
    before: int
    after: int
    selector: FqdnPeer | None = None

    def named(self, policy: DirectionPolicy) -> frozenset[int]:
        """Its groups of names under a policy."""
        if self.selector is None:
            return NO_NAMES
        if self.selector.name or not self.selector.pattern:
            return groups_of(policy, (self.selector.name,))
        groups = (rule.names for rule in policy.rules if rule.names is not None)
        return frozenset(group.identity for group in groups if self.selector in group.selectors)


@dataclass(frozen=True, slots=True)
class Change:
    """Ports `first`..`last` of a protocol (all: 0..65535; protocol ANY: whatever there is), for `peers`."""

    peers: tuple[str, ...]
    protocol: int
    first: int
    last: int
    before: str
    after: str

    @property
    def ports(self) -> str:
        if self.protocol == Protocol.ANY:
            return "everything"
        if (self.first, self.last) == (0, _LAST.get(Protocol(self.protocol), 65535)):
            return port_words(self.protocol, 0).replace("0/", "any/")
        words = port_words(self.protocol, self.last)
        return words if self.first == self.last else f"{self.first}-{words}"

    def to_json(self) -> Json:
        return {
            "peers": list(self.peers),
            "ports": self.ports,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """What is different for one direction of endpoints that change alike."""

    endpoints: tuple[str, ...]
    direction: Direction
    enforced: tuple[bool, bool]
    changes: tuple[Change, ...] = field(default=())

    def to_json(self) -> Json:
        return {
            "endpoints": list(self.endpoints),
            "direction": self.direction.name.lower(),
            "enforced": {"before": self.enforced[0], "after": self.enforced[1]},
            "changes": [change.to_json() for change in self.changes],
        }


def difference(before: World, after: World) -> list[Difference]:
    """Both worlds must have the same endpoints. Sorted by endpoint."""
    peers = list(_peers(before.snapshot, after.snapshot))
    groups: defaultdict[tuple[Direction, tuple[bool, bool], tuple[Change, ...]], list[str]] = defaultdict(list)
    known: dict[tuple[int, int, Direction], tuple[Change, ...]] = {}
    # The same identity may be fewer addresses than before.
    same_prefixes = before.snapshot.ipcache == after.snapshot.ipcache
    for number, endpoint in before.snapshot.endpoints.items():
        one, other = before.snapshot.policies.get(number), after.snapshot.policies.get(number)
        if one is None or other is None:
            continue
        for direction in Direction:
            old, new = one.direction(direction), other.direction(direction)
            if same_prefixes and _meaning(old) == _meaning(new):
                continue
            key = (id(old), id(new), direction)
            if key not in known:
                known[key] = tuple(_changes(old, new, peers))
            if known[key] or old.enforced is not new.enforced:
                group = (direction, (old.enforced, new.enforced), known[key])
                groups[group].append(f"{endpoint.namespace}/{endpoint.name}")
    found = [Difference(tuple(sorted(names)), *group) for group, names in groups.items()]
    return sorted(found, key=lambda item: (item.endpoints, item.direction))


def _meaning(policy: DirectionPolicy) -> object:
    """Without where the rules stand."""
    rules = frozenset(replace(rule, origin=_NOWHERE) for rule in policy.rules)
    return policy.enforced, policy.audit, rules


def _peers(before: Snapshot, after: Snapshot) -> Iterator[Peer]:
    names: defaultdict[int, list[str]] = defaultdict(list)
    for endpoint in before.endpoints.values():
        names[endpoint.identity].append(f"{endpoint.namespace}/{endpoint.name}")
    for identity, pods in sorted(names.items(), key=lambda item: item[1]):
        more = f" and {len(pods) - 1} like it" if len(pods) > 1 else ""
        yield Peer(f"{min(pods)}{more}", identity, identity)
    for number in RESERVED_LABELS:
        if number not in (Reserved.WORLD, Reserved.UNMANAGED):
            name = Reserved(number).name.lower().replace("_", "-")
            yield Peer(f"{name} (no prefix of a rule)" if "world" in name else name, number, number)
    taken = {endpoint.identity for endpoint in before.endpoints.values()} | set(RESERVED_LABELS)
    networks = before.ipcache.keys() | after.ipcache.keys()
    for network in sorted(networks, key=lambda item: (item.version, item)):
        pair = _identity(before, network), _identity(after, network)
        if not set(pair) <= taken:
            yield Peer(str(network), *pair)
    for selector in sorted(_selectors(before) | _selectors(after), key=str):
        world = int(Reserved.WORLD_IPV4)
        yield Peer(f"addresses of {selector}", world, world, selector)


def _selectors(snapshot: Snapshot) -> set[FqdnPeer]:
    rules = (rule for policy in snapshot.policies.values() for rule in policy.egress.rules)
    return {selector for rule in rules if rule.names is not None for selector in rule.names.selectors}


def _identity(snapshot: Snapshot, network: Network) -> int:
    """Of the addresses of a prefix that no longer one covers."""
    for wider in ancestors(network):
        if wider in snapshot.ipcache:
            return snapshot.ipcache[wider]
    return int(Reserved.WORLD_IPV4 if network.version == 4 else Reserved.WORLD_IPV6)


def _changes(old: DirectionPolicy, new: DirectionPolicy, peers: Iterable[Peer]) -> Iterator[Change]:
    """Peers that change alike together, ports that change alike as one range."""
    alike: defaultdict[tuple[_Found, ...], list[str]] = defaultdict(list)
    for peer in peers:
        found = tuple(_together(list(_of_peer(old, new, peer))))
        if found:
            alike[found].append(peer.name)
    for ranges, names in alike.items():
        for protocol, first, last, before, after in ranges:
            yield Change(tuple(names), protocol, first, last, before, after)


_Found = tuple[int, int, int, str, str]


def _together(found: list[_Found]) -> list[_Found]:
    """All protocols as one where they change alike as a whole."""
    whole = all((first, last) == (0, _LAST.get(Protocol(protocol), 65535)) for protocol, first, last, _, _ in found)
    if whole and len(found) == len(_PROTOCOLS) and len({outcome[3:] for outcome in found}) == 1:
        return [(int(Protocol.ANY), 0, 65535, *found[0][3:])]
    return found


def _of_peer(old: DirectionPolicy, new: DirectionPolicy, peer: Peer) -> Iterator[_Found]:
    sides = (old, peer.before, peer.named(old)), (new, peer.after, peer.named(new))
    about = [rule for policy, identity, named in sides for rule in policy.rules if covers_peer(rule, identity, named)]
    for protocol in _PROTOCOLS:
        held: tuple[int, int, str, str] | None = None
        for first, last in _ranges(about, protocol):
            before, after = _words(*(_outcome(*side, protocol, first) for side in sides))
            if held is not None and held[2:] == (before, after):
                held = (held[0], last, before, after)
                continue
            if held is not None and held[2] != held[3]:
                yield (int(protocol), *held)
            held = (first, last, before, after)
        if held is not None and held[2] != held[3]:
            yield (int(protocol), *held)


def _ranges(rules: Iterable[Rule], protocol: Protocol) -> Iterator[tuple[int, int]]:
    """Between the boundaries that rules name, everything is alike."""
    last = _LAST.get(protocol, 65535)
    starts = {0}
    for rule in rules:
        for ports in rule.ports or ():
            if ports.protocol in (Protocol.ANY, protocol):
                starts |= {ports.first, ports.last + 1}
    known = sorted(start for start in starts if start <= last)
    yield from zip(known, [*(start - 1 for start in known[1:]), last], strict=True)


_Outcome = tuple[str, frozenset[str]]


def _outcome(policy: DirectionPolicy, identity: int, named: frozenset[int], protocol: Protocol, port: int) -> _Outcome:
    """The verdict, and the L7 rules if they have a say."""
    decision = decide(policy, identity, protocol, port, named)
    match decision:
        case Denied():
            return "denied", frozenset()
        case Allowed():
            return ("audited" if decision.audited else "allowed"), frozenset()
        case Inspect():
            if decision.fault:
                return "denied", frozenset()
            word = f"{decision.kind.name} rules{', audited' if decision.audit else ''}"
            return word, frozenset(rule_words(rule) for rule, _ in decision.rules)


def _words(before: _Outcome, after: _Outcome) -> tuple[str, str]:
    """Of two lists of L7 rules only what is different."""
    if before[1] and after[1] and before[1] != after[1]:
        gone, new = sorted(before[1] - after[1]), sorted(after[1] - before[1])
        return _listed(before[0], gone, "-"), _listed(after[0], new, "+")
    return _listed(before[0], sorted(before[1]), ""), _listed(after[0], sorted(after[1]), "")


def _listed(word: str, rules: list[str], sign: str) -> str:
    return f"{word}{f' {sign}' if sign else ''}: {', '.join(rules)}" if rules else word


def rule_words(rule: L7Rule) -> str:
    """One L7 rule in a few words."""
    if isinstance(rule, HttpRule):
        parts = [rule.method, rule.path, rule.host and f"host {rule.host}"]
        parts += [f"{name}: {value}" if value is not None else name for name, value in rule.headers]
        parts += [f"{match.action.value} {match.name}" for match in rule.header_matches]
        return " ".join(filter(None, parts)) or "any request"
    fields = {name: getattr(rule, name) for name in rule.__slots__}
    told = [f"{name}={value}" for name, value in fields.items() if value and name != "api_keys"]
    return " ".join(told) or f"any {kind_of(rule).name} request"
