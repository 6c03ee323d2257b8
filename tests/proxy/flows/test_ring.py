"""The ring and its readers: bounded, never waiting, honest about what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from proxy.flows.filters import FlowFilter, FlowFilters
from proxy.flows.model import EventType, Flow, LostEvents, LostSource, Observation, Verdict
from proxy.flows.query import Observer, Query
from proxy.flows.ring import MAX_FOLLOWERS, FlowRing, TooManyFollowersError
from tests.proxy.flows.samples import NOON

pytestmark = pytest.mark.asyncio


@dataclass(frozen=True)
class Numbered:
    """A record that counts how often it was built."""

    number: int
    built: list[int]
    verdict: int = Verdict.FORWARDED
    event_type: int = EventType.L7

    @property
    def time_ns(self) -> int:
        return NOON + self.number

    def observation(self, uuid: str) -> Observation:
        self.built.append(self.number)
        return Flow(
            NOON + self.number, uuid, Verdict(self.verdict), event_type=self.event_type, summary=str(self.number)
        )


class Source:
    def __init__(self, capacity: int = 7) -> None:
        self.ring = FlowRing(capacity, "node-1")
        self.built: list[int] = []
        self.count = 0

    def add(self, count: int = 1, verdict: Verdict = Verdict.FORWARDED) -> None:
        self.ring.extend([Numbered(self.count + i, self.built, verdict) for i in range(count)])
        self.count += count

    async def read(self, query: Query) -> list[int]:
        observer = Observer(self.ring, query)
        return [int(item.summary) async for part in observer.parts() for item in part if isinstance(item, Flow)]


DROPPED = FlowFilters((FlowFilter.parse({"verdict": ["DROPPED"]}),))


async def test_the_oldest_records_go_first() -> None:
    source = Source(7)
    source.add(10)
    assert await source.read(Query()) == [3, 4, 5, 6, 7, 8, 9]
    assert await source.read(Query(last=2)) == [8, 9]
    assert await source.read(Query(last=2**64 - 1)) == [3, 4, 5, 6, 7, 8, 9]
    assert await source.read(Query(last=0)) == []
    assert await source.read(Query(first=2)) == [3, 4]
    assert await source.read(Query(since_ns=NOON + 5, until_ns=NOON + 7)) == [5, 6, 7]
    assert source.ring.status().seen == 10


async def test_only_what_may_match_is_built() -> None:
    source = Source(1023)
    source.add(300)
    source.add(2, Verdict.DROPPED)
    source.add(300)
    assert await source.read(Query(DROPPED, last=1)) == [301]
    assert set(source.built) == {300, 301}


async def test_what_is_reported_late_is_shown_in_its_place() -> None:
    source = Source(63)
    source.ring.extend([Numbered(number, source.built) for number in (3, 4, 1, 2, 0)])
    assert await source.read(Query(first=3)) == [0, 1, 2]
    assert await source.read(Query(last=2)) == [3, 4]


async def test_last_counts_matches() -> None:
    source = Source(1023)
    for _ in range(5):
        source.add(1, Verdict.DROPPED)
        source.add(150)
    assert await source.read(Query(DROPPED, last=3)) == [302, 453, 604]


async def test_a_flow_keeps_its_uuid() -> None:
    source = Source(7)
    source.add(3)
    uuids = [source.ring.build(item) for item in source.ring.records()]
    source.add(3)
    again = [source.ring.build(item) for item in source.ring.records()][:3]
    assert uuids == again
    assert len({flow.uuid for flow in uuids if isinstance(flow, Flow)}) == 3


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 3), (4095, 4095), (4096, 8191), (1048575, 1048575)])
async def test_capacities_are_hubbles(asked: int, given: int) -> None:
    assert FlowRing(asked).status().maximum == given


@pytest.mark.parametrize("capacity", [0, -1, 1 << 20])
async def test_impossible_capacities(capacity: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1048575"):
        FlowRing(capacity)


async def take(parts: AsyncIterator[list[Observation]], count: int) -> list[Observation]:
    found: list[Observation] = []
    async for part in parts:
        found += part
        if len(found) >= count:
            break
    return found


async def test_following_misses_and_doubles_nothing() -> None:
    source = Source(63)
    source.add(10)
    observer = Observer(source.ring, Query(last=5, follow=True))
    source.add(5)  # between subscription and the first read
    parts = observer.parts()
    first = await take(parts, 5)
    source.add(5)
    rest: list[Observation] = []
    source.ring.close()
    async for part in observer.parts():
        rest += part
    numbers = [int(item.summary) for item in first + rest if isinstance(item, Flow)]
    assert numbers == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]


async def test_a_slow_follower_loses_its_oldest_and_is_told() -> None:
    source = Source(7)
    follower = source.ring.follow(capacity=4)
    source.add(10)
    source.add(1)
    assert await follower.wait()
    lost, taken = follower.take(100)
    assert lost == 7
    assert [int(flow.summary) for flow in map(source.ring.build, taken) if isinstance(flow, Flow)] == [7, 8, 9, 10]
    source.add(1)
    assert follower.take(100)[0] == 0


async def test_a_filtered_follower_is_not_crowded_out() -> None:
    source = Source(7)
    follower = source.ring.follow(DROPPED.may_match, capacity=4)
    source.add(1, Verdict.DROPPED)
    source.add(10_000)
    lost, taken = follower.take(100)
    assert (lost, len(taken)) == (0, 1)


async def test_a_loss_is_part_of_the_stream() -> None:
    source = Source(4095)
    observer = Observer(source.ring, Query(DROPPED, last=0, follow=True))
    source.ring.lose(LostSource.OBSERVER_EVENTS_QUEUE, 3, NOON)
    source.ring.lose(LostSource.OBSERVER_EVENTS_QUEUE, 0, NOON)
    for _ in range(17):
        source.add(1000, Verdict.DROPPED)
    found = await take(observer.parts(), 100)
    observer.close()
    lost = [item for item in found if isinstance(item, LostEvents)]
    # 17,001 records went into a queue of 16,383.
    assert lost == [LostEvents(LostSource.HUBBLE_RING_BUFFER, 618, lost[0].time_ns, None, "node-1")]
    assert source.ring.status().lost == 3


async def test_followers_are_counted_and_leave() -> None:
    source = Source()
    followers = [source.ring.follow() for _ in range(MAX_FOLLOWERS)]
    with pytest.raises(TooManyFollowersError):
        source.ring.follow()
    followers[0].close()
    followers[0].close()
    assert source.ring.status().followers == MAX_FOLLOWERS - 1
    source.ring.close()
    assert source.ring.status().followers == 0
    assert not await followers[1].wait()


async def test_waiting_ends_when_something_comes() -> None:
    source = Source()
    follower = source.ring.follow()
    waiting = asyncio.ensure_future(follower.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    source.add()
    assert await waiting
