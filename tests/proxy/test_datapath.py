"""Snapshots in the kernel: real programs, real sockets, a node with two pods and an outside machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from bpf import bpffs
from bpf.attach import Hook
from bpf.loader import load
from bpf.netlink import Netlink, with_netlink
from bpf.tables import EndpointFlag
from config.policy.resolved import (
    ContainerPort,
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    HttpRule,
    Origin,
    PortRange,
    Protocol,
    Rule,
    Snapshot,
)
from proxy.datapath import (
    ConnectionFacts,
    Datapath,
    DropReason,
    EventType,
    LayoutMismatch,
    PacketEvent,
    PinError,
    Redirected,
    SyncReport,
    cleanup,
    desired_state,
    probe,
)
from tests.bpf.privileges import require_root
from tests.bpf.servers import PATIENCE, REFUSAL, SEEN_BY_PROXY, TransparentProxy, ask, dial, echo_server
from tests.bpf.topology import NET, Namespace, Topology, run, topology

ID_A, ID_B, HOST = 1001, 1002, 1
WORLD = {4: 9, 6: 10}
PLAIN, INSPECTED, REFUSED, OUTSIDE_INSPECTED = 81, 80, 82, 8080
OPEN = DirectionPolicy(enforced=False)


def rule(number: int, *ports: int, http: bool = False, identities: frozenset[int] | None = None) -> Rule:
    origin = Origin(number, "CiliumNetworkPolicy", "test", "policy", "ingress[0]")
    ranges = tuple(PortRange(Protocol.TCP, port, port) for port in ports) or None
    return Rule(origin, identities, ranges, http=(HttpRule(method="GET"),) if http else None)


INGRESS_OF_B = DirectionPolicy(True, (rule(1, INSPECTED, http=True), rule(2, PLAIN)))
EGRESS_OF_A = DirectionPolicy(True, (rule(3, OUTSIDE_INSPECTED, http=True), rule(4)))


def endpoint(number: int, pod: str, identity: int) -> Endpoint:
    addresses = (ip_address(f"10.77.{NET[pod]}.2"), ip_address(f"fd77:{NET[pod]}::2"))
    return Endpoint(number, "test", pod, frozenset(), identity, addresses, interface=f"v{pod}")


def snapshot(
    ingress_of_b: DirectionPolicy = INGRESS_OF_B, egress_of_a: DirectionPolicy = EGRESS_OF_A, revision: int = 1
) -> Snapshot:
    endpoints = {1: endpoint(1, "a", ID_A), 2: endpoint(2, "b", ID_B)}
    return Snapshot(
        revision,
        endpoints,
        {1: EndpointPolicy(OPEN, egress_of_a), 2: EndpointPolicy(ingress_of_b, OPEN)},
        {ip_network(address): one.identity for one in endpoints.values() for address in one.addresses},
    )


# -- without a kernel ----------------------------------------------------------------------------------------------


def test_local_endpoints_and_all_prefixes_reach_the_tables() -> None:
    remote = Endpoint(3, "test", "c", frozenset(), 1003, (ip_address("10.78.0.1"),), ports=(ContainerPort("x", 1),))
    wanted = snapshot()
    wanted = replace(
        wanted,
        endpoints={**wanted.endpoints, 3: remote},
        ipcache={**wanted.ipcache, ip_network("10.78.0.1/32"): 1003},
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


# -- in the lab ----------------------------------------------------------------------------------------------------

lab = pytest.mark.lab


@pytest.fixture(scope="module")
def net() -> Iterator[Topology]:
    require_root()
    with topology(f"psdp{os.getpid()}") as made:
        yield made


@pytest.fixture
def pin_dir() -> Path:
    return Path(f"/sys/fs/bpf/penstock-test-{os.getpid()}")


@pytest.fixture
def datapath(net: Topology, pin_dir: Path) -> Iterator[Datapath]:
    """In force in the node's namespace; the test's thread is there, too."""
    with net.node.enter():
        try:
            opened = Datapath.open(pin_dir)
            try:
                opened.sync(snapshot())
                yield opened
            finally:
                opened.close()
        finally:
            cleanup(pin_dir)


@pytest.fixture
def proxy(datapath: Datapath) -> Iterator[TransparentProxy]:
    made = TransparentProxy(datapath.connections_fd)
    datapath.set_listeners(made.slots())
    try:
        yield made
    finally:
        made.kill()


def refused(where: Namespace, address: str, port: int, source: str = "") -> bool:
    """True if nobody answers."""
    try:
        dial(where, address, port, REFUSAL, source).close()
    except TimeoutError:
        return True
    return False


def drops(datapath: Datapath) -> list[PacketEvent]:
    return [event for event in datapath.events.read() if event.type is EventType.DROP]


def client_facts(net: Topology, client: str, version: int) -> tuple[Namespace, str, int, int]:
    """Namespace, address, endpoint id and identity of a client."""
    match client:
        case "a":
            return net.a, net.address("a", version), 1, ID_A
        case "outside":
            return net.outside, net.outside_address(version), 0, WORLD[version]
        case _:
            # The node picks its address on b's link.
            return net.node, f"10.77.{NET['b']}.1" if version == 4 else f"fd77:{NET['b']}::1", 0, HOST


@lab
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


@lab
@pytest.mark.parametrize("version", [4, 6])
def test_l7_to_the_outside_goes_through_the_proxy(net: Topology, proxy: TransparentProxy, version: int) -> None:
    port = OUTSIDE_INSPECTED
    with echo_server(net.outside, version, port), dial(net.a, net.outside_address(version), port) as connection:
        assert ask(connection, b"hello") == f"{net.address('a', version)}|".encode() + SEEN_BY_PROXY + b"hello"
    ((_, facts),) = proxy.seen
    assert facts is not None
    assert replace(facts, ifindex=0) == ConnectionFacts(1, 0, ID_A, WORLD[version], Redirected.EGRESS, 0)


@lab
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


@lab
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


@lab
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


@lab
def test_a_withdrawn_permission_ends_a_live_connection(net: Topology, datapath: Datapath) -> None:
    with echo_server(net.b, 4, PLAIN), dial(net.a, net.address("b", 4), PLAIN, REFUSAL) as connection:
        assert ask(connection, b"before")
        datapath.sync(snapshot(ingress_of_b=DirectionPolicy(True), revision=2))
        datapath.events.read()
        with pytest.raises(TimeoutError):
            ask(connection, b"after")
    assert {event.reason for event in drops(datapath)} == {DropReason.POLICY_DENIED}


@lab
def test_a_new_permission_is_in_force_when_sync_returns(net: Topology, datapath: Datapath) -> None:
    with echo_server(net.b, 4, REFUSED):
        assert refused(net.a, net.address("b", 4), REFUSED)
        datapath.sync(snapshot(DirectionPolicy(True, (rule(9, REFUSED),)), revision=2))
        with dial(net.a, net.address("b", 4), REFUSED) as connection:
            assert ask(connection, b"hello").endswith(b"|hello")


@lab
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


@lab
def test_enforcing_goes_on_without_an_agent_and_a_new_one_adopts(net: Topology, pin_dir: Path) -> None:
    server = net.address("b", 4)
    with net.node.enter(), echo_server(net.b, 4, PLAIN), echo_server(net.b, 4, INSPECTED):
        try:
            first = Datapath.open(pin_dir)
            assert not first.adopted
            in_force = first.sync(snapshot())
            with dial(net.a, server, PLAIN) as live:
                assert ask(live, b"one")
                first.close()
                assert ask(live, b"two")
                assert refused(net.a, server, REFUSED)
                assert refused(net.a, server, INSPECTED)
                with Datapath.open(pin_dir) as second:
                    assert second.adopted
                    again = second.sync(snapshot())
                    assert not again.changes.any
                    assert again.changes.epoch == in_force.changes.epoch
                    assert ask(live, b"three")
                    proxy = TransparentProxy(second.connections_fd)
                    second.set_listeners(proxy.slots())
                    with dial(net.a, server, INSPECTED) as inspected:
                        assert SEEN_BY_PROXY in ask(inspected, b"hello")
                    proxy.kill()
        finally:
            cleanup(pin_dir)


@lab
def test_programs_are_replaced_under_traffic(net: Topology, datapath: Datapath, pin_dir: Path) -> None:
    with echo_server(net.b, 4, PLAIN), dial(net.a, net.address("b", 4), PLAIN) as live:
        for _ in range(3):
            with Datapath.open(pin_dir) as other:
                assert other.sync(snapshot()).attached == ("test/a", "test/b")
                assert ask(live, b"hello")
    assert datapath.status().drops == ()


@lab
def test_maps_of_another_layout_are_refused_and_left_in_force(net: Topology, datapath: Datapath, pin_dir: Path) -> None:
    before = sorted(path.name for path in (pin_dir / "maps").iterdir())
    (pin_dir / "maps" / "layout").unlink()
    with pytest.raises(LayoutMismatch, match="penstock cleanup"):
        Datapath.open(pin_dir)
    assert sorted(path.name for path in (pin_dir / "maps").iterdir()) == [n for n in before if n != "layout"]
    with echo_server(net.b, 4, REFUSED):
        assert refused(net.a, net.address("b", 4), REFUSED)


@lab
def test_pins_need_a_bpf_file_system(net: Topology, tmp_path: Path) -> None:
    with net.node.enter(), pytest.raises(PinError, match="mount -t bpf"):
        Datapath.open(tmp_path / "pins")
    assert not bpffs.is_bpffs(tmp_path)


def _sync_with_b_at(datapath: Datapath, interface: str = "", netns: str = "") -> SyncReport:
    wanted = snapshot()
    moved = replace(wanted.endpoints[2], interface=interface, netns=netns)
    return datapath.sync(replace(wanted, endpoints={**wanted.endpoints, 2: moved}))


@lab
def test_an_endpoint_is_found_by_its_namespace(net: Topology, datapath: Datapath) -> None:
    by_name = datapath.status().interfaces
    report = _sync_with_b_at(datapath, netns=str(net.b.path))
    assert report.pending == {}
    assert datapath.status().interfaces == by_name


@lab
@pytest.mark.parametrize(
    ("where", "why"),
    [
        ({"netns": "/run/netns/nobody"}, "No such file"),
        ({"interface": "nothere"}, "no interface nothere"),
        ({"interface": "va"}, "already belongs to endpoint 1"),
    ],
)
def test_a_missing_interface_is_pending_and_nothing_else_suffers(
    net: Topology, datapath: Datapath, where: dict[str, str], why: str
) -> None:
    report = _sync_with_b_at(datapath, **where)
    assert list(report.pending) == [2]
    assert why in report.pending[2]
    assert set(datapath.status().interfaces.values()) == {1}
    assert datapath.interfaces_changed(snapshot())
    assert datapath.sync(snapshot()).attached == ("test/b",)
    assert not datapath.interfaces_changed(snapshot())


@lab
def test_an_interface_made_anew_under_the_same_name_is_followed(net: Topology, datapath: Datapath) -> None:
    with topology(f"psre{os.getpid()}") as other, other.node.enter():
        datapath.sync(snapshot())
        other.node.ip("link", "del", "vb")
        assert datapath.interfaces_changed(snapshot())
        assert list(datapath.sync(snapshot()).pending) == [2]
        other.node.ip("link", "add", "vb", "type", "veth", "peer", "name", "eth0", "netns", other.b.name)
        assert datapath.interfaces_changed(snapshot())
        assert datapath.sync(snapshot()).attached == ("test/b",)


@lab
def test_what_is_no_longer_listed_is_let_go(net: Topology, datapath: Datapath) -> None:
    wanted = snapshot()
    report = datapath.sync(replace(wanted, endpoints={1: wanted.endpoints[1]}, policies={1: wanted.policies[1]}))
    assert len(report.detached) == 2
    assert run("tc", "qdisc", "show", "dev", "vb").count("clsact") == 0
    with echo_server(net.b, 4, REFUSED), dial(net.outside, net.address("b", 4), REFUSED) as connection:
        assert ask(connection, b"hello")


@lab
def test_filters_of_others_stay_and_still_see_packets(net: Topology, datapath: Datapath, pin_dir: Path) -> None:
    """The other filter here is one that drops everything without a certain mark."""
    with OtherProgram() as others, echo_server(net.b, 4, PLAIN):
        with_netlink(lambda ip: others.attach(ip, "va"))
        assert refused(net.a, net.address("b", 4), PLAIN)
        datapath.close()
        cleanup(pin_dir)
        assert refused(net.a, net.address("b", 4), PLAIN)
        left = run("tc", "filter", "show", "dev", "va", "ingress")
        assert "others" in left
        assert "penstock" not in left
        run("tc", "qdisc", "del", "dev", "va", "clsact")


class OtherProgram:
    """Somebody else's program: a drop-all."""

    def __enter__(self) -> OtherProgram:
        self._loaded = load(None)
        return self

    def __exit__(self, *_: object) -> None:
        self._loaded.close()

    def attach(self, ip: Netlink, name: str) -> None:
        index = ip.link_lookup(ifname=name)[0]
        where = {"parent": Hook.INGRESS.value, "prio": 77, "direct_action": True}
        ip.tc("add-filter", "bpf", index, 5, fd=self._loaded.programs["from_bounce"], name="others", **where)


