"""The agent's flow buffer: the last N records, and followers that read along.

Producers append records, which are small; a flow is built from one when somebody reads it. Nothing here waits: a
follower that reads too slowly loses its oldest records and is told how many, a full ring forgets its oldest. Memory
is bounded by the ring's capacity and the number of followers times theirs. One event loop owns a ring: no locks.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.flows.model import LostEvents, LostSource, Observation

DEFAULT_CAPACITY: Final = 4095
MAX_CAPACITY: Final = (1 << 20) - 1
FOLLOWER_CAPACITY: Final = 16383
"""Several batches of all workers: what may arrive before a follower gets its turn."""

MAX_FOLLOWERS: Final = 64
LOST: Final = -1
"""The `event_type` of records that say that something was lost: every follower gets them."""

Interest = Callable[[int, int], bool]
"""(verdict, event type) → whether a follower may want such a record."""


class Record(Protocol):
    """What producers append. `verdict` and `event_type` are `model` numbers."""

    @property
    def verdict(self) -> int: ...

    @property
    def event_type(self) -> int: ...

    @property
    def time_ns(self) -> int: ...

    def observation(self, uuid: str) -> Observation: ...


Numbered = tuple[int, Record]
"""A record with its sequence number in the ring."""


class TooManyFollowersError(Exception):
    def __init__(self) -> None:
        super().__init__(f"{MAX_FOLLOWERS} observers follow already; end one of them first")


@dataclass(frozen=True, slots=True)
class RingStatus:
    current: int
    maximum: int
    seen: int
    lost: int
    followers: int


@dataclass(frozen=True, slots=True)
class _Lost:
    observed: LostEvents
    verdict: int = 0
    event_type: int = LOST

    @property
    def time_ns(self) -> int:
        return self.observed.time_ns

    def observation(self, uuid: str) -> Observation:
        return self.observed


class FlowRing:
    def __init__(self, capacity: int = DEFAULT_CAPACITY, node_name: str = "") -> None:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ValueError(f"flow buffer capacity {capacity}: expected 1 to {MAX_CAPACITY}")
        # Hubble's sizes are 2^n - 1; what lies between is rounded up.
        capacity = (1 << capacity.bit_length()) - 1
        self.node_name = node_name
        self._records: deque[Record] = deque(maxlen=capacity)
        self._capacity = capacity
        self._seen = 0
        self._lost = 0
        self._followers: list[Follower] = []
        # A sequence number under a random prefix: unique across restarts, the same whenever the flow is read.
        self._prefix = secrets.randbits(64) << 64

    def extend(self, records: Sequence[Record]) -> None:
        """Appends records, oldest first. Never waits."""
        first = self._seen
        self._records.extend(records)
        self._seen = first + len(records)
        for follower in self._followers:
            follower.offer(first, records)

    def append(self, record: Record) -> None:
        self.extend((record,))

    def lose(self, source: LostSource, count: int, time_ns: int, cpu: int | None = None) -> None:
        """Records that `count` observations never came here."""
        if count > 0:
            self._lost += count
            self.append(_Lost(LostEvents(source, count, time_ns, cpu, self.node_name)))

    def records(self) -> list[Numbered]:
        """Everything that is still here, in the order in which it came."""
        return list(enumerate(self._records, self._seen - len(self._records)))

    def build(self, numbered: Numbered) -> Observation:
        sequence, record = numbered
        return record.observation(str(uuid.UUID(int=self._prefix | sequence, version=4)))

    def follow(self, interest: Interest | None = None, capacity: int = FOLLOWER_CAPACITY) -> Follower:
        """A follower of all records appended from now on. Close it."""
        if len(self._followers) >= MAX_FOLLOWERS:
            raise TooManyFollowersError
        follower = Follower(self, interest, capacity)
        self._followers.append(follower)
        return follower

    def close(self) -> None:
        """Ends all followers: each reads what it has and stops."""
        for follower in tuple(self._followers):
            follower.close()

    def forget(self, follower: Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)

    def status(self) -> RingStatus:
        return RingStatus(len(self._records), self._capacity, self._seen, self._lost, len(self._followers))


class Follower:
    """A bounded queue of one observer. Reading is asynchronous, `offer` never waits."""

    def __init__(self, ring: FlowRing, interest: Interest | None, capacity: int) -> None:
        self._ring = ring
        self._interest = interest
        self._capacity = capacity
        self._queue: deque[Numbered] = deque(maxlen=capacity)
        self._lost = 0
        self._wake = asyncio.Event()
        self._closed = False

    def offer(self, first: int, records: Sequence[Record]) -> None:
        interest = self._interest
        wanted = enumerate(records, first)
        if interest is None:
            new = list(wanted)
        else:
            new = [
                item for item in wanted if item[1].event_type == LOST or interest(item[1].verdict, item[1].event_type)
            ]
        if new:
            self._lost += max(0, len(self._queue) + len(new) - self._capacity)
            self._queue.extend(new)
            self._wake.set()

    async def wait(self) -> bool:
        """Until there is something to take; False when there never will be again."""
        while not self._queue and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        return bool(self._queue)

    def take(self, limit: int) -> tuple[int, list[Numbered]]:
        """How many records were lost before these, and up to `limit` of them."""
        lost, self._lost = self._lost, 0
        queue = self._queue
        return lost, [queue.popleft() for _ in range(min(limit, len(queue)))]

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._ring.forget(self)
