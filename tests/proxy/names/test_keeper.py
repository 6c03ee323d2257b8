"""The keeper in an event loop of its own, over maps and flows in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from config.policy.resolved import DirectionPolicy, Endpoint, EndpointPolicy, Snapshot
from config.settings import Settings
from proxy.api.models import LearntName, Source
from proxy.datapath import mapped
from proxy.flows.wire import Learnt
from proxy.metrics import NameStatus
from proxy.names.keeper import CHECK_EVERY_S, SWEEP_EVERY_S, NameKeeper, make_keeper, store_limits
from proxy.names.store import NameStore
from proxy.worker.openings import GRACE_S
from tests.proxy.names.fake import EP, START, FakeNames, group, packed, rule

NODE = "node"
OWN4, OWN6 = "10.0.0.7", "fd00::7"


def snapshot(revision: int, **groups: str) -> Snapshot:
    """`g11="a.com"`: one endpoint, whose egress rules select that."""
    return two_endpoints(revision, {EP: groups})


def two_endpoints(revision: int, policies: dict[int, dict[str, str]]) -> Snapshot:
    own = (ip_address(OWN4), ip_address(OWN6))
    endpoints = {
        number: Endpoint(number, "default", f"pod-{number}", frozenset(), 300, own, f"veth{number}")
        for number in policies
    }
    egress = {
        number: DirectionPolicy(True, tuple(rule(group(int(key[1:]), *text.split())) for key, text in groups.items()))
        for number, groups in policies.items()
    }
    found = {number: EndpointPolicy(DirectionPolicy(False), policy) for number, policy in egress.items()}
    return Snapshot(revision, endpoints, found)


class Flows:
    """`Datapath`, as far as the keeper knows it. `live`: addresses of peers."""

    def __init__(self) -> None:
        self.live: set[str] = set()
        self.asked: list[set[tuple[bytes, bytes]]] = []
        self.epochs = 0
        self.threads: set[int] = set()

    def live_connections(self, pairs: set[tuple[bytes, bytes]]) -> set[tuple[bytes, bytes]]:
        self.asked.append(pairs)
        self.threads.add(threading.get_ident())
        peers = {mapped(packed(address)) for address in self.live}
        return {pair for pair in pairs if pair[1] in peers}

    def judge_again(self) -> None:
        self.epochs += 1


class Node:
    """What outlives an agent: the kernel's map, the flows, the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.settings = Settings(state_dir=state_dir)
        self.map = FakeNames()
        self.flows = Flows()
        self.now = START
        self.keeper = self.start()

    def start(self) -> NameKeeper:
        store = NameStore(self.map, store_limits(self.settings))
        self.keeper = NameKeeper(self.flows, self.settings, store, self.map, clock=lambda: self.now, boot="boot")
        return self.keeper

    def look_up(self, name: str, *addresses: str, ttl: int = 60, groups: tuple[int, ...] = (11,)) -> None:
        found = [packed(address) for address in addresses]
        self.map.open(EP, found, groups, self.now + ttl + GRACE_S, 1)
        self.keeper.on_batch([Learnt(EP, name, found, ttl, 0)])

    async def publish(self, wanted: Snapshot) -> None:
        await self.keeper.prepare(wanted)
        await self.keeper.withdraw(wanted)

    async def ticks(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            await self.keeper.tick()


Story = Callable[[Node], Coroutine[Any, Any, None]]


def in_loop(story: Story) -> Callable[[Path], None]:
    def test(tmp_path: Path) -> None:
        asyncio.run(story(Node(tmp_path)))

    test.__doc__ = story.__doc__
    return test


@in_loop
async def test_what_is_over_is_closed_and_what_lives_stays(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1", "2001:db8::1", ttl=10)
    node.flows.live = {"1.1.1.1"}
    await node.ticks(10 + GRACE_S - 1)
    assert node.flows.asked == []
    await node.ticks(1)
    own = {(mapped(packed(OWN4)), mapped(packed("1.1.1.1"))), (packed(OWN6), packed("2001:db8::1"))}
    assert node.flows.asked == [own]
    assert node.flows.threads.isdisjoint({threading.get_ident()})
    assert set(node.map.entries) == {(EP, packed("1.1.1.1"))}
    node.flows.live = set()
    await node.ticks(CHECK_EVERY_S)
    assert not node.map.entries
    assert node.flows.epochs == 0


@in_loop
async def test_connections_are_looked_at_every_few_seconds_at_most(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    for number in range(20):
        node.look_up(f"{number}.com", f"1.1.1.{number}", ttl=number)
    await node.ticks(30)
    assert 20 / CHECK_EVERY_S <= len(node.flows.asked) <= 30 / CHECK_EVERY_S + 1
    assert not node.map.entries


@in_loop
async def test_many_at_once(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    for number in range(2000):
        node.look_up(f"{number}.com", f"10.1.{number >> 8}.{number & 255}", ttl=0)
    node.flows.live = {"10.1.0.0"}
    await node.ticks(GRACE_S)
    assert len(node.map.entries) == 1


@in_loop
async def test_a_policy_changes(node: Node) -> None:
    await node.publish(snapshot(1, g11="a.com"))
    assert node.flows.epochs == 0
    node.look_up("a.com", "1.1.1.1")
    node.look_up("b.com", "1.1.1.2", groups=())
    after = snapshot(2, g12="*.com")
    await node.keeper.prepare(after)
    assert (node.map.groups("1.1.1.1"), node.map.groups("1.1.1.2")) == ({11, 12}, {12})
    assert node.flows.epochs == 0
    await node.keeper.withdraw(after)
    assert (node.map.groups("1.1.1.1"), node.map.groups("1.1.1.2")) == ({12}, {12})
    assert node.flows.epochs == 1
    await node.publish(snapshot(3, g12="*.com"))
    assert node.flows.epochs == 1


@in_loop
async def test_a_policy_that_the_kernel_did_not_take(node: Node) -> None:
    await node.publish(snapshot(1, g11="a.com"))
    node.look_up("a.com", "1.1.1.1")
    await node.keeper.prepare(snapshot(2, g12="a.com"))
    await node.publish(snapshot(3, g13="a.com"))
    assert node.map.groups("1.1.1.1") == {13}


@in_loop
async def test_an_endpoint_goes(node: Node) -> None:
    await node.publish(two_endpoints(1, {EP: {"g11": "*"}, 8: {"g11": "*"}}))
    node.look_up("a.com", "1.1.1.1")
    await node.publish(two_endpoints(2, {8: {"g11": "*"}}))
    assert not node.map.entries
    assert node.keeper.names_of(EP, "1.1.1.1") == ()


@in_loop
async def test_restart(node: Node) -> None:
    """The map is pinned and stays; names come back from the file."""
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1", ttl=100)
    node.look_up("short.com", "1.1.1.2", "1.1.1.3", ttl=1)
    await node.keeper.stop()
    node.now += 20
    node.start()
    node.flows.live = {"1.1.1.2"}
    await node.publish(snapshot(1, g11="*"))
    assert node.keeper.names_of(EP, "1.1.1.1") == ("a.com",)
    await node.ticks(1)
    assert (node.map.groups("1.1.1.1"), node.map.groups("1.1.1.2"), node.map.groups("1.1.1.3")) == ({11}, {11}, set())
    assert node.keeper.names_of(EP, "1.1.1.2") == ("short.com",)
    await node.ticks(80 + GRACE_S)
    assert node.map.groups("1.1.1.1") == set()


@in_loop
async def test_restart_under_another_policy(node: Node) -> None:
    await node.publish(snapshot(1, g11="a.com"))
    node.look_up("a.com", "1.1.1.1")
    await node.keeper.stop()
    node.start()
    await node.publish(snapshot(2, g12="a.com"))
    assert node.map.groups("1.1.1.1") == {12}


@in_loop
async def test_restart_with_a_new_map(node: Node) -> None:
    """As after `penstock cleanup`: what has time left is opened again, what has none is not."""
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1", ttl=100)
    node.look_up("b.com", "1.1.1.2", ttl=1)
    await node.keeper.stop()
    node.now += 20
    node.map.entries.clear()
    node.start()
    await node.publish(snapshot(1, g11="*"))
    assert set(node.map.entries) == {(EP, packed("1.1.1.1"))}


@in_loop
async def test_restart_with_more_protected(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1", ttl=100)
    await node.keeper.stop()
    node.map.entries.clear()
    node.settings = node.settings.model_copy(update={"tofqdns_protected_cidrs": (ip_network("1.1.1.0/24"),)})
    node.start()
    await node.publish(snapshot(1, g11="*"))
    assert not node.map.entries
    assert node.keeper.names_of(EP, "1.1.1.1") == ()


@in_loop
async def test_crash(node: Node) -> None:
    """Nothing was saved: what is in the map lives until its time and its connections are over."""
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1", "1.1.1.2", ttl=10)
    node.start()
    node.flows.live = {"1.1.1.1"}
    await node.publish(snapshot(1, g11="*"))
    await node.ticks(10 + GRACE_S)
    assert set(node.map.entries) == {(EP, packed("1.1.1.1"))}
    node.flows.live = set()
    await node.ticks(CHECK_EVERY_S)
    assert not node.map.entries


@in_loop
async def test_corrupt_file(node: Node) -> None:
    (node.settings.state_dir / "names").write_text("nonsense")
    await node.publish(snapshot(1, g11="*"))
    assert not node.map.entries
    assert (node.settings.state_dir / "names.corrupt").exists()


@in_loop
async def test_without_endpoints_everything_stays(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1", ttl=1)
    await node.keeper.stop()
    before = (node.settings.state_dir / "names").read_bytes()
    node.start()
    await node.publish(Snapshot(0))
    await node.ticks(100)
    await node.keeper.stop()
    assert node.map.groups("1.1.1.1") == {11}
    assert (node.settings.state_dir / "names").read_bytes() == before


@in_loop
async def test_saved_now_and_then(node: Node) -> None:
    path = node.settings.state_dir / "names"
    await node.publish(snapshot(1, g11="*"))
    await node.ticks(1)
    assert not path.exists()
    node.look_up("a.com", "1.1.1.1", ttl=1000)
    await node.ticks(31)
    first = path.stat()
    await node.ticks(60)
    assert path.stat() == first
    node.look_up("a.com", "1.1.1.1", ttl=1000)
    await node.ticks(31)
    assert path.stat() != first


@in_loop
async def test_a_full_disk_is_no_disaster(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    (node.settings.state_dir / ".names.new").mkdir()
    node.look_up("a.com", "1.1.1.1")
    await node.keeper.save()
    assert node.keeper.names_of(EP, "1.1.1.1") == ("a.com",)


@in_loop
async def test_what_no_report_told_of(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    await node.ticks(1)
    node.map.open(EP, [packed("1.1.1.1")], [11], node.now + 10, 1)
    node.map.open(EP + 5, [packed("1.1.1.1")], [11], node.now + 10, 1)
    await node.ticks(SWEEP_EVERY_S + CHECK_EVERY_S)
    assert not node.map.entries


@in_loop
async def test_clean(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1")
    node.look_up("b.org", "1.1.1.2")
    node.flows.live = {"1.1.1.1"}
    assert await node.keeper.clean("*.com", None) == 1
    assert set(node.map.entries) == {(EP, packed("1.1.1.2"))}
    assert node.flows.epochs == 1
    await node.ticks(1)
    assert node.flows.epochs == 1


@in_loop
async def test_too_many_live(node: Node) -> None:
    node.settings = node.settings.model_copy(update={"tofqdns_max_deferred_connection_deletes": 1})
    node.start()
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "1.1.1.1", "1.1.1.2", ttl=1)
    node.flows.live = {"1.1.1.1", "1.1.1.2"}
    await node.ticks(1 + GRACE_S)
    assert len(node.map.entries) == 1
    assert node.flows.epochs == 1


@in_loop
async def test_listed(node: Node) -> None:
    await node.publish(snapshot(1, g11="*"))
    node.look_up("a.com", "2001:db8::1", "1.1.1.1", ttl=10)
    (current,) = await node.keeper.learnt()
    addresses = (ip_address("1.1.1.1"), ip_address("2001:db8::1"))
    assert current == LearntName(EP, "a.com", addresses, 10, current.expires_s - 10, current.expires_s, Source.LOOKUP)
    node.flows.live = {"1.1.1.1"}
    await node.ticks(10 + GRACE_S)
    (old,) = await node.keeper.learnt()
    assert (old.addresses, old.source) == (addresses[:1], Source.CONNECTION)
    assert old.looked_up_s > old.expires_s
    status: NameStatus = node.keeper.counts()
    assert status.alive_zombie_connections == {EP: 1}


def test_the_task_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.names.keeper.TICK_S", 0.001)

    async def story() -> None:
        node = Node(tmp_path)
        await node.publish(snapshot(1, g11="*"))
        node.look_up("a.com", "1.1.1.1", ttl=0)
        node.now += GRACE_S
        closed = asyncio.Event()
        node.map.before_change = closed.set
        task = asyncio.get_running_loop().create_task(node.keeper.run())
        await closed.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), 30))


def test_limits_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, tofqdns_min_ttl=7)
    limits = store_limits(settings)
    assert (limits.min_ttl, limits.names, limits.addresses) == (7, 10000, 16384)
    assert isinstance(make_keeper(Flows(), settings, FakeNames()), NameKeeper)
