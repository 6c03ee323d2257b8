"""What an observer asks of the ring: how far back, which flows, and whether to go on.

Reads in slices and gives the event loop back in between: an observer of a full ring costs others no latency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from proxy.flows.filters import FlowFilters
from proxy.flows.model import Flow, LostEvents, LostSource, Observation
from proxy.flows.ring import LOST, FlowRing, Numbered

_SLICE: Final = 128


@dataclass(frozen=True, slots=True)
class Query:
    """`last` and `first` None: no such bound. Times are inclusive, 0 means no bound."""

    filters: FlowFilters = field(default_factory=FlowFilters)
    last: int | None = None
    first: int | None = None
    since_ns: int = 0
    until_ns: int = 0
    follow: bool = False

    def wants(self, observation: Observation) -> bool:
        if isinstance(observation, Flow) and not self.filters.matches(observation):
            return False
        when = observation.time_ns
        return when >= self.since_ns and (not self.until_ns or self.follow or when <= self.until_ns)


class Observer:
    """One reading of the ring. It is subscribed from the start, so nothing is missing or doubled between what the
    ring holds and what follows. Close it: it holds one of the ring's followers."""

    def __init__(self, ring: FlowRing, query: Query) -> None:
        self._ring = ring
        self._query = query
        self._follower = ring.follow(query.filters.may_match) if query.follow else None
        # Workers report a moment later than the kernel.
        self._records = sorted(ring.records(), key=lambda item: item[1].time_ns)

    async def parts(self) -> AsyncIterator[list[Observation]]:
        """Slices of observations, oldest first; ends when there can be no more."""
        async for part in self._recorded():
            yield part
        follower, ring, query = self._follower, self._ring, self._query
        while follower is not None and await follower.wait():
            lost, taken = follower.take(_SLICE)
            part = [item for item in map(ring.build, taken) if query.wants(item)]
            if lost:
                part.insert(0, LostEvents(LostSource.HUBBLE_RING_BUFFER, lost, time.time_ns(), None, ring.node_name))
            yield part
            await asyncio.sleep(0)

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()

    async def _recorded(self) -> AsyncIterator[list[Observation]]:
        ring, query, records = self._ring, self._query, self._records
        self._records = []
        if query.last is not None:
            found = await _last(ring, query, query.last, records)
            for start in range(0, len(found), _SLICE):
                yield found[start : start + _SLICE]
            return
        left = query.first if query.first is not None else len(records)
        for start in range(0, len(records), _SLICE):
            if left <= 0:
                return
            part = _matching(ring, query, records[start : start + _SLICE])[:left]
            left -= len(part)
            yield part
            await asyncio.sleep(0)


async def _last(ring: FlowRing, query: Query, count: int, records: list[Numbered]) -> list[Observation]:
    """The newest `count` that match, oldest first. Reads from the end and stops when it has them."""
    found: list[Observation] = []
    for end in range(len(records), 0, -_SLICE):
        if len(found) >= count:
            break
        part = _matching(ring, query, records[max(0, end - _SLICE) : end])
        found = part + found
        await asyncio.sleep(0)
    return found[max(0, len(found) - count) :]


def _matching(ring: FlowRing, query: Query, records: list[Numbered]) -> list[Observation]:
    may = query.filters.may_match
    built = (
        ring.build(item) for item in records if item[1].event_type == LOST or may(item[1].verdict, item[1].event_type)
    )
    return [observation for observation in built if query.wants(observation)]
