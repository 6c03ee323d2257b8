"""Datapath events → flow records: drops, policy verdicts on first packets, audit verdicts.

`PacketFacts` is all that is needed from the kernel's record; `proxy.kernel_events` reads it from that. A packet
that policy refused is two flows, as Cilium's users know it: the policy verdict DENIED and the drop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import msgspec

from config.policy.resolved import Direction
from config.policy.resolved import Protocol as IpProtocol
from proxy.flows.enrich import Attribution, Enricher
from proxy.flows.model import (
    L4,
    Endpoint,
    EventType,
    Flow,
    FlowType,
    Ip,
    LostSource,
    TrafficDirection,
    Verdict,
)
from proxy.flows.reasons import POLICY_DENIED, POLICY_DENY, reason_name, reason_words
from proxy.flows.ring import FlowRing, Record
from proxy.flows.summary import l4_summary

_DENIED: Final = frozenset((Verdict.DROPPED, Verdict.AUDIT))
_OPPOSITE: Final = {Direction.INGRESS: Direction.EGRESS, Direction.EGRESS: Direction.INGRESS}
_BY_POLICY: Final = frozenset((POLICY_DENIED, POLICY_DENY))
_L4_NAMES: Final[dict[int, str]] = {
    IpProtocol.TCP: "TCP",
    IpProtocol.UDP: "UDP",
    IpProtocol.SCTP: "SCTP",
    IpProtocol.ICMP: "ICMPv4",
    IpProtocol.ICMPV6: "ICMPv6",
}
_DIRECTIONS: Final = {
    None: TrafficDirection.TRAFFIC_DIRECTION_UNKNOWN,
    Direction.INGRESS: TrafficDirection.INGRESS,
    Direction.EGRESS: TrafficDirection.EGRESS,
}


class EventKind(Enum):
    DROP = "drop"
    VERDICT = "verdict"


class PacketFacts(Protocol):
    """One event of the kernel, see `PacketEvent`. Addresses and words are asked for only when a flow is read."""

    @property
    def kind(self) -> EventKind: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def destination(self) -> str: ...
    @property
    def protocol(self) -> int: ...
    @property
    def source_port(self) -> int: ...
    @property
    def destination_port(self) -> int: ...
    @property
    def tcp_flags(self) -> int: ...
    @property
    def icmp_type(self) -> int: ...
    @property
    def icmp_code(self) -> int: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def reason(self) -> int: ...
    @property
    def reason_name(self) -> str: ...
    @property
    def reason_words(self) -> str: ...
    @property
    def direction(self) -> Direction | None: ...
    @property
    def source_endpoint(self) -> int: ...
    @property
    def destination_endpoint(self) -> int: ...
    @property
    def source_identity(self) -> int: ...
    @property
    def destination_identity(self) -> int: ...
    @property
    def rule(self) -> int: ...
    @property
    def other_rule(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def match(self) -> int | None: ...
    @property
    def interface(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PacketEvent:
    """One event of the kernel, as values.

    `time_ns` is wall-clock time. `verdict` of a VERDICT event is FORWARDED, REDIRECTED, AUDIT or DROPPED; a DROP is
    always DROPPED. `reason`, a positive drop reason number, its name, and what it means in words: 0 and empty if there
    is none. `direction` is the one that decided, None if the packet was dropped before there was one; `rule` is the
    deciding rule's id, `other_rule` that of the other direction, which had its say, too, where both ends are local.
    Endpoints and rules are 0 where there is none. Addresses are empty if the frame is not IP. `revision` 0: the current
    one. `match` None: worked out from the rule. ICMP has a type and a code in place of ports.
    """

    kind: EventKind
    time_ns: int
    source: str
    destination: str
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    verdict: Verdict = Verdict.DROPPED
    reason: int = 0
    reason_name: str = ""
    reason_words: str = ""
    direction: Direction | None = None
    source_endpoint: int = 0
    destination_endpoint: int = 0
    source_identity: int = 0
    destination_identity: int = 0
    rule: int = 0
    other_rule: int = 0
    revision: int = 0
    match: int | None = None
    interface: int = 0


class Sides(msgspec.Struct, frozen=True, gc=False):
    """Both ends of a packet. The names are those that each knows the other's address by, where that is elsewhere."""

    source: Endpoint
    destination: Endpoint
    source_names: tuple[str, ...]
    destination_names: tuple[str, ...]


class EventRecord(msgspec.Struct, frozen=True, gc=False):
    verdict: int
    event_type: int
    event: PacketFacts
    sides: Sides
    attribution: Attribution
    other: Attribution
    node_name: str

    @property
    def time_ns(self) -> int:
        return self.event.time_ns

    def observation(self, uuid: str) -> Flow:
        return _flow(self, uuid)


