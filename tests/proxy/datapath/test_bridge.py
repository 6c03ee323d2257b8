"""Pods on a bridge: frames go from port to port, past the node's routing, and are judged and inspected all the same."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from config.policy.resolved import DirectionPolicy, Endpoint, EndpointPolicy, Snapshot
from proxy.datapath import Datapath
from tests.bpf.servers import SEEN_BY_PROXY, TransparentProxy, ask, dial, echo_server
from tests.bpf.topology import Namespace, Topology, run
from tests.proxy.datapath.scene import INGRESS_OF_B, INSPECTED, OPEN, PLAIN, REFUSED, refused, snapshot

pytestmark = pytest.mark.lab

ADDRESSES = {"c": ("10.88.0.2", "fd88::2"), "d": ("10.88.0.3", "fd88::3")}
ID_C, ID_D = 2001, 2002


@pytest.fixture(scope="module")
def pods(net: Topology) -> Iterator[dict[str, Namespace]]:
    """c and d, ports of one bridge of the node, in one subnet."""
    made = {name: Namespace(f"psbr{os.getpid()}-{name}") for name in ADDRESSES}
    net.node.ip("link", "add", "br0", "type", "bridge")
    net.node.ip("addr", "add", "10.88.0.1/24", "dev", "br0")
    net.node.ip("addr", "add", "fd88::1/64", "dev", "br0", "nodad")
    net.node.ip("link", "set", "br0", "up")
    try:
        for name, namespace in made.items():
            run("ip", "netns", "add", namespace.name)
            port = f"v{name}"
            net.node.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace.name)
            net.node.ip("link", "set", port, "master", "br0", "up")
            v4, v6 = ADDRESSES[name]
            namespace.ip("addr", "add", f"{v4}/24", "dev", "eth0")
            namespace.ip("addr", "add", f"{v6}/64", "dev", "eth0", "nodad")
            namespace.ip("link", "set", "eth0", "up")
            namespace.ip("route", "add", "default", "via", "10.88.0.1")
            namespace.ip("-6", "route", "add", "default", "via", "fd88::1")
        yield made
    finally:
        for namespace in made.values():
            run("ip", "netns", "del", namespace.name)
        net.node.ip("link", "del", "br0")


def bridged(ingress_of_d: DirectionPolicy = INGRESS_OF_B) -> Snapshot:
    base = snapshot(revision=2)
    numbers = {"c": (3, ID_C), "d": (4, ID_D)}
    own = {
        number: Endpoint(
            number, "test", name, frozenset(), identity, tuple(map(ip_address, ADDRESSES[name])), interface=f"v{name}"
        )
        for name, (number, identity) in numbers.items()
    }
    prefixes = {ip_network(address): one.identity for one in own.values() for address in one.addresses}
    policies = {3: EndpointPolicy(OPEN, OPEN), 4: EndpointPolicy(ingress_of_d, OPEN)}
    return dataclasses.replace(
        base,
        endpoints={**base.endpoints, **own},
        policies={**base.policies, **policies},
        ipcache={**base.ipcache, **prefixes},
    )


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", ["c", "a"])
def test_a_pod_behind_a_bridge(
    net: Topology, pods: dict[str, Namespace], datapath: Datapath, proxy: TransparentProxy, client: str, version: int
) -> None:
    datapath.sync(bridged())
    server = ADDRESSES["d"][version == 6]
    where = pods["c"] if client == "c" else net.a
    own = ADDRESSES["c"][version == 6] if client == "c" else net.address("a", version)
    with (
        echo_server(pods["d"], version, INSPECTED),
        echo_server(pods["d"], version, PLAIN),
        echo_server(pods["d"], version, REFUSED),
    ):
        with dial(where, server, PLAIN) as connection:
            assert ask(connection, b"hello") == f"{own}|hello".encode()
        with dial(where, server, INSPECTED) as connection:
            assert ask(connection, b"one") == f"{own}|".encode() + SEEN_BY_PROXY + b"one"
            assert ask(connection, b"two") == f"{own}|two".encode()
        assert refused(where, server, REFUSED)
    assert len(proxy.seen) == 1


def test_nobody_on_the_bridge_answers_for_another(pods: dict[str, Namespace], datapath: Datapath) -> None:
    """c takes d's address as its own: its ARP and its packets go nowhere."""
    datapath.sync(bridged())
    pods["c"].ip("addr", "add", "10.88.0.9/24", "dev", "eth0")
    try:
        with echo_server(pods["d"], 4, PLAIN):
            assert refused(pods["c"], ADDRESSES["d"][0], PLAIN, "10.88.0.9")
    finally:
        pods["c"].ip("addr", "del", "10.88.0.9/24", "dev", "eth0")
