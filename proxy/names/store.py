"""The names that endpoints have learnt, and the openings in the kernel that hang on them.

A slot of the map `names` belongs to an endpoint, an address and a group of names. It is to be there while a name that
the group selects has the address: until the name's time is up, and then while connections live on it (a *zombie*, in
Cilium's word). Workers write slots before an answer goes out and report it afterwards, so an edit here never takes away
what ends later than was reported: that report is under way.

No clock and no event loop: `now` is in seconds of CLOCK_BOOTTIME, and whoever asks `due` says to `settle` which of
these pairs have connections. Calls must come from one thread.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, NamedTuple, Protocol

from config.policy.dns_names import canonical, selects
from config.policy.name_groups import NameMatcher
from proxy.datapath import BpfError, MapFull, NameSlot
from proxy.names import evictions
from proxy.names.records import Address, EndpointNames, Lease
from proxy.worker.openings import GRACE_S

Pair = tuple[int, bytes]
"""(endpoint, address)"""

Slots = tuple[NameSlot, ...]

_WAIT_S: Final = 0.05
"""For the lock of the map. Workers hold it for microseconds; what fails is tried again later."""

_UNSETTLED_S: Final = 3
"""For so long after slots were added or taken away by force, what workers report is written again: they may have
written it just before."""

_SLACK_S: Final = 1
"""A slot may end so much later than its lease, since two clocks are rounded."""

_MAX_TTL: Final = (1 << 31) - 1
"""RFC 2181 §8."""


class OpenNames(Protocol):
    """`NamesMap`."""

    def get(self, endpoint: int, address: bytes) -> Slots: ...

    def open(
        self, endpoint: int, addresses: Iterable[bytes], identities: Iterable[int], until: int, wait_s: float
    ) -> None: ...

    def change(
        self, endpoint: int, address: bytes, edit: Callable[[Slots], Iterable[NameSlot]], wait_s: float
    ) -> None: ...

    def items(self) -> Iterator[tuple[int, bytes, Slots]]: ...

    def cut(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Settings of these names. `addresses_per_name` 0: any number. `idle_s`: what an address outlives its last live
    connection."""

    min_ttl: int = 0
    addresses_per_name: int = 1000
    zombies: int = 10000
    idle_s: float = 0.0
    names: int = 10000
    addresses: int = 16384


@dataclass(frozen=True, slots=True)
class NameCounts:
    """Of one moment, per endpoint. `gc_deletions_total`: names whose time was up."""

    active_names: dict[int, int]
    active_ips: dict[int, int]
    alive_zombie_connections: dict[int, int]
    gc_deletions_total: int


class Known(NamedTuple):
    """One lease. `alive_at`: when a connection was last seen on the address although time was up; 0 = never."""

    endpoint: int
    name: str
    address: bytes
    lease: Lease
    alive_at: int


