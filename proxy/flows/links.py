"""What the records of all protocols that workers report have in common: the connection, and who decided."""

from __future__ import annotations

from typing import Final, TypedDict

import msgspec

from config.policy.resolved import Direction
from proxy.flows.enrich import Attribution
from proxy.flows.model import L4, Endpoint, Ip, Policy, TrafficDirection, Verdict
from proxy.flows.reasons import POLICY_DENIED, reason_name
from proxy.flows.wire import Connection

ALLOWED: Final = frozenset((Verdict.FORWARDED, Verdict.REDIRECTED))
UNATTRIBUTED: Final = Attribution()
POLICY_DENIED_NAME: Final = reason_name(POLICY_DENIED)
_DIRECTIONS: Final = {0: TrafficDirection.INGRESS, 1: TrafficDirection.EGRESS}


class Link(msgspec.Struct, frozen=True, gc=False):
    """What all records of a connection share."""

    facts: Connection
    source: Endpoint
    destination: Endpoint
    node_name: str

    def ip(self, reply: bool) -> Ip:
        client, server = self.facts.client, self.facts.server
        version = 6 if ":" in client else 4
        return Ip(server, client, version) if reply else Ip(client, server, version)

    def l4(self, reply: bool) -> L4:
        client, server = self.facts.client_port, self.facts.server_port
        return L4("TCP", server, client) if reply else L4("TCP", client, server)


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
