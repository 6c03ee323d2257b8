"""A resolver that follows changes always ends where one that sees the last state only begins."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from config.policy.references import References
from config.policy.resolve import Resolver, resolve
from config.policy.resolved import Direction, FqdnPeer, Network, Snapshot
from config.policy.rules import (
    CidrBlock,
    CidrGroup,
    Document,
    Entity,
    Entry,
    GroupPeer,
    Peer,
    PolicyRule,
    PortRule,
    PortSpec,
    Service,
    ServicePeer,
)
from config.policy.selectors import Operator, Selector, Term, equals, exists, selector
from config.settings import Settings
from tests.config.policy.builders import PODS, clusterwide, endpoints, load, policy

FILE = endpoints()
OTHER_FILE = endpoints(PODS.replace("id: foo", "id: baz"))

NETWORKS: list[Network] = [
    ip_network(text)
    for text in ("0.0.0.0/0", "10.0.0.0/8", "10.9.0.0/16", "10.9.0.1/32", "192.0.2.0/24", "2001:db8::/32", "::/0")
]
BLOCKS = st.builds(
    lambda network, excepts: CidrBlock(network, tuple(e for e in excepts if e.version == network.version)),
    st.sampled_from(NETWORKS),
    st.lists(st.sampled_from(NETWORKS), max_size=1),
)
SELECTORS = st.sampled_from(
    [
        Selector(),
        selector(equals("id", "foo")),
        selector(equals("id", "a")),
        selector(Term("any", "id", Operator.NOT_IN, ("foo",))),
        selector(exists("k8s:io.kubernetes.pod.namespace")),
        selector(equals("reserved:world", "")),
        selector(exists("cidr:10.0.0.0/8")),
    ]
)
PEERS: st.SearchStrategy[Peer] = st.one_of(
    BLOCKS,
    SELECTORS,
    st.sampled_from(list(Entity)),
    st.sampled_from([FqdnPeer("a.example"), FqdnPeer(pattern="*.example"), FqdnPeer("b.example")]),
    st.sampled_from([GroupPeer("g"), GroupPeer("h", excepts=(NETWORKS[2],))]),
    st.sampled_from([ServicePeer("default", "s"), ServicePeer("", selector=Selector())]),
)
PORTS = st.sampled_from([None, (PortRule((PortSpec((6,), 80, 80), PortSpec((6,), name="http"))),)])


@st.composite
def documents(draw: st.DrawFn) -> list[Document]:
    return [
        Document("K", "", name, f"{name}.yaml", 1, tuple(draw(st.lists(rules(), max_size=2))))
        for name in draw(st.sets(st.sampled_from("abcd")))
    ]


@st.composite
def rules(draw: st.DrawFn) -> PolicyRule:
    entries = tuple(
        Entry(
            draw(st.sampled_from(Direction)),
            draw(st.booleans()),
            f"entry[{number}]",
            number,
            draw(st.none() | st.lists(PEERS, max_size=2).map(tuple)),
            draw(PORTS),
        )
        for number in range(draw(st.integers(0, 2)))
    )
    both = (draw(st.booleans()), draw(st.booleans()))
    return PolicyRule(draw(SELECTORS), entries, both, both, audit=draw(st.booleans()))


REFERENCES = st.builds(
    lambda networks, chosen: References(
        groups=tuple(CidrGroup(name, frozenset(), tuple(networks), "g.yaml", 1) for name in "gh"),
        services=(Service("default", "s", frozenset(), chosen, "s.yaml", 1),),
    ),
    st.lists(st.sampled_from(NETWORKS), max_size=3),
    SELECTORS,
)
STEPS = st.lists(st.tuples(documents(), st.sampled_from([FILE, FILE, FILE, OTHER_FILE]), REFERENCES), max_size=5)


@settings(max_examples=200)
@given(STEPS)
def test_the_way_does_not_matter(steps: Sequence[tuple[list[Document], object, References]]) -> None:
    resolver = Resolver(Settings())
    for known, file, references in steps:
        assert file in (FILE, OTHER_FILE)
        chosen = FILE if file is FILE else OTHER_FILE
        snapshot = resolver.update(known, chosen, references, 1)
        assert snapshot == resolve(known, chosen, Settings(), 1, references)


def documents_of(*texts: str) -> list[Document]:
    file = load(*texts)
    assert file.ok, file.findings
    return list(file.documents)


ABOUT_A = policy("endpointSelector: {matchLabels: {id: a}}\ningress: [{fromEndpoints: [{}]}]", name="about-a")
ABOUT_FOO = policy("endpointSelector: {matchLabels: {id: foo}}\negress: [{toCIDR: [10.0.0.0/8]}]", name="about-foo")
INSIDE = clusterwide("endpointSelector: {matchLabels: {id: bar}}\negress: [{toCIDR: [10.1.0.0/16]}]")


def follow(*states: list[Document]) -> list[Snapshot]:
    resolver = Resolver(Settings())
    return [resolver.update(state, FILE, References(), number) for number, state in enumerate(states, 1)]


def changed(before: Snapshot, after: Snapshot) -> set[str]:
    return {
        f"{before.endpoints[number].namespace}/{before.endpoints[number].name}"
        for number in before.policies
        if before.policies[number] is not after.policies[number]
    }


def test_what_a_change_does_not_concern_stays_the_same_object() -> None:
    first, second = documents_of(ABOUT_A, ABOUT_FOO), documents_of(ABOUT_A.replace("{}", "{matchLabels: {id: bar}}"))
    before, after = follow(first, [second[0], first[1]])
    assert changed(before, after) == {"default/a"}
    assert before.ipcache is after.ipcache
    assert before.endpoints is after.endpoints
    assert before.identities is after.identities


def test_a_new_prefix_concerns_the_rules_that_cover_it() -> None:
    first = documents_of(ABOUT_A, ABOUT_FOO)
    before, after = follow(first, [*first, *documents_of(INSIDE)])
    assert changed(before, after) == {"default/foo", "default/bar"}
    inside = after.ipcache[ip_network("10.1.0.0/16")]
    (foo,) = (item.id for item in after.endpoints.values() if (item.namespace, item.name) == ("default", "foo"))
    assert inside in (after.policies[foo].egress.rules[0].identities or ())
