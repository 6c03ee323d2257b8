"""The store of names in the agent's event loop: learns, looks for live connections, closes, saves.

The store and the map belong to the event loop alone. What blocks for long (looking at all flows, files) is done in
threads, on copies; what takes many small steps lets others run in between.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from config.policy.name_groups import name_matcher
from config.policy.resolved import Snapshot
from config.settings import Settings
from proxy.api.models import LearntName
from proxy.datapath import boottime, mapped
from proxy.flows.wire import Learnt
from proxy.names import saved
from proxy.names.store import Known, NameCounts, NameStore, OpenNames, Pair, StoreLimits
from proxy.names.told import learnt_names
from proxy.worker.openings import ProtectedAddresses

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
CHECK_EVERY_S: Final = 5
"""Looking for live connections goes through all flows."""

SAVE_EVERY_S: Final = 30
SWEEP_EVERY_S: Final = 60
"""How often the map is looked through for what no report told of."""

_STEP: Final = 256
"""Pairs that are closed at a time: about 4 ms."""

_Flow = tuple[bytes, bytes]
"""Own address, peer's; 16 bytes each."""


class Connections(Protocol):
    """`Datapath`, as far as it is needed here."""

    def live_connections(self, pairs: set[_Flow]) -> set[_Flow]: ...

    def judge_again(self) -> None: ...


