"""Who goes first where there is too much. Pure: they only choose."""

from __future__ import annotations

from collections import Counter

from proxy.names.records import Address, EndpointNames

_PART = 16
"""What is full gives up the 16th part at once: looking for whom to drop looks at all of them."""


def over_limit(known: EndpointNames, name: str, limit: int, now: int) -> list[bytes]:
    """Addresses of the name that are too many, those first that expire first. Expired ones do not count."""
    if not limit or len(known.names[name]) <= limit:
        return []
    leases = {address: known.addresses[address].leases[name] for address in known.names[name]}
    current = sorted((lease.expires, address) for address, lease in leases.items() if lease.until > now)
    return [address for _, address in current[: max(0, len(current) - limit)]]


def surplus_names(known: EndpointNames, limit: int) -> list[str]:
    """Names to forget: those that no rule selects before others, and then those that expire first."""
    if len(known.names) <= limit:
        return []

    def rank(name: str) -> tuple[bool, int]:
        leases = (known.addresses[address].leases[name].expires for address in known.names[name])
        return bool(known.groups(name)), max(leases)

    return sorted(known.names, key=rank)[: len(known.names) - limit + limit // _PART]


def surplus_addresses(known: EndpointNames, limit: int, now: int) -> list[bytes]:
    """Addresses to close: those that nothing opens, then expired ones, then those that expire first."""
    if len(known.addresses) <= limit:
        return []

    def rank(address: bytes) -> tuple[bool, bool, bool, int]:
        record = known.addresses[address]
        last = max(record.ends(), default=0)
        return bool(record.slots), last > now, record.is_alive, last

    return sorted(known.addresses, key=rank)[: len(known.addresses) - limit + limit // _PART]


def surplus_zombies(zombies: dict[bytes, Address], per_name: int, limit: int, now: int) -> set[bytes]:
    """Of the expired addresses of one endpoint those that live connections must not keep open.

    `per_name`: so many may share a name, 0 = any number; `limit`: of all. First go those without a connection, then
    those whose time was up first, then those with fewer names.
    """

    def rank(address: bytes) -> tuple[bool, int, int]:
        record = zombies[address]
        return record.is_alive, record.last_past_end(now), len(record.leases)

    ordered = sorted(zombies, key=rank)
    gone: set[bytes] = set()
    if per_name:
        counts = Counter(name for record in zombies.values() for name in _past(record, now))
        for address in ordered:
            names = _past(zombies[address], now)
            if any(counts[name] > per_name for name in names):
                gone.add(address)
                counts.subtract(names)
    rest = [address for address in ordered if address not in gone]
    return gone | set(rest[: max(0, len(rest) - limit)])


def _past(record: Address, now: int) -> list[str]:
    return [name for name, lease in record.leases.items() if lease.until <= now]
