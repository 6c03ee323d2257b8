from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.identity import (
    FIRST_NODE,
    LAST_NODE,
    RESERVED_LABELS,
    Numbering,
    NumbersExhausted,
    Reserved,
    assign_nodes,
    assign_numbers,
    assign_pods,
)
from config.labels import node_labels
from config.policy.cidrs import CidrTable

NAMES = st.lists(st.text(min_size=1, max_size=4), max_size=30)


@given(NAMES.flatmap(lambda names: st.tuples(st.just(names), st.permutations(names))))
def test_numbers_do_not_depend_on_order(both: tuple[list[str], list[str]]) -> None:
    assert assign_numbers(both[0], 1, 40, "x") == assign_numbers(both[1], 1, 40, "x")


@given(NAMES)
def test_numbers_are_distinct_and_in_range(names: list[str]) -> None:
    numbers = assign_numbers(names, 10, 40, "x")
    assert len(set(numbers.values())) == len(set(names))
    assert all(10 <= number <= 40 for number in numbers.values())


def test_every_number_can_be_used_but_no_more() -> None:
    assert set(assign_numbers(map(str, range(5)), 1, 5, "x").values()) == {1, 2, 3, 4, 5}
    with pytest.raises(NumbersExhausted):
        assign_numbers(map(str, range(6)), 1, 5, "x")


def test_numbers_are_pinned() -> None:
    """They stand in the kernel's maps across restarts and upgrades."""
    assert assign_pods([frozenset(("k8s:app=x", "k8s:io.kubernetes.pod.namespace=web"))]) == {
        frozenset(("k8s:app=x", "k8s:io.kubernetes.pod.namespace=web")): 20419
    }
    assert CidrTable([ip_network("10.0.0.0/8")]).numbers == {ip_network("10.0.0.0/8"): 18260089}


def test_reserved_numbers() -> None:
    named = {next(iter(labels)): number for number, labels in RESERVED_LABELS.items()}
    assert named == {
        "reserved:host=": 1,
        "reserved:world=": 2,
        "reserved:unmanaged=": 3,
        "reserved:health=": 4,
        "reserved:init=": 5,
        "reserved:remote-node=": 6,
        "reserved:kube-apiserver=": 7,
        "reserved:ingress=": 8,
        "reserved:world-ipv4=": 9,
        "reserved:world-ipv6=": 10,
    }


_SOME = st.sets(st.integers(0, 30), max_size=8)


@given(st.lists(st.tuples(_SOME, _SOME), max_size=8))
def test_numbers_of_names_that_come_and_go(steps: list[tuple[set[int], set[int]]]) -> None:
    """Whatever the way to a set of names, each has the number it would have if all came at once."""
    numbering = Numbering(1, 40, "x")
    for added, removed in steps:
        before = dict(numbering.numbers)
        gone = {str(name) for name in removed} & before.keys()
        moved = numbering.update({str(name) for name in added} - gone, gone)
        assert numbering.numbers == assign_numbers(numbering.numbers, 1, 40, "x")
        stayed = before.keys() & numbering.numbers.keys()
        assert moved == {name for name in stayed if before[name] != numbering.numbers[name]}


def test_nodes_with_labels_have_identities_of_their_own() -> None:
    numbers = assign_nodes([node_labels({}), node_labels({"zone": "a"})])
    assert numbers[node_labels({})] == Reserved.REMOTE_NODE
    assert FIRST_NODE <= numbers[node_labels({"zone": "a"})] <= LAST_NODE