class NameKeeper:
    """`prepare` and `withdraw` go around every change of what is in force, `on_batch` gets what workers learn, and
    `run` is a task for the supervisor. `stop` saves for the last time.
    """

    def __init__(
        self,
        datapath: Connections,
        settings: Settings,
        store: NameStore,
        names: OpenNames,
        *,
        clock: Callable[[], int] = boottime,
        boot: str | None = None,
    ) -> None:
        self._datapath = datapath
        self._store = store
        self._names = names
        self._clock = clock
        self._boot = saved.boot_id() if boot is None else boot
        self._path: Path = settings.state_dir / saved.FILE
        self._protected = ProtectedAddresses(settings.tofqdns_protected_cidrs)
        self._snapshot = Snapshot(0)
        self._has_begun = False
        self._next_check = self._next_save = self._next_sweep = 0
        self._saved = 0
        self._saving = threading.Lock()
        self._told: dict[str, int] = {}

    # -- what is in force ------------------------------------------------------------------------------------------

    async def prepare(self, snapshot: Snapshot) -> None:
        """Before workers and kernel get the snapshot: open what it selects newly of names that are known."""
        if snapshot.revision == 0:
            return  # which endpoints there are is not known: what an earlier agent left stays as it is
        self._snapshot = snapshot
        if not self._has_begun:
            await self._restore(snapshot)
        changed = [
            endpoint
            for endpoint, policy in snapshot.policies.items()
            if self._store.assign(endpoint, name_matcher(policy.egress))
        ]
        if not self._has_begun:
            self._has_begun = True
            self._store.adopt(await asyncio.to_thread(lambda: list(self._names.items())), self._clock())
        for endpoint in changed:
            self._store.prepare(endpoint, self._clock())
            await asyncio.sleep(0)

    async def withdraw(self, snapshot: Snapshot) -> None:
        """After the kernel has taken the snapshot: close what it does not select any more."""
        if snapshot.revision == 0:
            return
        any_closed = False
        for endpoint in self._store.endpoints():
            if endpoint not in snapshot.policies:
                self._store.forget(endpoint)
            else:
                any_closed |= self._store.withdraw(endpoint, self._clock())
            await asyncio.sleep(0)
        if any_closed:
            self._next_sweep = 0  # what is not known may be open for groups that are gone, too
            await asyncio.to_thread(self._datapath.judge_again)

    async def _restore(self, snapshot: Snapshot) -> None:
        for endpoint, name, address, lease in await asyncio.to_thread(saved.load, self._path, self._boot):
            # Settings and endpoints may be others than then.
            if endpoint in snapshot.policies and address not in self._protected:
                self._store.restore(endpoint, name, address, lease)

    # -- what happens ----------------------------------------------------------------------------------------------

    def on_batch(self, learnt: Iterable[Learnt]) -> None:
        """What workers report. The slots were written before, so the present is late enough."""
        now = self._clock()
        for item in learnt:
            self._store.learn(item.endpoint, item.name, item.addresses, item.ttl, now)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """What is to be done once a second."""
        if not self._has_begun:
            return
        now = self._clock()
        if now >= self._next_check:
            await self._check(now)
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_EVERY_S
            await self._sweep()
        if now >= self._next_save:
            self._next_save = now + SAVE_EVERY_S
            await self.save()
        if self._store.has_cut:
            self._store.has_cut = False
            await asyncio.to_thread(self._datapath.judge_again)
        self._tell()

    async def _check(self, now: int) -> None:
        pairs = self._store.due(now)
        if not pairs:
            return
        self._next_check = now + CHECK_EVERY_S
        flows = {pair: self._flows(pair) for pair in pairs}
        live = await asyncio.to_thread(self._datapath.live_connections, set[_Flow]().union(*flows.values()))
        found = {pair for pair, mine in flows.items() if not live.isdisjoint(mine)}
        waiting = list(pairs)
        for start in range(0, len(waiting), _STEP):
            self._store.settle(waiting[start : start + _STEP], found, now)
            await asyncio.sleep(0)
        self._store.trim(now)

    def _flows(self, pair: Pair) -> set[_Flow]:
        """What a connection between the endpoint and the address can look like."""
        number, address = pair
        endpoint = self._snapshot.endpoints.get(number)
        if endpoint is None:
            return set()
        version = 4 if len(address) == 4 else 6
        own = (one.packed for one in endpoint.addresses if one.version == version)
        return {(mapped(one), mapped(address)) for one in own}

    async def _sweep(self) -> None:
        """Workers that broke off, or had more to tell than they may, have opened what nobody knows of."""
        items = await asyncio.to_thread(lambda: list(self._names.items()))
        for start in range(0, len(items), _STEP):
            self._store.adopt(items[start : start + _STEP], self._clock())
            await asyncio.sleep(0)

    # -- the state file --------------------------------------------------------------------------------------------

    async def save(self) -> None:
        """If anything has changed."""
        changes = self._store.changes
        if not self._has_begun or changes == self._saved:
            return
        try:
            await asyncio.to_thread(self._write, self._store.entries())
        except OSError as error:
            log.warning("what DNS names have opened cannot be saved in %s: %s", self._path, error.strerror or error)
            return
        self._saved = changes

    def _write(self, known: list[Known]) -> None:
        # A task that is cancelled leaves its thread behind.
        with self._saving:
            saved.save(self._path, known, self._boot)

    async def stop(self) -> None:
        """When workers have ended."""
        await self.save()

    # -- for people ------------------------------------------------------------------------------------------------

    def names_of(self, endpoint: int, address: str) -> tuple[str, ...]:
        return self._store.names_of(endpoint, address)

    def counts(self) -> NameCounts:
        return self._store.counts()

    async def learnt(self) -> list[LearntName]:
        """What the API lists. Times are those of the wall clock as it is set now."""
        now = self._clock()
        return await asyncio.to_thread(learnt_names, self._store.entries(), now, time.time() - now)

    async def clean(self, pattern: str | None, endpoint: int | None) -> int:
        """Forget names by a glob (None: all), of one endpoint or all. Says how many."""
        count = self._store.clean(pattern, endpoint, self._clock())
        log.info("%d DNS names forgotten on request", count)
        self._store.has_cut = False
        await asyncio.to_thread(self._datapath.judge_again)
        await self.save()
        return count

    def _tell(self) -> None:
        """Say what went wrong or was too much, once for all times since the last tick."""
        for name, count in self._store.counters.items():
            more = count - self._told.get(name, 0)
            if more:
                log.warning("DNS names: %s, %d times", name.removeprefix("limits."), more)
        self._told = dict(self._store.counters)


def make_keeper(datapath: Connections, settings: Settings, names: OpenNames) -> NameKeeper:
    """With the settings' limits."""
    return NameKeeper(datapath, settings, NameStore(names, store_limits(settings)), names)


def store_limits(settings: Settings) -> StoreLimits:
    return StoreLimits(
        min_ttl=settings.tofqdns_min_ttl,
        addresses_per_name=settings.tofqdns_endpoint_max_ip_per_hostname,
        zombies=settings.tofqdns_max_deferred_connection_deletes,
        idle_s=settings.tofqdns_idle_connection_grace_period,
        names=settings.limits.dns_max_names,
        addresses=settings.limits.dns_max_addresses,
    )
