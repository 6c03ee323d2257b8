"""The datapath's events in the words of flow records: times on the wall clock, numbers with their names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from config.policy.resolved import Direction
from proxy import datapath
from proxy.flows.from_events import EventKind, PacketEvent
from proxy.flows.model import Verdict


def to_flow_events(events: Iterable[datapath.PacketEvent]) -> Iterator[PacketEvent]:
    """What flow records need of each event; the kernel's clock is CLOCK_MONOTONIC (bpf_ktime_get_ns)."""
    offset = time.time_ns() - time.monotonic_ns()
    for event in events:
        dropped = event.type is datapath.EventType.DROP
        reason = event.reason if dropped or event.audited else 0
        direction = Direction(event.direction)
        yield PacketEvent(
            kind=EventKind.DROP if dropped else EventKind.VERDICT,
            time_ns=event.time_ns + offset,
            source=str(event.source or ""),
            destination=str(event.destination or ""),
            protocol=event.protocol,
            source_port=event.source_port,
            destination_port=event.destination_port,
            tcp_flags=event.tcp_flags,
            icmp_type=event.icmp_type,
            icmp_code=event.icmp_code,
            verdict=_verdict(event),
            reason=reason,
            reason_name=datapath.reason_name(reason) if reason else "",
            reason_words=datapath.reason_help(reason) if reason else "",
            direction=direction,
            source_endpoint=event.source_endpoint,
            destination_endpoint=event.destination_endpoint,
            source_identity=event.source_identity,
            destination_identity=event.destination_identity,
            rule=event.rules[direction],
            other_rule=event.rules[1 - direction],
            interface=event.ifindex,
        )


def _verdict(event: datapath.PacketEvent) -> Verdict:
    if event.audited:
        return Verdict.AUDIT
    if event.verdict < 0:
        return Verdict.DROPPED
    return Verdict.REDIRECTED if event.verdict > 0 else Verdict.FORWARDED