class EventFlows:
    """Takes the events of the datapath."""

    def __init__(self, ring: FlowRing, enricher: Enricher) -> None:
        self._ring = ring
        self._enricher = enricher

    def add(self, events: Iterable[PacketFacts]) -> None:
        records: list[Record] = []
        for event in events:
            verdict, kind = event.verdict, event.kind
            denied = verdict in _DENIED
            attribution = other = _NO_POLICY
            sides = self._sides(event)
            if kind is EventKind.VERDICT or event.reason in _BY_POLICY:
                direction = event.direction if event.direction is not None else Direction.INGRESS
                attribution = self._attribution(event, event.rule, direction, denied)
                if event.other_rule and not denied:
                    other = self._attribution(event, event.other_rule, _OPPOSITE[direction], denied)
                records.append(self._record(event, verdict, EventType.POLICY_VERDICT, sides, attribution, other))
            if kind is EventKind.DROP:
                records.append(self._record(event, Verdict.DROPPED, EventType.DROP, sides, attribution, other))
        self._ring.extend(records)

    def lost(self, count: int, cpu: int | None = None) -> None:
        """The kernel's ring buffer was full `count` times."""
        self._ring.lose(LostSource.PERF_EVENT_RING_BUFFER, count, time.time_ns(), cpu)

    def _record(
        self,
        event: PacketFacts,
        verdict: Verdict,
        kind: EventType,
        sides: Sides,
        attribution: Attribution,
        other: Attribution,
    ) -> EventRecord:
        return EventRecord(verdict, kind, event, sides, attribution, other, self._enricher.node_name)

    def _sides(self, event: PacketFacts) -> Sides:
        side, names = self._enricher.side, self._enricher.names
        # An endpoint of this node is known by its number; its address would only have to be put into words.
        local, remote = event.source_endpoint, event.destination_endpoint
        source = "" if local else event.source
        destination = "" if remote else event.destination
        return Sides(
            side(local, event.source_identity, source),
            side(remote, event.destination_identity, destination),
            names(remote, source),
            names(local, destination),
        )

    def _attribution(self, event: PacketFacts, rule: int, direction: Direction, denied: bool) -> Attribution:
        subject = event.source_endpoint if direction is Direction.EGRESS else event.destination_endpoint
        return self._enricher.attribution(rule, event.revision, direction, subject, denied=denied)


_NO_POLICY: Final = Attribution()


def _flow(record: EventRecord, uuid: str) -> Flow:
    event, attribution = record.event, record.attribution
    is_drop = record.event_type == EventType.DROP
    denied = record.verdict in (Verdict.DROPPED, Verdict.AUDIT)
    egress = event.direction is Direction.EGRESS
    # What audit mode let pass was not dropped; its reason stays in `deciding`.
    reason = event.reason if record.verdict == Verdict.DROPPED else 0
    l4 = _l4(event)
    words = "" if attribution.default_deny else event.reason_words or _words(event.reason)
    return Flow(
        time_ns=event.time_ns,
        uuid=uuid,
        verdict=Verdict(record.verdict),
        drop_reason=reason,
        ip=Ip(event.source, event.destination, 6 if ":" in event.source else 4) if event.source else None,
        l4=l4,
        source=record.sides.source,
        destination=record.sides.destination,
        type=FlowType.L3_L4,
        node_name=record.node_name,
        source_names=record.sides.source_names,
        destination_names=record.sides.destination_names,
        event_type=record.event_type,
        event_sub_type=reason if is_drop else 0,
        traffic_direction=_DIRECTIONS[event.direction],
        policy_match_type=0 if is_drop else attribution.match if event.match is None else event.match,
        drop_reason_desc=(event.reason_name or reason_name(reason)) if reason else "",
        # Conntrack never saw a dropped packet, so nobody knows whose answer it is.
        is_reply=None if is_drop else False,
        interface_index=event.interface,
        summary=l4_summary(l4) if l4 else "",
        deciding=attribution.deciding(words) or record.other.deciding(words),
        egress_allowed_by=() if denied else (attribution if egress else record.other).policies,
        ingress_allowed_by=() if denied else (record.other if egress else attribution).policies,
        egress_denied_by=attribution.policies if egress and denied else (),
        ingress_denied_by=attribution.policies if denied and not egress else (),
        policy_log=(attribution.log(words),) if denied and (attribution.default_deny or attribution.rule) else (),
    )


def _words(reason: int) -> str:
    return reason_words(reason) if reason else ""


def _l4(event: PacketFacts) -> L4 | None:
    name = _L4_NAMES.get(event.protocol)
    if name is None:
        return None
    if name.startswith("ICMP"):
        return L4(name, icmp_type=event.icmp_type, icmp_code=event.icmp_code)
    return L4(name, event.source_port, event.destination_port, event.tcp_flags)
