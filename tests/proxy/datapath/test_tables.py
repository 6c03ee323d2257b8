"""Snapshot → tables, without a kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from bpf.tables import EndpointFlag
from config.policy.resolved import ContainerPort, Endpoint
from proxy.datapath import desired_state, probe
from tests.proxy.datapath.scene import HOST, snapshot


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


def test_probe_names_what_is_there() -> None:
    features = {feature.name: feature for feature in probe()}
    assert {"kernel", "privileges", "libbpf", "eBPF object", "BPF file system"} <= set(features)
    assert all(feature.why for feature in features.values())
