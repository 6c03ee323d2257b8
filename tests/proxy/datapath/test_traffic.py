"""Verdicts on real connections: who reaches whom, through the proxy or past it, and what nobody may do."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import replace

import pytest

from config.policy.resolved import Direction, DirectionPolicy
from proxy.datapath import ConnectionFacts, Datapath, DropReason, Redirected
from tests.bpf import packets
from tests.bpf.servers import PATIENCE, REFUSAL, SEEN_BY_PROXY, TransparentProxy, ask, dial, echo_server
from tests.bpf.topology import Topology
from tests.proxy.datapath.scene import (
    HOST,
    ID_A,
    ID_B,
    INSPECTED,
    OUTSIDE_INSPECTED,
    PLAIN,
    REFUSED,
    WORLD,
    client_facts,
    drops,
    refused,
    rule,
    snapshot,
)

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", ["a", "outside", "node"])
def test_l7_goes_through_the_proxy_and_keeps_the_clients_address(
    net: Topology, proxy: TransparentProxy, client: str, version: int
) -> None:
    where, address, number, identity = client_facts(net, client, version)
    with echo_server(net.b, version, INSPECTED), dial(where, net.address("b", version), INSPECTED) as connection:
        assert ask(connection, b"one") == address.encode() + b"|" + SEEN_BY_PROXY + b"one"
        assert ask(connection, b"two") == address.encode() + b"|two"
    ((peer, facts),) = proxy.seen
    assert peer == address
    assert facts is not None
    assert replace(facts, ifindex=0) == ConnectionFacts(number, 2, identity, ID_B, Redirected.INGRESS, 0)


@pytest.mark.parametrize("version", [4, 6])
def test_l7_to_the_outside_goes_through_the_proxy(net: Topology, proxy: TransparentProxy, version: int) -> None:
    port = OUTSIDE_INSPECTED
    with echo_server(net.outside, version, port), dial(net.a, net.outside_address(version), port) as connection:
        assert ask(connection, b"hello") == f"{net.address('a', version)}|".encode() + SEEN_BY_PROXY + b"hello"
    ((_, facts),) = proxy.seen
    assert facts is not None
    assert replace(facts, ifindex=0) == ConnectionFacts(1, 0, ID_A, WORLD[version], Redirected.EGRESS, 0)


@pytest.mark.parametrize("version", [4, 6])
def test_l7_to_the_node_itself_goes_through_the_proxy(net: Topology, proxy: TransparentProxy, version: int) -> None:
    """The server is a process of the node, listening on any address: its socket must not be taken for the proxy's."""
    port = OUTSIDE_INSPECTED
    with echo_server(net.node, version, port), dial(net.a, net.node_address(version), port) as connection:
        assert ask(connection, b"hello") == f"{net.address('a', version)}|".encode() + SEEN_BY_PROXY + b"hello"
    ((_, facts),) = proxy.seen
    assert facts is not None
    assert replace(facts, ifindex=0) == ConnectionFacts(1, 0, ID_A, HOST, Redirected.EGRESS, 0)


def test_a_listener_of_the_node_gets_nothing_meant_for_the_proxy(net: Topology, datapath: Datapath) -> None:
    with echo_server(net.node, 4, INSPECTED), echo_server(net.b, 4, INSPECTED):
        assert refused(net.a, net.address("b", 4), INSPECTED)
        assert refused(net.outside, net.address("b", 4), INSPECTED)


def test_the_proxys_listener_can_not_be_reached_directly(net: Topology, proxy: TransparentProxy) -> None:
    port = proxy.listeners[0].getsockname()[1]
    net.a.ip("route", "add", "127.0.0.2/32", "via", "10.77.1.1")
    for address in (net.node_address(4), "10.77.1.1", "127.0.0.2"):
        with pytest.raises(OSError, match=r"refused|timed out|Invalid argument"):
            dial(net.a, address, port, REFUSAL)
    assert proxy.seen == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", ["a", "outside", "node"])
def test_l4_is_allowed_directly_and_denied_with_a_reason(
    net: Topology, datapath: Datapath, proxy: TransparentProxy, client: str, version: int
) -> None:
    where, address, _, identity = client_facts(net, client, version)
    server = net.address("b", version)
    with echo_server(net.b, version, PLAIN), echo_server(net.b, version, REFUSED):
        with dial(where, server, PLAIN) as connection:
            assert ask(connection, b"hello") == f"{address}|hello".encode()
        datapath.events.read()
        assert refused(where, server, REFUSED)
    assert proxy.seen == []
    dropped = drops(datapath)[0]
    assert (dropped.reason, dropped.direction) == (DropReason.POLICY_DENIED, Direction.INGRESS)
    assert (str(dropped.source), dropped.destination_port) == (address, REFUSED)
    assert (dropped.source_identity, dropped.destination_identity) == (identity, ID_B)


@pytest.mark.parametrize("version", [4, 6])
def test_a_big_transfer_passes_both_ways_through_the_bounce(
    net: Topology, proxy: TransparentProxy, version: int
) -> None:
    """Segmentation offload included: frames larger than the MTU cross the bounce device."""
    payload = os.urandom(8 << 20)
    with net.b.enter():
        server = socket.create_server((net.address("b", version), INSPECTED), family=_family(version))
    with server, dial(net.outside, net.address("b", version), INSPECTED) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            expected = SEEN_BY_PROXY + payload
            assert _transfer(client, accepted, payload, len(expected)) == expected
            assert _transfer(accepted, client, payload, len(payload)) == payload


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _transfer(source: socket.socket, sink: socket.socket, payload: bytes, length: int) -> bytes:
    sender = threading.Thread(target=source.sendall, args=(payload,))
    sender.start()
    received = bytearray()
    while len(received) < length and (piece := sink.recv(1 << 20)):
        received += piece
    sender.join()
    return bytes(received)


