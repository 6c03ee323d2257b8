"""One endpoint's names and addresses, and how they hang together. Pure bookkeeping: neither clock nor kernel.

Times are seconds of CLOCK_BOOTTIME; addresses are packed, of 4 or 16 bytes; names are canonical.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from config.policy.name_groups import NameMatcher
from proxy.worker.openings import GRACE_S

NO_GROUPS: Final = NameMatcher(())


class Lease(NamedTuple):
    """That a name has an address. `ttl` is the one that counted, in seconds; `expires` is before the grace."""

    expires: int
    ttl: int

    @property
    def until(self) -> int:
        """From then on nothing but a live connection keeps the address open."""
        return self.expires + GRACE_S


@dataclass(slots=True)
class Address:
    """An address as one endpoint knows it.

    `slots`: what the kernel has, as far as is known: group → until. `orphans`: groups among them that are open although
    no name that is known says so. `alive_at`: when a connection was last seen on it although time was up; `is_alive`:
    whether the last look saw one. `scheduled`: when its time will be looked at, 0 = not.
    """

    leases: dict[str, Lease] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    orphans: set[int] = field(default_factory=set)
    alive_at: int = 0
    is_alive: bool = False
    scheduled: int = 0
    told: tuple[str, ...] | None = None

    def ends(self) -> Iterator[int]:
        """When each thing that keeps it open is over."""
        yield from (lease.until for lease in self.leases.values())
        yield from (self.slots[group] for group in self.orphans)

    def is_due(self, now: int) -> bool:
        return any(end <= now for end in self.ends())

    def next_end(self, now: int) -> int:
        """The first end after `now`; 0 if there is none."""
        return min((end for end in self.ends() if end > now), default=0)

    def last_past_end(self, now: int) -> int:
        return max((end for end in self.ends() if end <= now), default=0)

    def names(self) -> tuple[str, ...]:
        """Sorted."""
        if self.told is None:
            self.told = tuple(sorted(self.leases))
        return self.told


@dataclass(slots=True)
class EndpointNames:
    """`previous`: matchers of policies that the kernel may still have in force; what they select stays open, too."""

    matcher: NameMatcher = NO_GROUPS
    previous: tuple[NameMatcher, ...] = ()
    names: dict[str, set[bytes]] = field(default_factory=dict)
    addresses: dict[bytes, Address] = field(default_factory=dict)

    def groups(self, name: str) -> set[int]:
        return set(self.matcher.groups(name)).union(*(matcher.groups(name) for matcher in self.previous))

    def all_groups(self) -> frozenset[int]:
        return self.matcher.all.union(*(matcher.all for matcher in self.previous))

    def wanted(self, record: Address) -> set[int]:
        """The groups for which the address has to be open."""
        return record.orphans.union(*(self.groups(name) for name in record.leases))

    def record(self, address: bytes) -> Address:
        found = self.addresses.get(address)
        if found is None:
            found = self.addresses[address] = Address()
        return found

    def put(self, name: str, address: bytes, lease: Lease) -> Address:
        """A lease that ends earlier than the one there is changes nothing."""
        record = self.record(address)
        known = record.leases.get(name)
        if known is None:
            self.names.setdefault(name, set()).add(address)
            record.told = None
        if known is None or known.expires < lease.expires:
            record.leases[name] = lease
        return record

    def remove(self, name: str, address: bytes) -> bool:
        """True if it was the name's last address. The record stays until `discard`."""
        record = self.addresses[address]
        del record.leases[name]
        record.told = None
        owners = self.names[name]
        owners.discard(address)
        if owners:
            return False
        del self.names[name]
        return True

    def discard(self, address: bytes) -> None:
        """Forget the address if there is nothing to know about it any more."""
        record = self.addresses[address]
        if not (record.leases or record.slots):
            del self.addresses[address]
