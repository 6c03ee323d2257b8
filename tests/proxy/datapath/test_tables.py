"""Snapshot → tables, without a kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf.tables import EndpointFlag, Row, RowVerdict
from config.policy.resolved import (
    Address,
    ContainerPort,
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    Snapshot,
)
from proxy.datapath import StateBuilder, desired_state, probe
from tests.proxy.datapath.scene import HOST, PLAIN, rule, snapshot


def test_local_endpoints_and_all_prefixes_reach_the_tables() -> None:
    remote = Endpoint(3, "test", "c", frozenset(), 1003, (ip_address("10.78.0.1"),), ports=(ContainerPort("x", 1),))
    wanted = snapshot()
    wanted = replace(
        wanted, endpoints={**wanted.endpoints, 3: remote}, ipcache={**wanted.ipcache, ip_network("10.78.0.1/32"): 1003}
    )
    state = desired_state(wanted, {1: 7}, [ip_address("10.77.1.1")])
    assert {str(address): one.id for address, one in state.endpoints.items()} == {
        "10.77.1.2": 1,
        "fd77:1::2": 1,
        "10.77.2.2": 2,
        "fd77:2::2": 2,
    }
    assert state.endpoints[ip_address("10.77.1.2")].ifindex == 7
    assert state.endpoints[ip_address("10.77.2.2")].ifindex == 0
    assert state.endpoints[ip_address("10.77.2.2")].flags == EndpointFlag.ENFORCE_INGRESS
    assert state.ipcache[ip_network("10.78.0.1/32")] == 1003


def test_the_nodes_own_address_is_the_host_even_if_a_rule_names_it() -> None:
    node = ip_network("10.77.1.1/32")
    wanted = replace(snapshot(), ipcache={node: 1 << 24})
    assert desired_state(wanted, {}, [ip_address("10.77.1.1")]).ipcache[node] == HOST


def test_an_endpoint_without_a_policy_is_closed() -> None:
    wanted = replace(snapshot(), policies={})
    one = desired_state(wanted, {}, []).endpoints[ip_address("10.77.1.2")]
    assert one.flags == EndpointFlag.ENFORCE_INGRESS | EndpointFlag.ENFORCE_EGRESS
    assert one.policy == {}


@pytest.mark.parametrize("direction", list(Direction))
def test_a_direction_that_is_only_tried_out_says_so(direction: Direction) -> None:
    enforced, tried = {
        Direction.INGRESS: (EndpointFlag.ENFORCE_INGRESS, EndpointFlag.TRY_INGRESS),
        Direction.EGRESS: (EndpointFlag.ENFORCE_EGRESS, EndpointFlag.TRY_EGRESS),
    }[direction]
    open_, section = DirectionPolicy(False, audit=True), DirectionPolicy(True, audit=True)
    policy = EndpointPolicy(open_, section) if direction is Direction.EGRESS else EndpointPolicy(section, open_)
    wanted = replace(snapshot(), policies={1: policy, 2: policy})
    assert desired_state(wanted, {}, []).endpoints[ip_address("10.77.1.2")].flags == enforced | tried


def test_a_deny_rule_that_is_only_tried_out_reaches_the_rows() -> None:
    tried = replace(rule(7, PLAIN), deny=True, audit=True)
    wanted = snapshot(DirectionPolicy(True, (rule(3), tried), audit=True))
    rows = desired_state(wanted, {}, []).endpoints[ip_address("10.77.2.2")].policy
    assert set(rows.values()) == {Row(RowVerdict.ALLOW, 3, 7), Row(RowVerdict.ALLOW, 3)}


SECTIONS = st.sampled_from([DirectionPolicy(False), DirectionPolicy(True), DirectionPolicy(True, (rule(1, PLAIN),))])
HOSTS = st.frozensets(st.sampled_from([ip_address("10.77.1.1"), ip_address("fd77:1::1")]))


@st.composite
def successions(draw: st.DrawFn) -> list[tuple[Snapshot, frozenset[Address]]]:
    """Snapshots and the node's addresses; of the one before some pieces stay, some are equal, some are others."""
    made = [(snapshot(), draw(HOSTS))]
    for revision in range(2, draw(st.integers(2, 6))):
        last, hosts = made[-1]
        policies, ipcache, endpoints = dict(last.policies), last.ipcache, last.endpoints
        for number in draw(st.sets(st.sampled_from([1, 2]))):
            policies[number] = draw(
                st.sampled_from([policies[3 - number], EndpointPolicy(draw(SECTIONS), draw(SECTIONS))])
            )
        if draw(st.booleans()):
            ipcache = {**ipcache, ip_network("10.77.1.1/32"): draw(st.integers(20, 21))}
        if draw(st.booleans()):
            endpoints = {**endpoints, 1: replace(endpoints[1], identity=draw(st.integers(20, 21)))}
        made.append((Snapshot(revision, endpoints, policies, ipcache), draw(st.just(hosts) | HOSTS)))
    return made


@given(successions())
def test_a_state_never_depends_on_the_last_one(snapshots: list[tuple[Snapshot, frozenset[Address]]]) -> None:
    builder = StateBuilder()
    for one, hosts in snapshots:
        assert builder.build(one, {1: 7}, hosts) == desired_state(one, {1: 7}, hosts)


def test_what_stays_the_same_object_does_so_in_the_state() -> None:
    builder = StateBuilder()
    at_a, at_b = ip_address("10.77.1.2"), ip_address("10.77.2.2")
    before, hosts = snapshot(), [ip_address("10.77.1.1")]
    first = builder.build(before, {}, hosts)
    others = {**before.policies, 2: EndpointPolicy(DirectionPolicy(True), DirectionPolicy(False))}
    second = builder.build(replace(before, revision=2, policies=others), {}, hosts)
    assert second.ipcache is first.ipcache
    assert second.endpoints[at_a].policy is first.endpoints[at_a].policy
    assert second.endpoints[at_b].policy is not first.endpoints[at_b].policy


def test_probe_names_what_is_there() -> None:
    features = {feature.name: feature for feature in probe()}
    assert {"kernel", "privileges", "libbpf", "eBPF object", "BPF file system"} <= set(features)
    assert all(feature.why for feature in features.values())