@pytest.mark.parametrize("version", [4, 6])
def test_another_pods_address_is_dropped(net: Topology, datapath: Datapath, version: int) -> None:
    claimed = "10.77.9.9" if version == 4 else "fd77:9::9"
    claim = (claimed + "/32",) if version == 4 else (claimed + "/128", "nodad")
    net.a.ip("addr", "add", claim[0], "dev", "eth0", *claim[1:])
    try:
        with echo_server(net.b, version, PLAIN):
            datapath.events.read()
            assert refused(net.a, net.address("b", version), PLAIN, claimed)
            reasons = {event.reason for event in drops(datapath) if str(event.source) == claimed}
            assert reasons == {DropReason.INVALID_SOURCE_IP}
    finally:
        net.a.ip("addr", "del", claim[0], "dev", "eth0")


def test_a_withdrawn_permission_ends_a_live_connection(net: Topology, datapath: Datapath) -> None:
    with echo_server(net.b, 4, PLAIN), dial(net.a, net.address("b", 4), PLAIN, REFUSAL) as connection:
        assert ask(connection, b"before")
        datapath.sync(snapshot(ingress_of_b=DirectionPolicy(True), revision=2))
        datapath.events.read()
        with pytest.raises(ConnectionResetError):
            ask(connection, b"after")
    assert {event.reason for event in drops(datapath)} == {DropReason.POLICY_DENIED}


def test_a_new_permission_is_in_force_when_sync_returns(net: Topology, datapath: Datapath) -> None:
    with echo_server(net.b, 4, REFUSED):
        assert refused(net.a, net.address("b", 4), REFUSED)
        datapath.sync(snapshot(DirectionPolicy(True, (rule(9, REFUSED),)), revision=2))
        with dial(net.a, net.address("b", 4), REFUSED) as connection:
            assert ask(connection, b"hello").endswith(b"|hello")


def test_what_a_policy_that_is_tried_out_refuses_passes_and_is_told(net: Topology, datapath: Datapath) -> None:
    tried = replace(rule(8, PLAIN), deny=True, audit=True)
    datapath.sync(snapshot(DirectionPolicy(True, (rule(2, PLAIN), tried), audit=True), revision=2))
    datapath.events.read()
    for port in (PLAIN, REFUSED):
        with echo_server(net.b, 4, port), dial(net.a, net.address("b", 4), port) as connection:
            assert ask(connection, b"hello").endswith(b"|hello")
    events = {event.destination_port: event for event in datapath.events.read() if event.audited}
    reasons = {port: (event.reason, event.direction, event.rules[Direction.INGRESS]) for port, event in events.items()}
    assert reasons == {
        PLAIN: (DropReason.POLICY_DENY, Direction.INGRESS, 8),
        REFUSED: (DropReason.POLICY_DENIED, Direction.INGRESS, 0),
    }


@pytest.mark.parametrize("client", ["a", "outside"])
def test_without_a_proxy_l7_ports_are_closed_and_l4_goes_on(
    net: Topology, datapath: Datapath, proxy: TransparentProxy, client: str
) -> None:
    where, *_ = client_facts(net, client, 4)
    server = net.address("b", 4)
    with echo_server(net.b, 4, INSPECTED), echo_server(net.b, 4, PLAIN):
        live = dial(where, server, INSPECTED, REFUSAL)
        with live, dial(where, server, PLAIN) as plain:
            assert SEEN_BY_PROXY in ask(live, b"before")
            proxy.kill()
            datapath.events.read()
            assert refused(where, server, INSPECTED)
            with contextlib.suppress(TimeoutError, ConnectionError):
                assert ask(live, b"after") == b"", "nothing is answered past the proxy"
            assert ask(plain, b"still here").endswith(b"|still here")
    assert DropReason.SOCKET_LOOKUP_FAILED in {event.reason for event in drops(datapath)}


@pytest.mark.parametrize("ethertypes", [(0x8100, 5, 0x0800), (0x88A8, 5, 0x8100, 6, 0x0800), (0x88CC,)])
def test_tagged_frames_and_those_of_other_protocols_are_dropped(
    net: Topology, datapath: Datapath, ethertypes: tuple[int, ...]
) -> None:
    """The kernel takes the tag off before the programs see the frame, but not the fact."""
    frame = packets.tcp(net.address("a", 4), 1000, net.address("b", 4), PLAIN)
    tagged = b"\xff" * 6 + frame[6:12] + b"".join(word.to_bytes(2, "big") for word in ethertypes) + frame[14:]
    with net.a.enter():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender:
        sender.bind(("eth0", 0))
        datapath.events.read()
        sender.send(tagged)
    deadline = time.monotonic() + PATIENCE
    while not (found := [event for event in drops(datapath) if event.source is None]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert {event.reason for event in found} == {DropReason.UNSUPPORTED_L3_PROTOCOL}
