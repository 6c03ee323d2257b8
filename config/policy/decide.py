"""One direction of one connection: may it be, and do L7 rules have a say?

Every rule that matches peer and port counts: deny wins; a plain allow allows everything, whatever L7 rules stand beside
it; otherwise the L7 rules are one list of alternatives. This is the one place where that is decided: the proxy's
judges, `policy explain` and the tests of the kernel's rows all ask here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from config.identity import is_outside
from config.policy.resolved import DirectionPolicy, FqdnPeer, L7Kind, L7Rule, Protocol, Rule, kind_of

PRECEDENCE = (L7Kind.HTTP, L7Kind.TLS, L7Kind.DNS, L7Kind.KAFKA)
"""Which L7 rules count where rules for different peers ask for different parsers: a connection has only one."""


@dataclass(frozen=True, slots=True)
class Denied:
    """`origin_id` of the deny rule, 0 for default deny."""

    origin_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """`origin_id` of the rule that allows, 0 where there is none. `audited`: the refusal that is only reported."""

    origin_id: int
    audited: Denied | None = None


@dataclass(frozen=True, slots=True)
class Inspect:
    """L7 rules decide: any of `rules` (with the ids of their origins) permits. `audit`: what none permits passes, too.

    `fault` says why nothing is permitted although there are rules.
    """

    kind: L7Kind
    rules: tuple[tuple[L7Rule, int], ...]
    audit: bool = False
    audited: Denied | None = None
    fault: str = ""


Decision = Denied | Allowed | Inspect

NO_NAMES: frozenset[int] = frozenset()

NO_RULE = Denied(0, "no rule allows this peer and port")


def decide(
    policy: DirectionPolicy, identity: int, protocol: int, port: int, named: frozenset[int] = NO_NAMES
) -> Decision:
    """The say of `policy` on a peer of `identity` and a destination port.

    `named`: identities of the groups of names that have opened the peer's address to the endpoint, which count only
    for what is outside the cluster.
    """
    if not policy.enforced:
        return Allowed(0)
    matching = [rule for rule in policy.rules if covers(rule, identity, protocol, port, named)]
    denied, audited = _denied(matching, audit=False), _denied(matching, audit=True)
    if denied is not None:
        return denied
    allowing = [rule for rule in matching if not rule.deny]
    if not allowing:
        return Allowed(0, audited or NO_RULE) if policy.audit else NO_RULE
    plain = [rule.origin.id for rule in allowing if rule.l7 is None]
    if plain:
        return Allowed(min(plain), audited)
    return _inspect(allowing, policy.audit, audited)


def only_by_names(
    policy: DirectionPolicy, identity: int, protocol: int, port: int, named: frozenset[int], kind: L7Kind
) -> frozenset[FqdnPeer] | None:
    """Through which names alone rules of a kind let the peer be reached; None if one does so without names, too."""
    covering = [rule for rule in policy.rules if not rule.deny and covers(rule, identity, protocol, port, named)]
    allowing = [rule for rule in covering if rule.l7 and kind_of(rule.l7[0]) is kind]
    groups = [rule.names for rule in allowing if rule.names is not None and not covers_peer(rule, identity)]
    if len(groups) < len(allowing):
        return None
    return frozenset[FqdnPeer]().union(*(group.selectors for group in groups))


def covers(rule: Rule, identity: int, protocol: int, port: int, named: frozenset[int] = NO_NAMES) -> bool:
    """Is the rule about this peer and port?"""
    return covers_peer(rule, identity, named) and covers_port(rule, protocol, port)


def covers_peer(rule: Rule, identity: int, named: frozenset[int] = NO_NAMES) -> bool:
    if rule.identities is None or identity in rule.identities:
        return True
    return rule.names is not None and rule.names.identity in named and is_outside(identity)


def covers_port(rule: Rule, protocol: int, port: int) -> bool:
    return rule.ports is None or any(
        ports.protocol in (Protocol.ANY, protocol) and ports.first <= port <= ports.last for ports in rule.ports
    )


def _denied(rules: Iterable[Rule], *, audit: bool) -> Denied | None:
    origins = [rule.origin.id for rule in rules if rule.deny and rule.audit is audit]
    return Denied(min(origins), "a deny rule matches") if origins else None


def _inspect(rules: list[Rule], audit: bool, audited: Denied | None) -> Inspect:
    by_kind: dict[L7Kind, list[Rule]] = {}
    for rule in rules:
        if rule.l7:
            by_kind.setdefault(kind_of(rule.l7[0]), []).append(rule)
    kinds = [kind for kind in PRECEDENCE if kind in by_kind]
    chosen = kinds[0]
    fault = ""
    for other in kinds[1:]:
        if {rule.identities for rule in by_kind[chosen]} & {rule.identities for rule in by_kind[other]}:
            fault = f"{chosen.name} and {other.name} rules for the same peers and port exclude each other"
    found = () if fault else tuple((item, rule.origin.id) for rule in by_kind[chosen] for item in rule.l7 or ())
    return Inspect(chosen, tuple(dict.fromkeys(found)), audit, audited, fault)
