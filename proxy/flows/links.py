"""What the records of all protocols that workers report have in common: the connection, and who decided."""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypedDict, TypeVar

import msgspec

from config.policy.resolved import Direction
from proxy.flows.enrich import Attribution
from proxy.flows.model import (
    L4,
    L7,
    Endpoint,
    EventType,
    Flow,
    FlowType,
    Ip,
    Policy,
    TrafficDirection,
    Verdict,
)
from proxy.flows.reasons import POLICY_DENIED, reason_name
from proxy.flows.wire import Connection

ALLOWED: Final = frozenset((Verdict.FORWARDED, Verdict.REDIRECTED))
UNATTRIBUTED: Final = Attribution()
POLICY_DENIED_NAME: Final = reason_name(POLICY_DENIED)
_L4_NAMES: Final = {6: "TCP", 17: "UDP"}
_DIRECTIONS: Final = {0: TrafficDirection.INGRESS, 1: TrafficDirection.EGRESS}


class Link(msgspec.Struct, frozen=True, gc=False):
    """What all records of a connection share. The names are those that each side knows the other's address by."""

    facts: Connection
    source: Endpoint
    destination: Endpoint
    node_name: str
    source_names: tuple[str, ...] = ()
    destination_names: tuple[str, ...] = ()

    def ip(self, reply: bool) -> Ip:
        client, server = self.facts.client, self.facts.server
        version = 6 if ":" in client else 4
        return Ip(server, client, version) if reply else Ip(client, server, version)

    def l4(self, reply: bool) -> L4:
        client, server = self.facts.client_port, self.facts.server_port
        name = _L4_NAMES.get(self.facts.protocol, "TCP")
        return L4(name, server, client) if reply else L4(name, client, server)


class _Exchanged(Protocol):
    @property
    def time_ns(self) -> int: ...
    @property
    def latency_ns(self) -> int: ...
    @property
    def direction(self) -> int: ...
    @property
    def reason(self) -> str: ...


_E = TypeVar("_E", bound=_Exchanged)


class ExchangeRecord(msgspec.Struct, Generic[_E], frozen=True, gc=False):
    """A request, or its response: what records of all protocols have."""

    verdict: int
    event_type: int
    response: bool
    exchange: _E
    link: Link
    attribution: Attribution

    @property
    def time_ns(self) -> int:
        return self.exchange.time_ns + (self.exchange.latency_ns if self.response else 0)


def exchange_flow(record: ExchangeRecord[_E], uuid: str, l7: L7, words: str) -> Flow:
    """`words`: the flow's summary."""
    exchange, link, reply = record.exchange, record.link, record.response
    verdict = Verdict(record.verdict)
    dropped = verdict is Verdict.DROPPED
    # A response carries no decision of its own; its request says who decided.
    attribution = UNATTRIBUTED if reply else record.attribution
    return Flow(
        time_ns=record.time_ns,
        uuid=uuid,
        verdict=verdict,
        drop_reason=POLICY_DENIED if dropped else 0,
        ip=link.ip(reply),
        l4=link.l4(reply),
        source=link.destination if reply else link.source,
        destination=link.source if reply else link.destination,
        type=FlowType.L7,
        node_name=link.node_name,
        source_names=link.destination_names if reply else link.source_names,
        destination_names=link.source_names if reply else link.destination_names,
        l7=l7,
        event_type=EventType.L7,
        traffic_direction=traffic_direction(exchange.direction),
        drop_reason_desc=POLICY_DENIED_NAME if dropped else "",
        is_reply=reply,
        summary=words,
        deciding=None if reply else attribution.deciding(exchange.reason),
        **policies(attribution, exchange.direction, verdict),
        policy_log=() if verdict in ALLOWED else (attribution.log(exchange.reason),),
    )


class Policies(TypedDict):
    """The fields of a flow that name who allowed or denied it."""

    egress_allowed_by: tuple[Policy, ...]
    ingress_allowed_by: tuple[Policy, ...]
    egress_denied_by: tuple[Policy, ...]
    ingress_denied_by: tuple[Policy, ...]


def policies(attribution: Attribution, direction: int, verdict: int) -> Policies:
    egress, allowed = direction == Direction.EGRESS, verdict in ALLOWED
    named = attribution.policies
    return {
        "egress_allowed_by": named if egress and allowed else (),
        "ingress_allowed_by": named if allowed and not egress else (),
        "egress_denied_by": named if egress and not allowed else (),
        "ingress_denied_by": () if egress or allowed else named,
    }


def traffic_direction(direction: int) -> TrafficDirection:
    """Of a number that a worker told."""
    return _DIRECTIONS.get(direction, TrafficDirection.TRAFFIC_DIRECTION_UNKNOWN)
