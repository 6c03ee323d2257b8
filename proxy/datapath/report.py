"""What the datapath says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bpf.pinned import Count
from bpf.tables import Changes


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did. `pending`: endpoint id → why its interface could not be found; it is tried again at the next.
    `oversized`: endpoint id → rows of a policy that is too large; what it had before stays in force.
    """

    revision: int
    changes: Changes
    attached: tuple[str, ...]
    detached: tuple[str, ...]
    pending: Mapping[int, str]
    oversized: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class DatapathStatus:
    """`forwarded`: packets by direction. `entries`: what is in the tables. `pressure`: how full maps are, in percent,
    as of the last `measure`. `events_lost`: rate limit, ring full.
    """

    adopted: bool
    revision: int
    epoch: int
    workers: int
    interfaces: Mapping[int, int]
    pending: Mapping[int, str]
    oversized: Mapping[int, int]
    entries: Mapping[str, int]
    pressure: Mapping[str, float]
    forwarded: tuple[int, int]
    drops: tuple[Count, ...]
    events_lost: tuple[int, int]
