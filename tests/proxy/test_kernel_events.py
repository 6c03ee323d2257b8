"""The kernel's events in the words of flow records."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest

from config.policy.resolved import Direction
from proxy.datapath import EventType, PacketEvent
from proxy.flows.from_events import EventKind
from proxy.flows.model import Verdict
from proxy.kernel_events import to_flow_events


def event(kind: EventType, verdict: int, *, audited: bool = False) -> PacketEvent:
    return PacketEvent(
        time_ns=time.monotonic_ns(),
        raw_source=mapped("10.0.0.1"),
        raw_destination=mapped("10.0.0.2"),
        raw_source_port=(40000).to_bytes(2, "big"),
        raw_destination_port=(80).to_bytes(2, "big"),
        protocol=6,
        verdict=verdict,
        source_endpoint=1,
        destination_endpoint=2,
        source_identity=300,
        destination_identity=301,
        ingress_rule=5,
        egress_rule=6,
        ifindex=3,
        length=60,
        raw_type=kind,
        direction=1,
        family=4,
        flags=int(audited),
        tcp_flags=2,
        icmp_type=0,
        icmp_code=0,
    )


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + ip_address(address).packed


@pytest.mark.parametrize(
    ("raw", "kind", "verdict", "reason"),
    [
        (event(EventType.DROP, -133), EventKind.DROP, Verdict.DROPPED, 133),
        (event(EventType.VERDICT, 0), EventKind.VERDICT, Verdict.FORWARDED, 0),
        (event(EventType.VERDICT, 1), EventKind.VERDICT, Verdict.REDIRECTED, 0),
        (event(EventType.VERDICT, -133, audited=True), EventKind.VERDICT, Verdict.AUDIT, 133),
    ],
)
def test_verdicts_and_reasons(raw: PacketEvent, kind: EventKind, verdict: Verdict, reason: int) -> None:
    (made,) = to_flow_events([raw])
    assert (made.kind, made.verdict, made.reason) == (kind, verdict, reason)
    assert bool(made.reason_name) == bool(reason)
    assert (made.direction, made.rule, made.other_rule) == (Direction.EGRESS, 6, 5)
    assert (made.source, made.destination) == ("10.0.0.1", "10.0.0.2")


def test_times_are_on_the_wall_clock() -> None:
    before = time.time_ns()
    (made,) = to_flow_events([event(EventType.VERDICT, 0)])
    assert abs(made.time_ns - before) < 3600 * 10**9
