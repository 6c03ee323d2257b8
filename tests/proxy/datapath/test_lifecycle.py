"""Agents come, go and come back; interfaces too; nothing opens meanwhile and nothing is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
from ctypes import byref, c_uint32
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest

import proxy.datapath.kernel
from bpf import bpffs
from bpf.attach import Attachments, Hook
from bpf.libbpf import library
from bpf.loader import load, open_pinned
from bpf.netlink import Netlink, with_netlink
from config.policy.resolved import Direction, DirectionPolicy, EndpointPolicy
from proxy.datapath import Datapath, DropReason, LayoutMismatch, MapError, Options, PinError, SyncReport, cleanup
from tests.bpf.servers import SEEN_BY_PROXY, TransparentProxy, ask, dial, echo_server
from tests.bpf.topology import Topology, run, topology
from tests.proxy.datapath.scene import INSPECTED, PLAIN, REFUSED, refused, rule, snapshot

pytestmark = pytest.mark.lab


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


def test_programs_are_replaced_under_traffic(net: Topology, datapath: Datapath, pin_dir: Path) -> None:
    with echo_server(net.b, 4, PLAIN), dial(net.a, net.address("b", 4), PLAIN) as live:
        for _ in range(3):
            with Datapath.open(pin_dir) as other:
                assert other.sync(snapshot()).attached == ("test/a", "test/b")
                assert ask(live, b"hello")
    assert datapath.status().drops == ()


def test_maps_of_another_version_are_replaced_without_a_gap(net: Topology, pin_dir: Path) -> None:
    """What an older version left enforces until every interface has the new programs; then its maps are gone."""
    server = net.address("b", 4)
    with net.node.enter(), echo_server(net.b, 4, PLAIN), echo_server(net.b, 4, REFUSED):
        try:
            demux = Path("/proc/sys/net/ipv4/tcp_early_demux").read_text()
            first = Datapath.open(pin_dir)
            first.sync(snapshot())
            with dial(net.a, server, PLAIN) as live:
                assert ask(live, b"one")
                first.close()
                _write_layout(pin_dir, b"another version".ljust(32))
                with Datapath.open(pin_dir) as second:
                    assert not second.adopted
                    # Not in force yet: the old ones still are.
                    assert ask(live, b"two")
                    assert refused(net.a, server, REFUSED)
                    second.sync(snapshot())
                    assert ask(live, b"three")
                    assert refused(net.a, server, REFUSED)
                assert sorted(path.name for path in pin_dir.iterdir()) == ["links", "maps", "programs"]
                with Datapath.open(pin_dir) as third:
                    assert third.adopted
                    assert not third.sync(snapshot()).changes.any
                    assert ask(live, b"four")
        finally:
            cleanup(pin_dir)
        assert Path("/proc/sys/net/ipv4/tcp_early_demux").read_text() == demux


def _write_layout(pin_dir: Path, digest: bytes) -> None:
    fd = open_pinned(pin_dir / "maps" / "layout")
    assert fd is not None
    try:
        assert library().bpf_map_update_elem(fd, byref(c_uint32(0)), digest, 0) == 0
    finally:
        os.close(fd)


def test_a_start_that_can_not_fill_the_maps_closes(net: Topology, pin_dir: Path) -> None:
    """There is no room for what is wanted, and nothing was in force before: then nothing passes."""
    wanted = snapshot()
    prefixes = {ip_network(f"10.{number >> 8}.{number & 255}.0/24"): 5000 + number for number in range(2000)}
    crowded = replace(wanted, revision=2, ipcache={**wanted.ipcache, **prefixes})
    with net.node.enter(), echo_server(net.b, 4, PLAIN):
        try:
            with Datapath.open(pin_dir, Options(ipcache_entries=1024)) as opened:
                with pytest.raises(MapError, match="ipcache"):
                    opened.sync(crowded)
                assert refused(net.a, net.address("b", 4), PLAIN)
                assert refused(net.outside, net.address("b", 4), PLAIN)
                opened.sync(wanted)
                with dial(net.a, net.address("b", 4), PLAIN) as live:
                    assert ask(live, b"one")
                    # Later what is in force stays.
                    with pytest.raises(MapError, match="ipcache"):
                        opened.sync(replace(crowded, revision=3))
                    assert ask(live, b"two")
                    assert opened.measure()["ipcache"] > 0
        finally:
            cleanup(pin_dir)


def test_a_policy_with_too_many_rows_changes_nothing(net: Topology, pin_dir: Path) -> None:
    """Of its endpoint alone: what that had stays in force, and one that had nothing is closed."""
    large = DirectionPolicy(True, tuple(rule(100 + port, port) for port in range(5001, 5040, 2)))
    with net.node.enter(), echo_server(net.b, 4, PLAIN), echo_server(net.b, 4, REFUSED):
        for beginning in (True, False):
            try:
                with Datapath.open(pin_dir, Options(policy_entries=8)) as opened:
                    if not beginning:
                        assert opened.sync(snapshot()).oversized == {}
                    assert list(opened.sync(snapshot(ingress_of_b=large, revision=2)).oversized) == [2]
                    assert list(opened.status().oversized) == [2]
                    assert refused(net.a, net.address("b", 4), PLAIN) is beginning
                    assert refused(net.a, net.address("b", 4), REFUSED)
                    assert opened.sync(snapshot(revision=3)).oversized == {}
                    assert not refused(net.a, net.address("b", 4), PLAIN)
            finally:
                cleanup(pin_dir)


def test_what_is_sent_to_a_pod_under_no_address_of_its_own_is_judged_too(net: Topology, datapath: Datapath) -> None:
    """An address that the endpoints file does not know is on b's interface all the same."""
    net.b.ip("addr", "add", "10.77.2.9/24", "dev", "eth0")
    try:
        with net.b.enter():
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            receiver.bind(("10.77.2.9", 5000))
        with net.outside.enter():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.settimeout(1)
            sender.sendto(b"hello", ("10.77.2.9", 5000))
            with pytest.raises(TimeoutError):
                receiver.recv(100)
    finally:
        net.b.ip("addr", "del", "10.77.2.9/24", "dev", "eth0")


