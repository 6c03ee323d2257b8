"""Words for flows: the type column, verdict words and the one-line summary.

The agent fills `Flow.summary` with these; printers show what a flow carries.
"""

from __future__ import annotations

from typing import Final

from proxy.flows.model import (
    L4,
    L7,
    Dns,
    EventType,
    Flow,
    Http,
    Kafka,
    L7Type,
    Policy,
    TcpFlag,
    TrafficDirection,
    Verdict,
)
from proxy.flows.reasons import rcode_words, reason_words

DNS_PROXY: Final = "proxy"
"""`observation_source` of DNS records: seen by a proxy, not in packets."""

_MATCH_WORDS: Final = ("none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only")

_VERDICT_EVENT_WORDS: Final = {
    Verdict.FORWARDED: "ALLOWED",
    Verdict.REDIRECTED: "ALLOWED",
    Verdict.DROPPED: "DENIED",
    Verdict.ERROR: "DENIED",
    Verdict.AUDIT: "AUDITED",
}

_ICMPV4: Final = {
    0: "EchoReply",
    3: "DestinationUnreachable",
    4: "SourceQuench",
    5: "Redirect",
    8: "EchoRequest",
    9: "RouterAdvertisement",
    10: "RouterSolicitation",
    11: "TimeExceeded",
    12: "ParameterProblem",
    13: "TimestampRequest",
    14: "TimestampReply",
}
_ICMPV6: Final = {
    1: "DestinationUnreachable",
    2: "PacketTooBig",
    3: "TimeExceeded",
    4: "ParameterProblem",
    128: "EchoRequest",
    129: "EchoReply",
    133: "RouterSolicitation",
    134: "RouterAdvertisement",
    135: "NeighborSolicitation",
    136: "NeighborAdvertisement",
    137: "Redirect",
}


def socket_text(address: str, port: int) -> str:
    """`10.0.0.1:80`, `[fd00::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def http_request(http: Http) -> str:
    return f"{http.protocol} {http.method} {http.url}"


def http_response(http: Http, latency_ns: int) -> str:
    return f"{http.protocol} {http.code} {latency_ns // 1_000_000}ms ({http.method} {http.url})"


def kafka_request(kafka: Kafka) -> str:
    return f"Kafka request {kafka.api_key} correlation id {kafka.correlation_id} topic '{kafka.topic}'"


def kafka_response(kafka: Kafka) -> str:
    told = f"{kafka.api_key} correlation id {kafka.correlation_id} topic '{kafka.topic}'"
    return f"Kafka response {told} return code {kafka.error_code}"


def dns_request(dns: Dns) -> str:
    return f"DNS Query {dns.query} {','.join(dns.qtypes)}"


def dns_response(dns: Dns) -> str:
    """The two spaces of an answer without addresses are Hubble's."""
    if dns.rcode:
        answer = f"RCode: {rcode_words(dns.rcode)}"
    else:
        ips = [_quoted(",".join(dns.ips))] if dns.ips else []
        answer = " ".join((*ips, *([f"CNAMEs: {_quoted(','.join(dns.cnames))}"] if dns.cnames else [])))
    who = "Proxy" if dns.observation_source == DNS_PROXY else "Query"
    return f"DNS Answer {answer} TTL: {dns.ttl} ({who} {dns.query} {','.join(dns.qtypes)})"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def l4_summary(l4: L4) -> str:
    if l4.protocol == "TCP":
        return f"TCP Flags: {tcp_flags(l4.flags)}" if l4.flags else "TCP"
    names = {"ICMPv4": _ICMPV4, "ICMPv6": _ICMPV6}.get(l4.protocol)
    if names is not None:
        return f"{l4.protocol} {names.get(l4.icmp_type, l4.icmp_type)}"
    return l4.protocol


def tcp_flags(flags: int) -> str:
    """Flag names in the order in which people say them: SYN, ACK."""
    order = (TcpFlag.SYN, TcpFlag.FIN, TcpFlag.RST, TcpFlag.PSH, TcpFlag.ACK, TcpFlag.URG, TcpFlag.ECE, TcpFlag.CWR)
    return ", ".join(flag.name for flag in (*order, TcpFlag.NS) if flags & flag)


def summary(flow: Flow) -> str:
    """The summary a flow brought along, or one made from its fields."""
    if flow.summary:
        return flow.summary
    told = _l7_summary(flow.l7) if flow.l7 is not None else ""
    return told or (l4_summary(flow.l4) if flow.l4 is not None else "")


def _l7_summary(l7: L7) -> str:
    is_response = l7.type is L7Type.RESPONSE
    if l7.http is not None:
        return http_response(l7.http, l7.latency_ns) if is_response else http_request(l7.http)
    if l7.kafka is not None:
        return kafka_response(l7.kafka) if is_response else kafka_request(l7.kafka)
    if l7.dns is not None:
        return dns_response(l7.dns) if is_response else dns_request(l7.dns)
    return ""


def type_word(flow: Flow) -> str:
    """`http-request`, `Policy denied`, `policy-verdict:none EGRESS`, …"""
    if flow.l7 is not None:
        kind = flow.l7.kind or "l7"
        word = f"{kind}-{flow.l7.type.name.lower()}"
        return f"{word} {flow.l7.dns.observation_source}".rstrip() if flow.l7.dns is not None else word
    match flow.event_type:
        case EventType.DROP:
            return reason_words(flow.drop_reason or flow.event_sub_type, flow.drop_reason_desc)
        case EventType.POLICY_VERDICT:
            return _policy_verdict(flow)
        case EventType.TRACE | EventType.TRACE_SOCK:
            return flow.trace_observation_point.lower().replace("_", "-") or "unknown"
        case _:
            return "UNKNOWN"


def _policy_verdict(flow: Flow) -> str:
    match = flow.policy_match_type
    words = _MATCH_WORDS[match] if 0 <= match < len(_MATCH_WORDS) else str(match)
    if flow.traffic_direction is TrafficDirection.TRAFFIC_DIRECTION_UNKNOWN:
        return f"policy-verdict:{words}"
    return f"policy-verdict:{words} {flow.traffic_direction.name}"


def verdict_word(flow: Flow, policy_names: bool = False) -> str:
    """The verdict's name, except on policy-verdict events: ALLOWED, DENIED, AUDITED, on request with the policies."""
    if flow.event_type != EventType.POLICY_VERDICT:
        return flow.verdict.name
    word = _VERDICT_EVENT_WORDS.get(flow.verdict, flow.verdict.name)
    policies = deciding_policies(flow) if policy_names else ()
    if not policies:
        return word
    return f"{word} BY {', '.join(f'{p.name} ({p.kind})' if p.kind else p.name for p in policies)}"


def deciding_policies(flow: Flow) -> tuple[Policy, ...]:
    return flow.ingress_denied_by + flow.egress_denied_by or flow.ingress_allowed_by + flow.egress_allowed_by
