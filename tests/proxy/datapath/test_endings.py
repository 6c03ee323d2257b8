"""How connections end that are no longer allowed: at both ends, at the next packet, whoever sends it."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.policy.resolved import DirectionPolicy
from proxy.datapath import Datapath, Options, cleanup
from tests.bpf.servers import PATIENCE, REFUSAL, SEEN_BY_PROXY, TransparentProxy, ask, dial, echo_server
from tests.bpf.topology import Namespace, Topology
from tests.proxy.datapath.scene import INSPECTED, OUTSIDE_INSPECTED, PLAIN, client_facts, rule, snapshot

pytestmark = pytest.mark.lab

SHUT = DirectionPolicy(True)


@contextlib.contextmanager
def connected(client: Namespace, server: Namespace, address: str, port: int) -> Iterator[tuple[socket.socket, ...]]:
    """Both ends of a connection that has carried something each way."""
    with server.enter():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)
    with listener, dial(client, address, port) as one:
        other, _ = listener.accept()
        with other:
            other.settimeout(PATIENCE)
            one.sendall(b"x")
            assert other.recv(100).removeprefix(SEEN_BY_PROXY) == b"x"
            other.sendall(b"y")
            assert one.recv(100) == b"y"
            yield one, other


def is_reset(end: socket.socket) -> bool:
    try:
        return end.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", ["a", "outside", "node"])
@pytest.mark.parametrize("speaker", ["client", "server"])
def test_a_withdrawn_connection_ends_at_both_ends(
    net: Topology, datapath: Datapath, client: str, speaker: str, version: int
) -> None:
    where, _, _, _ = client_facts(net, client, version)
    with connected(where, net.b, net.address("b", version), PLAIN) as (one, other):
        datapath.sync(snapshot(ingress_of_b=SHUT, revision=2))
        (one if speaker == "client" else other).sendall(b"after" * 1000)
        assert is_reset(one)
        assert is_reset(other)


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_that_is_now_to_be_inspected_ends(net: Topology, datapath: Datapath, version: int) -> None:
    """The proxy never saw its beginning, and nothing else may carry it on."""
    with connected(net.a, net.b, net.address("b", version), PLAIN) as (one, other):
        datapath.sync(snapshot(DirectionPolicy(True, (rule(1, PLAIN, http=True),)), revision=2))
        one.sendall(b"after")
        assert is_reset(one)
        assert is_reset(other)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", ["a", "outside"])
def test_a_withdrawn_connection_of_the_proxy_ends_at_both_ends(
    net: Topology, datapath: Datapath, proxy: TransparentProxy, client: str, version: int
) -> None:
    where, _, _, _ = client_facts(net, client, version)
    with connected(where, net.b, net.address("b", version), INSPECTED) as (one, other):
        datapath.sync(snapshot(ingress_of_b=SHUT, revision=2))
        one.sendall(b"after")
        assert is_reset(one)
        # The proxy is told, too, and ends its leg.
        assert is_reset(other)


def test_a_connection_of_the_proxy_goes_on_when_nothing_is_to_be_inspected_any_more(
    net: Topology, datapath: Datapath, proxy: TransparentProxy
) -> None:
    with connected(net.a, net.b, net.address("b", 4), INSPECTED) as (one, other):
        datapath.sync(snapshot(DirectionPolicy(True, (rule(1, INSPECTED),)), revision=2))
        for word in (b"one", b"two"):
            one.sendall(word)
            assert other.recv(100) == word
            other.sendall(word)
            assert one.recv(100) == word


def test_a_refused_beginning_meets_silence(net: Topology, datapath: Datapath) -> None:
    datapath.sync(snapshot(ingress_of_b=SHUT, revision=2))
    with echo_server(net.b, 4, PLAIN), pytest.raises(TimeoutError):
        dial(net.a, net.address("b", 4), PLAIN, REFUSAL)


def test_to_the_outside(net: Topology, datapath: Datapath) -> None:
    with connected(net.a, net.outside, net.outside_address(4), PLAIN) as (one, other):
        datapath.sync(snapshot(egress_of_a=SHUT, revision=2))
        one.sendall(b"after")
        assert is_reset(one)
        assert is_reset(other)


def test_silence_is_a_setting(net: Topology, pin_dir: Path) -> None:
    with net.node.enter():
        opened = Datapath.open(pin_dir, Options(silent=True))
        try:
            opened.sync(snapshot())
            with connected(net.a, net.b, net.address("b", 4), PLAIN) as (one, other):
                opened.sync(snapshot(ingress_of_b=SHUT, revision=2))
                one.settimeout(REFUSAL)
                with pytest.raises(TimeoutError):
                    ask(one, b"after")
                other.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    other.recv(100)
        finally:
            opened.close()
            cleanup(pin_dir)


@pytest.mark.parametrize("version", [4, 6])
def test_a_closed_port_is_told_of(net: Topology, datapath: Datapath, version: int) -> None:
    """The ICMP error is no flow that a rule allows; it passes with the datagram it is about."""
    datapath.sync(snapshot(egress_of_a=DirectionPolicy(True, (rule(4),)), revision=2))
    with net.a.enter():
        client = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(PATIENCE)
        client.connect((net.outside_address(version), 9))
        client.send(b"anybody?")
        with pytest.raises(OSError, match="refused") as caught:
            client.recv(10)
        assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_in_pieces(net: Topology, datapath: Datapath, version: int) -> None:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with net.outside.enter():
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((net.outside_address(version), OUTSIDE_INSPECTED + 1))
    with net.a.enter():
        client = socket.socket(family, socket.SOCK_DGRAM)
    with server, client:
        for end in (server, client):
            end.settimeout(PATIENCE)
        client.connect(server.getsockname()[:2])
        payload = bytes(range(256)) * 40
        client.send(payload)
        data, peer = server.recvfrom(20000)
        assert data == payload
        server.sendto(payload, peer)
        assert client.recv(20000) == payload