class NameStore:
    """All endpoints' names. `changes` counts what would have to be saved; `counters` what went wrong or was too much.

    `has_cut`: openings were taken away on which connections may live. Flows that are under way must be judged again.
    """

    def __init__(self, names: OpenNames, limits: StoreLimits | None = None) -> None:
        self._names = names
        self._limits = limits or StoreLimits()
        self._endpoints: dict[int, EndpointNames] = {}
        self._timeline: list[tuple[int, int, bytes]] = []
        self._waiting: set[Pair] = set()
        self._unsettled = 0
        self._expired = 0
        self.changes = 0
        self.has_cut = False
        self.counters: Counter[str] = Counter()

    # -- learning --------------------------------------------------------------------------------------------------

    def learn(self, endpoint: int, name: str, addresses: Iterable[bytes], ttl: int, now: int) -> None:
        """`now` must not be before a worker wrote the slots. Endpoints that are not known are gone already."""
        known = self._endpoints.get(endpoint)
        if known is None:
            return
        name, addresses = canonical(name), list(addresses)
        if not addresses:
            return
        counted = max(min(ttl, _MAX_TTL), self._limits.min_ttl)
        lease = Lease(now + counted, counted)
        groups = known.groups(name)
        for address in addresses:
            record = known.put(name, address, lease)
            if groups and not record.slots:
                self._end(known, address, now)
            record.orphans -= groups
            for group in groups:
                record.slots[group] = max(lease.until, record.slots.get(group, 0))
            self._schedule(endpoint, address, record, lease.until)
        if groups and now < self._unsettled:
            self._open(endpoint, addresses, groups, lease.until)
        self.changes += 1
        self._bound(endpoint, known, name, now)

    def restore(self, endpoint: int, name: str, address: bytes, lease: Lease) -> None:
        """What an earlier agent knew. Opens nothing by itself."""
        known = self._endpoints.setdefault(endpoint, EndpointNames())
        record = known.put(name, address, lease)
        self._schedule(endpoint, address, record, lease.until)

    def adopt(self, items: Iterable[tuple[int, bytes, Slots]], now: int) -> None:
        """What is in the map, but not known here: of endpoints that are gone it goes at once, other slots when their
        time is up. `items` may be a little old."""
        for endpoint, address, slots in items:
            known = self._endpoints.get(endpoint)
            if known is None:
                self._edit(endpoint, address, lambda _: ())
                continue
            record = known.addresses.get(address)
            believed = record.slots if record is not None else {}
            if any(slot.until > believed.get(slot.identity, 0) + _SLACK_S for slot in slots):
                self._adopt(endpoint, known, address, now)

    def _adopt(self, endpoint: int, known: EndpointNames, address: bytes, now: int) -> None:
        groups = known.all_groups()
        slots = self._names.get(endpoint, address)
        if any(slot.identity not in groups for slot in slots):
            self._edit(endpoint, address, lambda found: [slot for slot in found if slot.identity in groups])
        for identity, until in slots:
            if identity not in groups:
                continue
            record = known.record(address)
            record.slots[identity] = max(until, record.slots.get(identity, 0))
            if until > _explained(known, record, identity) + _SLACK_S:
                record.orphans.add(identity)
                self._schedule(endpoint, address, record, until)

    # -- what policies select --------------------------------------------------------------------------------------

    def endpoints(self) -> frozenset[int]:
        return frozenset(self._endpoints)

    def assign(self, endpoint: int, matcher: NameMatcher) -> bool:
        """The endpoint's policy selects by `matcher` from now on, beside what it did before, until `withdraw`.

        True if that is another one. The endpoint is known from now on.
        """
        known = self._endpoints.get(endpoint)
        if known is None:
            self._endpoints[endpoint] = EndpointNames(matcher)
            return True
        if known.matcher is matcher:
            return False
        known.previous = (*known.previous, known.matcher)
        known.matcher = matcher
        return True

    def prepare(self, endpoint: int, now: int) -> None:
        """Open what names that are known have, for groups that select them newly."""
        known = self._endpoints[endpoint]
        self._unsettled = now + _UNSETTLED_S
        for address, record in known.addresses.items():
            is_closed = not record.slots
            missing: dict[int, int] = {}
            for name, lease in record.leases.items():
                # Time is up, and nothing keeps it open: it is over, and only not taken out yet.
                if lease.until <= now and is_closed:
                    continue
                for group in known.groups(name) - record.slots.keys():
                    missing[group] = max(lease.until, missing.get(group, 0))
            if missing and self._open(endpoint, [address], missing, max(missing.values())):
                if is_closed:
                    self._end(known, address, now)
                record.slots.update(dict.fromkeys(missing, max(missing.values())))

    def withdraw(self, endpoint: int, now: int) -> bool:
        """Close what only earlier policies selected, now that no one writes it any more. True if anything was open."""
        known = self._endpoints[endpoint]
        if not known.previous:
            return False
        known.previous = ()
        self._unsettled = now + _UNSETTLED_S
        any_closed = False
        for address, record in list(known.addresses.items()):
            record.orphans &= known.matcher.all
            any_closed |= self._close(endpoint, known, address, by_force=True)
            known.discard(address)
        return any_closed

    def forget(self, endpoint: int) -> None:
        """The endpoint is gone."""
        known = self._endpoints.pop(endpoint, None)
        if known is None:
            return
        for address, record in known.addresses.items():
            if record.slots:
                self._edit(endpoint, address, lambda _: ())
        self.changes += 1

    # -- time ------------------------------------------------------------------------------------------------------

    def due(self, now: int) -> set[Pair]:
        """Pairs that are open although their time is up: whether connections live on them must be looked at."""
        while self._timeline and self._timeline[0][0] <= now:
            when, endpoint, address = heapq.heappop(self._timeline)
            record = self._record(endpoint, address)
            if record is None or record.scheduled != when:
                continue
            record.scheduled = 0
            end = record.next_end(now)
            if end:
                self._schedule(endpoint, address, record, end)
            if record.is_due(now):
                self._waiting.add((endpoint, address))
        for pair in list(self._waiting):
            if not self._still_waits(pair, now):
                self._waiting.discard(pair)
        return set(self._waiting)

    def _still_waits(self, pair: Pair, now: int) -> bool:
        record = self._record(*pair)
        if record is None:
            return False
        if not record.is_due(now):
            record.is_alive = False
            return False
        if not record.slots:
            self._expire(*pair, now)
            return False
        return True

    def settle(self, asked: Iterable[Pair], live: set[Pair], now: int) -> None:
        """Of the pairs `asked`, which were due, those that are not `live` are closed."""
        for pair in asked:
            record = self._record(*pair)
            if record is None or not record.is_due(now):
                continue
            record.is_alive = pair in live
            if record.is_alive:
                record.alive_at = now
            elif max(record.alive_at, record.last_past_end(now)) + self._limits.idle_s <= now:
                self._expire(*pair, now)

    def trim(self, now: int) -> None:
        """No more zombies than there may be. After `settle`."""
        zombies: dict[int, dict[bytes, Address]] = {}
        for endpoint, address in self._waiting:
            record = self._record(endpoint, address)
            if record is not None and record.is_due(now):
                zombies.setdefault(endpoint, {})[address] = record
        limits = self._limits
        for endpoint, mine in zombies.items():
            for address in evictions.surplus_zombies(mine, limits.addresses_per_name, limits.zombies, now):
                self.counters["limits.tofqdns_max_deferred_connection_deletes"] += 1
                self._expire(endpoint, address, now)
                self._cut(now)

    def _end(self, known: EndpointNames, address: bytes, now: int) -> None:
        """Names whose time is up are over. Were they still there when another name opens the address, a policy that
        selects them could open it for them, too.
        """
        leases = known.addresses[address].leases
        for name in [name for name, lease in leases.items() if lease.until <= now]:
            self._expired += known.remove(name, address)
            self.changes += 1

    def _expire(self, endpoint: int, address: bytes, now: int) -> None:
        """Take out whatever of the address has no time left."""
        known = self._endpoints[endpoint]
        record = known.addresses[address]
        self._end(known, address, now)
        record.orphans = {group for group in record.orphans if record.slots[group] > now}
        record.is_alive, record.alive_at = False, 0
        self._close(endpoint, known, address)
        known.discard(address)
        self._waiting.discard((endpoint, address))

    # -- taking away before time -----------------------------------------------------------------------------------

    def clean(self, pattern: str | None, endpoint: int | None, now: int) -> int:
        """Forget the names that a glob (None: all) selects, of one endpoint or all; what only they open is closed, also
        under connections. Says how many it forgot."""
        count = 0
        chosen = [endpoint] if endpoint is not None else list(self._endpoints)
        for number in chosen:
            known = self._endpoints.get(number)
            if known is None:
                continue
            names = [name for name in known.names if pattern is None or selects("", pattern, name)]
            count += len(names)
            self._drop_names(number, known, names, now)
            if pattern is None:
                self._close_orphans(number, known)
        self._cut(now)
        return count

    def _close_orphans(self, endpoint: int, known: EndpointNames) -> None:
        for address, record in list(known.addresses.items()):
            record.orphans.clear()
            self._close(endpoint, known, address)
            known.discard(address)

    def _drop_names(self, endpoint: int, known: EndpointNames, names: Iterable[str], now: int) -> None:
        for name in names:
            for address in list(known.names[name]):
                known.remove(name, address)
                if self._close(endpoint, known, address):
                    self._cut(now)
                known.discard(address)
            self.changes += 1

    def _drop_address(self, endpoint: int, known: EndpointNames, address: bytes, now: int) -> None:
        record = known.addresses[address]
        for name in list(record.leases):
            known.remove(name, address)
        record.orphans.clear()
        if self._close(endpoint, known, address):
            self._cut(now)
        known.discard(address)

    def _bound(self, endpoint: int, known: EndpointNames, name: str, now: int) -> None:
        limits = self._limits
        for address in evictions.over_limit(known, name, limits.addresses_per_name, now):
            record = known.addresses[address]
            # Its time is up now, and a connection keeps it like any other.
            record.leases[name] = Lease(now - GRACE_S, record.leases[name].ttl)
            self._schedule(endpoint, address, record, now)
        for surplus in evictions.surplus_names(known, limits.names):
            self.counters["limits.dns_max_names"] += 1
            self._drop_names(endpoint, known, [surplus], now)
        for address in evictions.surplus_addresses(known, limits.addresses, now):
            self.counters["limits.dns_max_addresses"] += 1
            self._drop_address(endpoint, known, address, now)

    # -- the map ---------------------------------------------------------------------------------------------------

    def _open(self, endpoint: int, addresses: Iterable[bytes], groups: Iterable[int], until: int) -> bool:
        try:
            self._names.open(endpoint, addresses, groups, until, _WAIT_S)
        except (BpfError, TimeoutError) as error:
            self._failed(error)
            return False
        return True

    def _close(self, endpoint: int, known: EndpointNames, address: bytes, *, by_force: bool = False) -> bool:
        """Close the address for groups that it need not be open for. True if it was open for any.

        Unless `by_force`, a slot stays that ends later than was reported: a worker has prolonged it just now.
        """
        record = known.addresses[address]
        gone = {group: record.slots[group] for group in record.slots.keys() - known.wanted(record)}
        if not gone:
            return False
        kept: dict[int, int] = {}

        def edit(slots: Slots) -> list[NameSlot]:
            kept.clear()
            if not by_force:
                kept.update({group: until for group, until in slots if until > gone.get(group, until)})
            return [slot for slot in slots if slot.identity not in gone or slot.identity in kept]

        if not self._edit(endpoint, address, edit):
            kept = gone  # to be tried again
        for group in gone:
            if group in kept:
                record.slots[group] = kept[group]
                record.orphans.add(group)
                self._schedule(endpoint, address, record, kept[group])
            else:
                del record.slots[group]
        return True

    def _edit(self, endpoint: int, address: bytes, edit: Callable[[Slots], Iterable[NameSlot]]) -> bool:
        try:
            self._names.change(endpoint, address, edit, _WAIT_S)
        except (BpfError, TimeoutError) as error:
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        self.counters["limits.bpf_names_map_max" if isinstance(error, MapFull) else "names.failed"] += 1

    def _cut(self, now: int) -> None:
        self.has_cut = True
        self._names.cut()
        self._unsettled = now + _UNSETTLED_S

    def _schedule(self, endpoint: int, address: bytes, record: Address, when: int) -> None:
        if not record.scheduled or when < record.scheduled:
            record.scheduled = when
            heapq.heappush(self._timeline, (when, endpoint, address))

    def _record(self, endpoint: int, address: bytes) -> Address | None:
        known = self._endpoints.get(endpoint)
        return known.addresses.get(address) if known is not None else None

    # -- looking ---------------------------------------------------------------------------------------------------

    def names_of(self, endpoint: int, address: str) -> tuple[str, ...]:
        """What the endpoint calls the address, sorted."""
        try:
            packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
        except OSError:
            return ()
        record = self._record(endpoint, packed)
        return record.names() if record is not None else ()

    def entries(self) -> list[Known]:
        return [
            Known(endpoint, name, address, lease, record.alive_at)
            for endpoint, known in self._endpoints.items()
            for address, record in known.addresses.items()
            for name, lease in record.leases.items()
        ]

    def counts(self) -> NameCounts:
        alive = Counter(
            endpoint
            for endpoint, address in self._waiting
            if (record := self._record(endpoint, address)) is not None and record.is_alive
        )
        return NameCounts(
            {endpoint: len(known.names) for endpoint, known in self._endpoints.items()},
            {endpoint: len(known.addresses) for endpoint, known in self._endpoints.items()},
            {endpoint: alive[endpoint] for endpoint in self._endpoints},
            self._expired,
        )


def _explained(known: EndpointNames, record: Address, group: int) -> int:
    """Until when names that are known account for a slot of the group."""
    ends = (lease.until for name, lease in record.leases.items() if group in known.groups(name))
    return max(ends, default=0)
