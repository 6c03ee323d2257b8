"""Groups of names: their identities, whom they make peers of rules, and what they say of connections."""

from __future__ import annotations

import pytest

from config.identity import FIRST_NAMED, LAST_NAMED, is_outside
from config.policy.decide import Allowed, Denied, Inspect, decide, only_by_names
from config.policy.name_groups import MAX_TOLD, NameGroups, name_matcher
from config.policy.references import References
from config.policy.resolve import Resolver
from config.policy.resolved import DirectionPolicy, FqdnPeer, L7Kind, Snapshot
from config.settings import Settings
from tests.config.policy.builders import endpoints, load, policy, world

A = "endpointSelector: {matchLabels: {id: a}}\n"
WORLD, POD, TCP = 9, 300, 6


def egress(*entries: str) -> DirectionPolicy:
    listed = "\n".join(f"- {entry}" for entry in entries)
    return world(policy(f"{A}egress:\n{listed}\n")).policy("a").egress


def to(names: str, ports: str = "") -> str:
    """`names`: selectors between semicolons."""
    listed = ", ".join(f"{{{name}}}" for name in names.split("; "))
    return f"{{toFQDNs: [{listed}]{ports}}}"


def port(number: int, rules: str = "") -> str:
    return f', toPorts: [{{ports: [{{port: "{number}", protocol: TCP}}]{rules}}}]'


STRIPE, GLOB = "matchName: api.stripe.example", "matchPattern: '*.stripe.example'"


def section(*entries: tuple[str, str]) -> DirectionPolicy:
    return egress(*(to(names, ports) for names, ports in entries))


def named_of(snapshot: Snapshot) -> tuple[int, ...]:
    return tuple(sorted(number for number in snapshot.identities if FIRST_NAMED <= number <= LAST_NAMED))


def test_each_entry_is_a_group() -> None:
    found = section((STRIPE, port(443)), (f"{STRIPE}; {GLOB}", port(80)))
    matcher = name_matcher(found)
    first, second = (rule.names for rule in found.rules)
    assert first is not None
    assert second is not None
    assert first.selectors == {FqdnPeer("api.stripe.example")}
    assert matcher.groups("api.stripe.example") == tuple(sorted((first.identity, second.identity)))
    assert matcher.groups("b.stripe.example") == (second.identity,)
    assert matcher.groups("stripe.example") == ()
    assert matcher.all == {first.identity, second.identity}
    assert all(FIRST_NAMED <= number <= LAST_NAMED and not is_outside(number) for number in matcher.all)


def test_equal_entries_share_a_group_and_a_matcher() -> None:
    found = section((STRIPE, port(443)), (STRIPE, port(80)))
    assert len(name_matcher(found).all) == 1
    assert name_matcher(found) is name_matcher(section((STRIPE, port(443)), (STRIPE, port(8080))))


@pytest.mark.parametrize(
    ("identity", "number", "opened", "expected"),
    [
        (WORLD, 443, True, Allowed),
        (WORLD, 443, False, Denied),
        (WORLD, 80, True, Denied),
        # A pod that a server gives a name stays a pod.
        (POD, 443, True, Denied),
    ],
)
def test_who_may_be_reached(identity: int, number: int, opened: bool, expected: type) -> None:
    found = section((STRIPE, port(443)))
    named = frozenset(name_matcher(found).groups("api.stripe.example")) if opened else frozenset[int]()
    assert isinstance(decide(found, identity, TCP, number, named), expected)


def test_through_which_names() -> None:
    http = ", rules: {http: [{method: GET}]}"
    found = section((STRIPE, port(80, http)), (GLOB, port(80, http)))
    named = name_matcher(found).all
    assert isinstance(decide(found, WORLD, TCP, 80, named), Inspect)
    both = frozenset({FqdnPeer("api.stripe.example"), FqdnPeer(pattern="*.stripe.example")})
    assert only_by_names(found, WORLD, TCP, 80, named, L7Kind.HTTP) == both
    one = frozenset(name_matcher(found).groups("b.stripe.example"))
    assert only_by_names(found, WORLD, TCP, 80, one, L7Kind.HTTP) == frozenset({FqdnPeer(pattern="*.stripe.example")})


def test_names_do_not_matter_where_the_address_is_allowed_anyway() -> None:
    http = ", rules: {http: [{method: GET}]}"
    plain = f"{{toEntities: [world]{port(80, http)}}}"
    found = egress(to(STRIPE, port(80, http)), plain)
    assert only_by_names(found, WORLD, TCP, 80, name_matcher(found).all, L7Kind.HTTP) is None


def test_rules_for_another_protocol_do_not_matter() -> None:
    sni = ', toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: [api.stripe.example]}]'
    http = port(443, ", rules: {http: [{method: GET}]}")
    found = egress(to(STRIPE, sni), f"{{toCIDR: [0.0.0.0/0]{http}}}")
    named = name_matcher(found).all
    assert only_by_names(found, WORLD, TCP, 443, named, L7Kind.TLS) == frozenset({FqdnPeer("api.stripe.example")})
    assert only_by_names(found, WORLD, TCP, 443, named, L7Kind.HTTP) is None


def test_identities_come_and_go_with_their_documents() -> None:
    resolver, pods = Resolver(Settings()), endpoints()
    texts = [policy(f"{A}egress: [{to(STRIPE, port(443))}]", name=name) for name in "pq"]
    both, one, none = (
        resolver.update(load(*chosen).documents, pods, References(), number)
        for number, chosen in enumerate((texts, texts[:1], ()), 1)
    )
    named = [set(named_of(found)) for found in (both, one, none)]
    assert named[0] == named[1]
    assert len(named[0]) == 1
    assert named[2] == set()
    assert both.identities[next(iter(named[0]))] == {"reserved:world=", "fqdn:api.stripe.example="}


def test_numbers_that_collide_move() -> None:
    groups = NameGroups()
    many = [frozenset((FqdnPeer(f"n{number}.example"),)) for number in range(20000)]
    moved = groups.update(many, ())
    assert moved == set()
    numbers = {groups.group(selectors).identity for selectors in many}
    assert len(numbers) == len(many)
    again = NameGroups()
    for start in range(0, len(many), 5000):
        again.update(many[start : start + 5000], ())
    assert {again.group(selectors).identity for selectors in many} == numbers


def test_labels_tell_only_so_many_selectors() -> None:
    groups = NameGroups()
    groups.update([frozenset(FqdnPeer(f"n{number}.example") for number in range(100))], ())
    (labels,) = groups.labels.values()
    assert len(labels) == MAX_TOLD + 1


def test_selections_show_the_groups_of_a_name() -> None:
    resolver = Resolver(Settings())
    documents = load(policy(f"{A}egress: [{to(STRIPE, port(443))}]")).documents
    snapshot = resolver.update(documents, endpoints(), References(), 1)
    (selection,) = (item for item in resolver.selections() if item.selector == "name api.stripe.example")
    assert selection.identities == tuple(
        number for number in snapshot.identities if number >= FIRST_NAMED and number <= LAST_NAMED
    )
