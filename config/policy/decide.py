"""One direction of one connection: may it be, and do HTTP rules have a say?

Every rule that matches peer and port counts: deny wins; a plain allow allows every request, whatever HTTP rules stand
beside it; otherwise the HTTP rules are one list of alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from config.policy.http import HttpMatcher
from config.policy.resolved import DirectionPolicy, HttpRule, Protocol, Rule


@dataclass(frozen=True, slots=True)
class Denied:
    """`origin_id` of the deny rule, 0 for default deny."""

    origin_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """`origin_id` of the rule that allows, 0 where the direction is not enforced."""

    origin_id: int


@dataclass(frozen=True, slots=True)
class Http:
    matcher: HttpMatcher


Decision = Denied | Allowed | Http


def decide(policy: DirectionPolicy, identity: int, protocol: int, port: int) -> Decision:
    """The say of `policy` on a peer of `identity` and a destination port."""
    if not policy.enforced:
        return Allowed(0)
    matching = [rule for rule in policy.rules if _matches(rule, identity, protocol, port)]
    denying = [rule.origin.id for rule in matching if rule.deny]
    if denying:
        return Denied(min(denying), "a deny rule matches")
    plain = [rule.origin.id for rule in matching if rule.http is None]
    if plain:
        return Allowed(min(plain))
    if not matching:
        return Denied(0, "no rule allows this peer and port")
    return Http(_matcher(tuple((item, rule.origin.id) for rule in matching for item in rule.http or ())))


@lru_cache(maxsize=4096)
def _matcher(rules: tuple[tuple[HttpRule, int], ...]) -> HttpMatcher:
    return HttpMatcher(rules)


def _matches(rule: Rule, identity: int, protocol: int, port: int) -> bool:
    if rule.identities is not None and identity not in rule.identities:
        return False
    return rule.ports is None or any(
        ports.protocol in (Protocol.ANY, protocol) and ports.first <= port <= ports.last for ports in rule.ports
    )