def test_maps_of_nobody_are_refused_and_left_in_force(net: Topology, datapath: Datapath, pin_dir: Path) -> None:
    before = sorted(path.name for path in (pin_dir / "maps").iterdir())
    (pin_dir / "maps" / "layout").unlink()
    with pytest.raises(LayoutMismatch, match="penstock cleanup"):
        Datapath.open(pin_dir)
    assert sorted(path.name for path in (pin_dir / "maps").iterdir()) == [n for n in before if n != "layout"]
    with echo_server(net.b, 4, REFUSED):
        assert refused(net.a, net.address("b", 4), REFUSED)


def test_pins_need_a_bpf_file_system(net: Topology, tmp_path: Path) -> None:
    with net.node.enter(), pytest.raises(PinError, match="mount -t bpf"):
        Datapath.open(tmp_path / "pins")
    assert not bpffs.is_bpffs(tmp_path)


def _sync_with_b_at(datapath: Datapath, interface: str = "", netns: str = "") -> SyncReport:
    wanted = snapshot()
    moved = replace(wanted.endpoints[2], interface=interface, netns=netns)
    return datapath.sync(replace(wanted, endpoints={**wanted.endpoints, 2: moved}))


def test_an_endpoint_is_found_by_its_namespace(net: Topology, datapath: Datapath) -> None:
    by_name = datapath.status().interfaces
    report = _sync_with_b_at(datapath, netns=str(net.b.path))
    assert report.pending == {}
    assert datapath.status().interfaces == by_name


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
    assert not datapath.interfaces_changed(snapshot()), "the short cut says the same"


def test_a_new_address_of_the_node_is_noticed_and_is_the_host(net: Topology, datapath: Datapath) -> None:
    assert not datapath.interfaces_changed(snapshot())
    for address in ("192.0.2.99/24", "2001:db8::99/64"):
        net.node.ip("addr", "add", address, "dev", "vo")
        try:
            assert datapath.interfaces_changed(snapshot())
            assert datapath.sync(snapshot()).changes.ipcache == 1
        finally:
            net.node.ip("addr", "del", address, "dev", "vo")
        assert datapath.sync(snapshot()).changes.ipcache == 1
        assert not datapath.interfaces_changed(snapshot())


