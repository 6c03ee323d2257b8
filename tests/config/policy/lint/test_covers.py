"""What covers what; and never more than the endpoints themselves would say."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.policy.lint.covers import PeerTable, PortTable, SelectorTable, selector_covers, term_covers
from config.policy.resolved import FqdnPeer
from config.policy.rules import CidrBlock, Entity, Peer, PortSpec
from config.policy.selectors import Operator, Selector, Term, equals, exists, satisfies, selector

IN, NOT_IN, EXISTS, NONE = Operator

POD = selector(equals("app", "a"), equals("k8s:io.kubernetes.pod.namespace", "x"))


@pytest.mark.parametrize(
    ("outer", "inner", "covers"),
    [
        (Term("any", "k", IN, ("a", "b")), Term("any", "k", IN, ("a",)), True),
        (Term("any", "k", IN, ("a",)), Term("any", "k", IN, ("a", "b")), False),
        (Term("any", "k", IN, ("a",)), Term("k8s", "k", IN, ("a",)), True),
        (Term("k8s", "k", IN, ("a",)), Term("any", "k", IN, ("a",)), False),
        (Term("any", "k", EXISTS), Term("any", "k", IN, ("a",)), True),
        (Term("any", "k", IN, ("a",)), Term("any", "k", EXISTS), False),
        (Term("any", "k", NOT_IN, ("a",)), Term("any", "k", NOT_IN, ("a", "b")), True),
        (Term("any", "k", NOT_IN, ("a", "b")), Term("any", "k", NOT_IN, ("a",)), False),
        (Term("any", "k", NOT_IN, ("a",)), Term("any", "k", NONE), True),
        (Term("k8s", "k", NOT_IN, ("a",)), Term("any", "k", NOT_IN, ("a",)), True),
        (Term("any", "k", NOT_IN, ("a",)), Term("k8s", "k", NOT_IN, ("a",)), False),
        (Term("any", "k", NONE), Term("any", "k", NOT_IN, ("a",)), False),
        (Term("any", "k", EXISTS), Term("any", "j", EXISTS), False),
    ],
)
def test_terms(outer: Term, inner: Term, covers: bool) -> None:
    assert term_covers(outer, inner) is covers


_TERMS = st.builds(
    lambda source, key, operator, values: Term(
        source, key, operator, tuple(sorted(values)) if operator in (IN, NOT_IN) else ()
    ),
    st.sampled_from(["any", "k8s"]),
    st.sampled_from("jk"),
    st.sampled_from(Operator),
    st.sets(st.sampled_from("abc"), min_size=1),
)
_SELECTORS = st.lists(_TERMS, max_size=3).map(lambda terms: selector(*terms))
_LABELS = st.sets(st.tuples(st.sampled_from(["k8s", "reserved"]), st.sampled_from("jk"), st.sampled_from("abc")))


@given(_SELECTORS, _SELECTORS, _LABELS)
def test_what_is_covered_is_selected(outer: Selector, inner: Selector, labels: set[tuple[str, str, str]]) -> None:
    if selector_covers(outer, inner) and satisfies(inner, labels):
        assert satisfies(outer, labels)


@given(st.lists(_SELECTORS, max_size=8), _SELECTORS)
def test_the_table_finds_all_that_cover(known: list[Selector], inner: Selector) -> None:
    table = SelectorTable()
    for item in known:
        table.add(item)
    assert set(table.covering(inner)) == {item for item in known if selector_covers(item, inner)}


@pytest.mark.parametrize(
    ("outer", "inner", "covers"),
    [
        (None, POD, True),
        (Entity.ALL, POD, True),
        (POD, None, False),
        (POD, POD, True),
        (selector(equals("app", "a")), POD, True),
        (selector(exists("other")), POD, False),
        (Entity.CLUSTER, POD, True),
        (Entity.CLUSTER, selector(equals("app", "a")), False),
        (Entity.CLUSTER, Entity.HOST, True),
        (Entity.CLUSTER, Entity.WORLD, False),
        (Entity.WORLD, Entity.WORLD_IPV6, True),
        (Entity.WORLD_IPV6, Entity.WORLD, False),
        (Entity.WORLD, CidrBlock(ip_network("10.0.0.0/8")), True),
        (Entity.WORLD_IPV4, CidrBlock(ip_network("10.0.0.0/8")), True),
        (Entity.WORLD_IPV6, CidrBlock(ip_network("10.0.0.0/8")), False),
        (CidrBlock(ip_network("10.0.0.0/8")), CidrBlock(ip_network("10.1.0.0/16")), True),
        (CidrBlock(ip_network("10.1.0.0/16")), CidrBlock(ip_network("10.0.0.0/8")), False),
        (
            CidrBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),
            CidrBlock(ip_network("10.1.0.0/16")),
            False,
        ),
        (CidrBlock(ip_network("10.0.0.0/8")), CidrBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)), True),
        (Entity.WORLD, FqdnPeer("a.example"), True),
        (FqdnPeer("a.example"), FqdnPeer("a.example"), True),
        (Entity.CLUSTER, FqdnPeer("a.example"), False),
    ],
)
def test_peers(outer: Peer | None, inner: Peer | None, covers: bool) -> None:
    table: PeerTable[str] = PeerTable()
    table.add(None if outer is None else (outer,), None, "x")
    assert [item for _, ports in table.covering(inner) for item in ports.covering(None)] == ["x"] * covers


def tcp(first: int, last: int | None = None) -> PortSpec:
    return PortSpec((6,), first, first if last is None else last)


ANY_80 = PortSpec((6, 17, 132), 80, 80)
HTTP = PortSpec((6,), name="http")


@pytest.mark.parametrize(
    ("known", "asked", "overlap", "covers"),
    [
        (None, tcp(80), True, True),
        (tcp(80), tcp(80), True, True),
        (tcp(80), PortSpec((17,), 80, 80), False, False),
        (tcp(80), ANY_80, True, False),
        (ANY_80, tcp(80), True, True),
        (ANY_80, ANY_80, True, True),
        (tcp(80), tcp(70, 90), True, False),
        (tcp(70, 90), tcp(80), True, True),
        (tcp(70, 90), tcp(80, 100), True, False),
        (tcp(70, 90), tcp(91, 100), False, False),
        (tcp(0, 65535), tcp(70, 90), True, True),
        (HTTP, HTTP, True, True),
        (HTTP, tcp(80), False, False),
        (tcp(0, 65535), HTTP, False, False),
        (None, HTTP, True, True),
    ],
)
def test_ports(known: PortSpec | None, asked: PortSpec, overlap: bool, covers: bool) -> None:
    table: PortTable[str] = PortTable()
    table.add(None if known is None else (known,), "x")
    assert bool(list(table.overlapping(asked))) is overlap
    assert bool(list(table.covering(asked))) is covers
