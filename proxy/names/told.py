"""What the store knows → what the API lists. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import ip_address

from proxy.api.models import LearntName, Source
from proxy.names.records import Lease
from proxy.names.store import Known


def learnt_names(known: Iterable[Known], now: int, offset_s: float) -> list[LearntName]:
    """Addresses that a name got by one answer stand together. `offset_s`: what makes CLOCK_BOOTTIME the wall clock."""
    groups: defaultdict[tuple[int, str, Lease, int], list[bytes]] = defaultdict(list)
    for item in known:
        seen = item.alive_at if item.lease.until <= now else 0
        groups[item.endpoint, item.name, item.lease, seen].append(item.address)
    return [
        _learnt(endpoint, name, lease, seen, addresses, now, offset_s)
        for (endpoint, name, lease, seen), addresses in sorted(groups.items())
    ]


def _learnt(
    endpoint: int, name: str, lease: Lease, seen: int, addresses: list[bytes], now: int, offset_s: float
) -> LearntName:
    return LearntName(
        endpoint,
        name,
        tuple(ip_address(address) for address in sorted(addresses, key=lambda one: (len(one), one))),
        lease.ttl,
        offset_s + (seen or lease.expires - lease.ttl),
        offset_s + lease.expires,
        Source.CONNECTION if lease.until <= now else Source.LOOKUP,
    )
