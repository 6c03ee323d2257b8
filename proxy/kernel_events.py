"""The datapath's events in the words of flow records: times on the wall clock, numbers with their names.

A node may see thousands of first packets a second while nobody looks at flows, so an event stays as it came until a
flow is made of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache

from config.policy.resolved import Direction
from proxy import datapath
from proxy.flows.from_events import EventKind
from proxy.flows.model import Verdict

_KNOWN_ADDRESSES = 4096


class KernelEvent:
    """A `flows.from_events.PacketFacts`."""

    __slots__ = ("_event", "_offset")

    def __init__(self, event: datapath.PacketEvent, offset: int) -> None:
        self._event = event
        self._offset = offset  # from the kernel's clock (bpf_ktime_get_ns) to the wall clock

    @property
    def kind(self) -> EventKind:
        return EventKind.DROP if self._is_drop else EventKind.VERDICT

    @property
    def _is_drop(self) -> bool:
        return self._event.raw_type == datapath.EventType.DROP

    @property
    def time_ns(self) -> int:
        return self._event.time_ns + self._offset

    @property
    def source(self) -> str:
        return _address(self._event.raw_source) if self._event.family else ""

    @property
    def destination(self) -> str:
        return _address(self._event.raw_destination) if self._event.family else ""

    @property
    def protocol(self) -> int:
        return self._event.protocol

    @property
    def source_port(self) -> int:
        return self._event.source_port

    @property
    def destination_port(self) -> int:
        return self._event.destination_port

    @property
    def tcp_flags(self) -> int:
        return self._event.tcp_flags

    @property
    def icmp_type(self) -> int:
        return self._event.icmp_type

    @property
    def icmp_code(self) -> int:
        return self._event.icmp_code

    @property
    def verdict(self) -> Verdict:
        event = self._event
        if event.audited:
            return Verdict.AUDIT
        if event.verdict < 0:
            return Verdict.DROPPED
        return Verdict.REDIRECTED if event.verdict > 0 else Verdict.FORWARDED

    @property
    def reason(self) -> int:
        return self._event.reason if self._event.verdict < 0 else 0

    @property
    def reason_name(self) -> str:
        return datapath.reason_name(self.reason) if self.reason else ""

    @property
    def reason_words(self) -> str:
        return datapath.reason_help(self.reason) if self.reason else ""

    @property
    def direction(self) -> Direction:
        return Direction(self._event.direction)

    @property
    def source_endpoint(self) -> int:
        return self._event.source_endpoint

    @property
    def destination_endpoint(self) -> int:
        return self._event.destination_endpoint

    @property
    def source_identity(self) -> int:
        return self._event.source_identity

    @property
    def destination_identity(self) -> int:
        return self._event.destination_identity

    @property
    def rule(self) -> int:
        return self._event.rules[self._event.direction]

    @property
    def other_rule(self) -> int:
        return self._event.rules[1 - self._event.direction]

    @property
    def revision(self) -> int:
        return 0

    @property
    def match(self) -> None:
        return None

    @property
    def interface(self) -> int:
        return self._event.ifindex


def to_flow_events(events: Iterable[datapath.PacketEvent]) -> Iterator[KernelEvent]:
    """What flow records need of each event."""
    offset = time.time_ns() - time.monotonic_ns()
    return (KernelEvent(event, offset) for event in events)


@lru_cache(_KNOWN_ADDRESSES)
def _address(raw: bytes) -> str:
    return str(datapath.unpack_address(raw))