def _traces() -> str:
    commands = (
        ("ip", "link"),
        ("ip", "rule"),
        ("ip", "-6", "rule"),
        ("ip", "route", "show", "table", "all"),
        ("ip", "-6", "route", "show", "table", "all"),
        ("tc", "qdisc", "show"),
        ("cat", "/proc/sys/net/ipv4/tcp_early_demux"),
    )
    return "\n".join(subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)


@lab
def test_cleanup_leaves_nothing_and_says_what_it_took(net: Topology, pin_dir: Path) -> None:
    with net.node.enter():
        before = _traces()
        with Datapath.open(pin_dir) as opened:
            opened.sync(snapshot())
            assert _traces() != before
        removed = cleanup(pin_dir)
        assert _traces() == before
        assert not pin_dir.exists()
        words = "\n".join(removed)
        for what in ("from_pod of va", "to_pod of vb", "penstock0", "IPv4 rule", "IPv6 rule", "early_demux", "pins"):
            assert what in words
        assert cleanup(pin_dir) == []


@lab
def test_the_saved_sysctl_survives_a_second_agent(net: Topology, pin_dir: Path) -> None:
    early_demux = Path("/proc/sys/net/ipv4/tcp_early_demux")
    with net.node.enter():
        before = early_demux.read_text()
        for _ in range(2):
            Datapath.open(pin_dir).close()
            assert early_demux.read_text() == "0\n"
        cleanup(pin_dir)
        assert early_demux.read_text() == before != "0\n"


@lab
def test_status_counts(net: Topology, datapath: Datapath, proxy: TransparentProxy) -> None:
    with echo_server(net.b, 4, PLAIN), dial(net.a, net.address("b", 4), PLAIN) as connection:
        ask(connection, b"hello")
        assert refused(net.a, net.address("b", 4), REFUSED)
    status = datapath.status()
    assert (status.revision, status.workers, status.pending) == (1, 1, {})
    assert all(packets > 0 for packets in status.forwarded)
    assert [(one.reason, one.direction) for one in status.drops] == [(DropReason.POLICY_DENIED, Direction.INGRESS)]
    assert status.entries["endpoints"] == 4
    assert status.events_lost == (0, 0)
