"""`Flow` in the terms of `flow.proto`: names and numbers are those of Hubble's public schema.

Immutable values without behaviour; `jsonpb` reads and writes them, `printers` shows them, `filters` asks them.
Zero values mean "absent", as in proto3; `is_reply` alone knows three states.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Verdict(IntEnum):
    VERDICT_UNKNOWN = 0
    FORWARDED = 1
    DROPPED = 2
    ERROR = 3
    AUDIT = 4
    REDIRECTED = 5
    TRACED = 6
    TRANSLATED = 7


class FlowType(IntEnum):
    UNKNOWN_TYPE = 0
    L3_L4 = 1
    L7 = 2
    SOCK = 3


class TrafficDirection(IntEnum):
    TRAFFIC_DIRECTION_UNKNOWN = 0
    INGRESS = 1
    EGRESS = 2


class L7Type(IntEnum):
    UNKNOWN_L7_TYPE = 0
    REQUEST = 1
    RESPONSE = 2
    SAMPLE = 3


class EventType(IntEnum):
    """`event_type.type`: what kind of observation a flow is."""

    UNKNOWN = 0
    DROP = 1
    DEBUG = 2
    CAPTURE = 3
    TRACE = 4
    POLICY_VERDICT = 5
    TRACE_SOCK = 7
    L7 = 129
    AGENT = 130


class PolicyMatch(IntEnum):
    """`policy_match_type`: how specific the rule was that decided a packet."""

    NONE = 0
    L3_ONLY = 1
    L3_L4 = 2
    L4_ONLY = 3
    ALL = 4
    L3_PROTO = 5
    PROTO_ONLY = 6


class LostSource(IntEnum):
    """Where events were lost: in the kernel's buffer, between worker and agent, or at a slow observer."""

    UNKNOWN_LOST_EVENT_SOURCE = 0
    PERF_EVENT_RING_BUFFER = 1
    OBSERVER_EVENTS_QUEUE = 2
    HUBBLE_RING_BUFFER = 3


class TcpFlag(IntEnum):
    """Bits of the TCP header's flag byte (RFC 9293), and NS above it (RFC 3540)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80
    NS = 0x100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a flow. `id` 0: not on this node. `labels` are sorted `source:key=value`."""

    id: int = 0
    identity: int = 0
    cluster_name: str = ""
    namespace: str = ""
    labels: tuple[str, ...] = ()
    pod_name: str = ""


@dataclass(frozen=True, slots=True)
class Ip:
    source: str
    destination: str
    version: int = 0
    """4 or 6; 0 unknown."""
    source_xlated: str = ""


@dataclass(frozen=True, slots=True)
class L4:
    """`protocol` is the key of the `l4` message: TCP, UDP, SCTP, ICMPv4, ICMPv6. ICMP has type and code, no ports."""

    protocol: str
    source_port: int = 0
    destination_port: int = 0
    flags: int = 0
    icmp_type: int = 0
    icmp_code: int = 0


@dataclass(frozen=True, slots=True)
class Http:
    code: int
    method: str
    url: str
    protocol: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Kafka:
    """`api_key` is the lower-case name of the kind of request. The schema has room for one topic: where a request
    names several, `topic` is all of them with commas between. `client_id` is ours; JSON has it in `extensions`."""

    error_code: int
    api_version: int
    api_key: str
    correlation_id: int
    topic: str
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    """Names end in a dot. Requests have no more than `query`, `observation_source` and `qtypes`; `rcode` is the number
    of RFC 6895, `rrtypes` are those of the answer's records, in their order."""

    query: str
    ips: tuple[str, ...] = ()
    ttl: int = 0
    cnames: tuple[str, ...] = ()
    observation_source: str = ""
    rcode: int = 0
    qtypes: tuple[str, ...] = ()
    rrtypes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class L7:
    """`kind` is the key of the record in the `l7` message (http, dns, kafka), empty when there is none."""

    type: L7Type
    latency_ns: int = 0
    kind: str = ""
    http: Http | None = None
    kafka: Kafka | None = None
    dns: Dns | None = None


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that allowed or denied a flow."""

    name: str
    namespace: str = ""
    kind: str = ""
    revision: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deciding:
    """Our addition to the schema, in `extensions`: where the deciding rule stands and why it decided so.

    `rule` reads like `ingress[0]`; empty with `default_deny`, where no rule allowed the flow.
    """

    rule: str = ""
    file: str = ""
    line: int = 0
    reason: str = ""
    default_deny: bool = False
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """One observation. Field order is that of the schema, which is also the order in JSON."""

    time_ns: int = 0
    uuid: str = ""
    verdict: Verdict = Verdict.VERDICT_UNKNOWN
    drop_reason: int = 0
    ip: Ip | None = None
    l4: L4 | None = None
    source: Endpoint = Endpoint()
    destination: Endpoint = Endpoint()
    type: FlowType = FlowType.UNKNOWN_TYPE
    node_name: str = ""
    source_names: tuple[str, ...] = ()
    destination_names: tuple[str, ...] = ()
    l7: L7 | None = None
    event_type: int = 0
    event_sub_type: int = 0
    source_service: Service | None = None
    destination_service: Service | None = None
    traffic_direction: TrafficDirection = TrafficDirection.TRAFFIC_DIRECTION_UNKNOWN
    policy_match_type: int = 0
    trace_observation_point: str = ""
    drop_reason_desc: str = ""
    is_reply: bool | None = None
    interface_index: int = 0
    interface_name: str = ""
    proxy_port: int = 0
    summary: str = ""
    deciding: Deciding | None = None
    egress_allowed_by: tuple[Policy, ...] = ()
    ingress_allowed_by: tuple[Policy, ...] = ()
    egress_denied_by: tuple[Policy, ...] = ()
    ingress_denied_by: tuple[Policy, ...] = ()
    policy_log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LostEvents:
    """Observations that happened and were not kept. Counters stay exact whatever is lost here."""

    source: LostSource
    count: int
    time_ns: int = 0
    cpu: int | None = None
    node_name: str = ""


Observation = Flow | LostEvents