def test_a_change_of_policy_alone_asks_netlink_nothing(
    net: Topology, datapath: Datapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = snapshot()
    datapath.sync(wanted)
    closed = EndpointPolicy(DirectionPolicy(True), DirectionPolicy(True))
    other = replace(wanted, revision=2, policies={**wanted.policies, 2: closed})
    with monkeypatch.context() as patch, echo_server(net.b, 4, PLAIN):
        patch.setattr(proxy.datapath.kernel, "with_netlink", None)
        assert not datapath.interfaces_changed(wanted)
        assert datapath.sync(other).changes.policies == 2
        assert refused(net.a, net.address("b", 4), PLAIN)
        with pytest.raises(TypeError):
            _sync_with_b_at(datapath, netns=str(net.b.path))
    assert datapath.sync(wanted).changes.policies == 2
    with echo_server(net.b, 4, PLAIN), dial(net.a, net.address("b", 4), PLAIN) as connection:
        assert ask(connection, b"hello")


def test_an_interface_that_came_meanwhile_is_found_with_the_next_policy(net: Topology, datapath: Datapath) -> None:
    wanted = snapshot()
    datapath.sync(wanted)
    net.node.ip("link", "set", "vb", "down")
    net.node.ip("link", "set", "vb", "name", "vc")
    try:
        assert list(datapath.sync(wanted).pending) == [2]
    finally:
        net.node.ip("link", "set", "vc", "name", "vb")
        net.node.ip("link", "set", "vb", "up")
    assert datapath.sync(wanted).attached == ("test/b",)


def test_an_interface_made_anew_under_the_same_name_is_followed(net: Topology, datapath: Datapath) -> None:
    with topology(f"psre{os.getpid()}") as other, other.node.enter():
        datapath.sync(snapshot())
        other.node.ip("link", "del", "vb")
        assert datapath.interfaces_changed(snapshot())
        assert list(datapath.sync(snapshot()).pending) == [2]
        other.node.ip("link", "add", "vb", "type", "veth", "peer", "name", "eth0", "netns", other.b.name)
        assert datapath.interfaces_changed(snapshot())
        assert datapath.sync(snapshot()).attached == ("test/b",)


def test_what_is_no_longer_listed_is_let_go(net: Topology, datapath: Datapath) -> None:
    wanted = snapshot()
    report = datapath.sync(replace(wanted, endpoints={1: wanted.endpoints[1]}, policies={1: wanted.policies[1]}))
    assert len(report.detached) == 2
    assert run("tc", "qdisc", "show", "dev", "vb").count("clsact") == 0
    with echo_server(net.b, 4, REFUSED), dial(net.outside, net.address("b", 4), REFUSED) as connection:
        assert ask(connection, b"hello")


def test_filters_of_others_stay_and_still_see_packets(net: Topology, datapath: Datapath, pin_dir: Path) -> None:
    """The other filter here is one that drops everything without a certain mark."""
    with OtherProgram() as others, echo_server(net.b, 4, PLAIN):
        assert not refused(net.a, net.address("b", 4), PLAIN), "now neighbours know each other"
        datapath.events.read()
        with_netlink(lambda ip: others.attach(ip, "va"))
        assert refused(net.a, net.address("b", 4), PLAIN)
        # Ours see the packets, too, whoever is first.
        assert any(event.destination_port == PLAIN for event in datapath.events.read())
        datapath.close()
        cleanup(pin_dir)
        assert refused(net.a, net.address("b", 4), PLAIN)
        left = run("tc", "filter", "show", "dev", "va", "ingress")
        assert "others" in left
        assert "penstock" not in left
        run("tc", "qdisc", "del", "dev", "va", "clsact")


def test_a_kernel_without_links_gets_filters_and_a_newer_one_takes_them_over(
    net: Topology, pin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = net.address("b", 4)
    with net.node.enter(), echo_server(net.b, 4, PLAIN), echo_server(net.b, 4, REFUSED):
        try:
            with monkeypatch.context() as patch:
                patch.setattr(Attachments, "_attach_link", lambda *_: False)
                with Datapath.open(pin_dir) as old:
                    old.sync(snapshot())
                    assert "penstock_from_pod" in run("tc", "filter", "show", "dev", "va", "ingress")
                    assert not (pin_dir / "links").exists()
                    assert refused(net.a, server, REFUSED)
                    assert not refused(net.a, server, PLAIN)
            with dial(net.a, server, PLAIN) as live, Datapath.open(pin_dir) as new:
                assert ask(live, b"one")
                new.sync(snapshot())
                assert ask(live, b"two")
                assert refused(net.a, server, REFUSED)
            assert "penstock" not in run("tc", "filter", "show", "dev", "va", "ingress")
            assert len(list((pin_dir / "links").iterdir())) == 5
        finally:
            removed = cleanup(pin_dir)
        assert {"from_pod of va", "to_pod of va", "from_pod of vb", "to_pod of vb"} <= set(removed)


class OtherProgram:
    """Somebody else's program: a drop-all."""

    def __enter__(self) -> OtherProgram:
        self._loaded = load(None)
        return self

    def __exit__(self, *_: object) -> None:
        self._loaded.close()

    def attach(self, ip: Netlink, name: str) -> None:
        index = ip.link_lookup(ifname=name)[0]
        ip.tc("add", "clsact", index)
        where = {"parent": Hook.INGRESS.parent, "prio": 77, "direct_action": True}
        ip.tc("add-filter", "bpf", index, 5, fd=self._loaded.programs["from_bounce"], name="others", **where)


def _traces() -> str:
    commands = (
        ("ip", "link"),
        ("ip", "rule"),
        ("ip", "-6", "rule"),
        ("ip", "route", "show", "table", "all"),
        ("ip", "-6", "route", "show", "table", "all"),
        ("tc", "qdisc", "show"),
        ("nft", "list", "tables"),
        ("cat", "/proc/sys/net/ipv4/tcp_early_demux"),
    )
    text = "\n".join(subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
    # Link-local routes come a moment after a link is up, whoever brought it up.
    return "\n".join(line for line in text.splitlines() if "fe80::" not in line)


OF_ALL = ("from_pod of va", "to_pod of vb", "penstock0", "IPv4 rule 9", "IPv6 rule 9", "early_demux", "pins")
OF_SERVICES = ("to_world of vo", "IPv4 rule 8", "IPv6 rule 8", "table 2005", "back from 100 to 0", "nftables table")
SERVICES = (ip_network("10.96.0.0/16"), ip_network("fd96::/108"))


@pytest.mark.parametrize("services", [(), SERVICES], ids=["no services", "services"])
def test_cleanup_leaves_nothing_and_says_what_it_took(
    net: Topology, pin_dir: Path, services: tuple[IPv4Network | IPv6Network, ...]
) -> None:
    with net.node.enter():
        before = _traces()
        with Datapath.open(pin_dir, services=services) as opened:
            opened.sync(snapshot())
            assert _traces() != before
        removed = cleanup(pin_dir)
        assert _traces() == before
        assert not pin_dir.exists()
        words = "\n".join(removed)
        for what in OF_ALL:
            assert what in words
        for what in OF_SERVICES:
            assert (what in words) is bool(services)
        assert cleanup(pin_dir) == []


def test_an_agent_without_services_takes_back_what_one_with_them_has_set_up(net: Topology, pin_dir: Path) -> None:
    with net.node.enter():
        try:
            with Datapath.open(pin_dir) as plain:
                plain.sync(snapshot())
                before = _traces()
            with Datapath.open(pin_dir, services=SERVICES) as opened:
                opened.sync(snapshot())
                assert any("to_world" in path.name for path in (pin_dir / "links").iterdir())
                assert "100:" in run("ip", "rule")
            with Datapath.open(pin_dir) as plain:
                plain.sync(snapshot())
                assert _traces() == before
                assert not any("to_world" in path.name for path in (pin_dir / "links").iterdir())
        finally:
            cleanup(pin_dir)


def test_the_saved_sysctl_survives_a_second_agent(net: Topology, pin_dir: Path) -> None:
    early_demux = Path("/proc/sys/net/ipv4/tcp_early_demux")
    with net.node.enter():
        before = early_demux.read_text()
        for _ in range(2):
            Datapath.open(pin_dir).close()
            assert early_demux.read_text() == "0\n"
        cleanup(pin_dir)
        assert early_demux.read_text() == before != "0\n"


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
