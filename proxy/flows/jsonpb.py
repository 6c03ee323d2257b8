"""Flows as proto3 JSON, one `GetFlowsResponse` per line, with the names, order and omissions of Hubble's own output.

64-bit integers are strings, enums are names, zero values are absent. Our additions travel in `extensions`, an Any of
the well-known type `google.protobuf.Struct`, which every protobuf JSON reader can resolve. Reading is lenient about
keys that are not known and strict about values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final, TypeVar

from proxy.flows import model
from proxy.flows.model import (
    L4,
    L7,
    Deciding,
    Dns,
    Endpoint,
    Flow,
    Http,
    Ip,
    Kafka,
    LostEvents,
    Observation,
    Policy,
    Service,
)
from proxy.flows.reasons import reason_name, reason_number
from proxy.flows.times import parse_timestamp, proto_timestamp

STRUCT: Final = "type.googleapis.com/google.protobuf.Struct"
EXTENSION: Final = "penstock"
CLIENT_ID: Final = "kafka_client_id"
"""Within the extension; the schema's Kafka record has no such field."""

# DEL, C1 controls, and what Unicode reorders or breaks lines with; JSON itself escapes C0 controls.
_HOSTILE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

Json = dict[str, Any]
_E = TypeVar("_E", bound=IntEnum)


class FormatError(ValueError):
    """A line that is no observation. The text says what is wrong with it."""


def encode_line(observation: Observation) -> str:
    """One line without its line end."""
    return harmless(json.dumps(to_json(observation), ensure_ascii=False, separators=(",", ":")))


def harmless(text: str) -> str:
    """The same JSON, with the characters that a terminal would act on, or that reorder text, written as escapes."""
    return _HOSTILE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def to_json(observation: Observation) -> Json:
    if isinstance(observation, LostEvents):
        body = {"lost_events": _lost(observation)}
    else:
        body = {"flow": flow_to_json(observation)}
    return body | _present({"node_name": observation.node_name, "time": _time(observation.time_ns)})


def flow_to_json(flow: Flow) -> Json:
    """The `flow` message, keys in the order of the schema."""
    return _present(
        {
            "time": _time(flow.time_ns),
            "uuid": flow.uuid,
            "verdict": _name(flow.verdict),
            "drop_reason": flow.drop_reason,
            "IP": _ip(flow.ip),
            "l4": _l4(flow.l4),
            "source": _endpoint(flow.source),
            "destination": _endpoint(flow.destination),
            "Type": _name(flow.type),
            "node_name": flow.node_name,
            "source_names": list(flow.source_names),
            "destination_names": list(flow.destination_names),
            "l7": _l7(flow.l7),
            "reply": bool(flow.is_reply),
            "event_type": _present({"type": flow.event_type, "sub_type": flow.event_sub_type}),
            "source_service": _service(flow.source_service),
            "destination_service": _service(flow.destination_service),
            "traffic_direction": _name(flow.traffic_direction),
            "policy_match_type": flow.policy_match_type,
            "trace_observation_point": flow.trace_observation_point,
            "drop_reason_desc": flow.drop_reason_desc,
        }
    ) | _second_half(flow)


def _second_half(flow: Flow) -> Json:
    # A wrapper type: absent and false differ.
    reply = {} if flow.is_reply is None else {"is_reply": flow.is_reply}
    return reply | _present(
        {
            "interface": _present({"index": flow.interface_index, "name": flow.interface_name}),
            "proxy_port": flow.proxy_port,
            "Summary": flow.summary,
            "extensions": _extensions(flow),
            "egress_allowed_by": [_policy(p) for p in flow.egress_allowed_by],
            "ingress_allowed_by": [_policy(p) for p in flow.ingress_allowed_by],
            "egress_denied_by": [_policy(p) for p in flow.egress_denied_by],
            "ingress_denied_by": [_policy(p) for p in flow.ingress_denied_by],
            "policy_log": list(flow.policy_log),
        }
    )


def _present(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value}


def _name(value: IntEnum) -> str:
    return value.name if value else ""


def _time(time_ns: int) -> str:
    return proto_timestamp(time_ns) if time_ns else ""


def _ip(ip: Ip | None) -> Json:
    if ip is None:
        return {}
    version = {4: "IPv4", 6: "IPv6"}.get(ip.version, "")
    return _present(
        {"source": ip.source, "source_xlated": ip.source_xlated, "destination": ip.destination, "ipVersion": version}
    )


def _l4(l4: L4 | None) -> Json:
    if l4 is None:
        return {}
    if l4.protocol.startswith("ICMP"):
        return {l4.protocol: _present({"type": l4.icmp_type, "code": l4.icmp_code})}
    flags = {flag.name: True for flag in model.TcpFlag if l4.flags & flag}
    ports = {"source_port": l4.source_port, "destination_port": l4.destination_port}
    return {l4.protocol: _present({**ports, "flags": flags})}


def _endpoint(endpoint: Endpoint) -> Json:
    return _present(
        {
            "ID": endpoint.id,
            "identity": endpoint.identity,
            "cluster_name": endpoint.cluster_name,
            "namespace": endpoint.namespace,
            "labels": list(endpoint.labels),
            "pod_name": endpoint.pod_name,
        }
    )


def _l7(l7: L7 | None) -> Json:
    if l7 is None:
        return {}
    fields: Json = _present({"type": _name(l7.type), "latency_ns": str(l7.latency_ns) if l7.latency_ns else ""})
    if l7.http is not None:
        http = l7.http
        headers = [_present({"key": key, "value": value}) for key, value in sorted(http.headers)]
        fields["http"] = _present(
            {"code": http.code, "method": http.method, "url": http.url, "protocol": http.protocol, "headers": headers}
        )
    elif l7.kafka is not None:
        fields["kafka"] = _kafka(l7.kafka)
    elif l7.dns is not None:
        fields["dns"] = _dns(l7.dns)
    elif l7.kind:
        fields[l7.kind] = {}
    return fields


def _kafka(kafka: Kafka) -> Json:
    return _present(
        {
            "error_code": kafka.error_code,
            "api_version": kafka.api_version,
            "api_key": kafka.api_key,
            "correlation_id": kafka.correlation_id,
            "topic": kafka.topic,
        }
    )


def _dns(dns: Dns) -> Json:
    return _present(
        {
            "query": dns.query,
            "ips": list(dns.ips),
            "ttl": dns.ttl,
            "cnames": list(dns.cnames),
            "observation_source": dns.observation_source,
            "rcode": dns.rcode,
            "qtypes": list(dns.qtypes),
            "rrtypes": list(dns.rrtypes),
        }
    )


def _service(service: Service | None) -> Json:
    return _present({"name": service.name, "namespace": service.namespace}) if service else {}


def _policy(policy: Policy) -> Json:
    revision = str(policy.revision) if policy.revision else ""
    return _present(
        {
            "name": policy.name,
            "namespace": policy.namespace,
            "labels": list(policy.labels),
            "revision": revision,
            "kind": policy.kind,
        }
    )


def _extensions(flow: Flow) -> Json:
    deciding = flow.deciding or Deciding()
    client = flow.l7.kafka.client_id if flow.l7 is not None and flow.l7.kafka is not None else ""
    if flow.deciding is None and not client:
        return {}
    value = _present(
        {
            "rule": deciding.rule,
            "file": deciding.file,
            "line": deciding.line,
            "reason": deciding.reason,
            "default_deny": deciding.default_deny,
            "revision": str(deciding.revision) if deciding.revision else "",
            CLIENT_ID: client,
        }
    )
    return {"@type": STRUCT, "value": {EXTENSION: value}}


def _lost(lost: LostEvents) -> Json:
    cpu = {} if lost.cpu is None else {"cpu": lost.cpu}
    return _present({"source": _name(lost.source), "num_events_lost": str(lost.count)}) | cpu


def decode_line(line: str | bytes) -> Observation | None:
    """The observation on a line; None for kinds that carry none (node status). FormatError says what is wrong."""
    try:
        document = json.loads(line)
    except ValueError as error:
        raise FormatError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise FormatError("not a JSON object")
    try:
        if "flow" in document:
            return flow_from_json(document["flow"])
        if "lost_events" in document:
            return _lost_from(document)
        # Also a bare Flow message, as exporters of other tools write it.
        return flow_from_json(document) if "IP" in document or "Type" in document else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"not a flow: {error}") from None


def flow_from_json(data: Mapping[str, Any]) -> Flow:
    event = data.get("event_type", {})
    interface = data.get("interface", {})
    desc = _text(data, "drop_reason_desc")
    number = int(data.get("drop_reason", 0))
    return Flow(
        time_ns=_time_from(data),
        uuid=_text(data, "uuid"),
        verdict=_enum(model.Verdict, data.get("verdict")),
        drop_reason=number or reason_number(desc),
        ip=_ip_from(data.get("IP")),
        l4=_l4_from(data.get("l4")),
        source=_endpoint_from(data.get("source", {})),
        destination=_endpoint_from(data.get("destination", {})),
        type=_enum(model.FlowType, data.get("Type")),
        node_name=_text(data, "node_name"),
        source_names=_texts(data, "source_names"),
        destination_names=_texts(data, "destination_names"),
        l7=_l7_from(data.get("l7"), _extension(data)),
        event_type=int(event.get("type", 0)),
        event_sub_type=int(event.get("sub_type", 0)),
        source_service=_service_from(data.get("source_service")),
        destination_service=_service_from(data.get("destination_service")),
        traffic_direction=_enum(model.TrafficDirection, data.get("traffic_direction")),
        policy_match_type=int(data.get("policy_match_type", 0)),
        trace_observation_point=_text(data, "trace_observation_point"),
        drop_reason_desc=desc or reason_name(number),
        is_reply=_reply_from(data),
        interface_index=int(interface.get("index", 0)),
        interface_name=_text(interface, "name"),
        proxy_port=int(data.get("proxy_port", 0)),
        summary=_text(data, "Summary"),
        deciding=_deciding_from(_extension(data)),
        egress_allowed_by=_policies_from(data, "egress_allowed_by"),
        ingress_allowed_by=_policies_from(data, "ingress_allowed_by"),
        egress_denied_by=_policies_from(data, "egress_denied_by"),
        ingress_denied_by=_policies_from(data, "ingress_denied_by"),
        policy_log=_texts(data, "policy_log"),
    )


def _enum(kind: type[_E], value: str | int | None) -> _E:
    """A member by name or number; a name of a newer schema counts as unknown."""
    if isinstance(value, int):
        return kind(value)
    return kind.__members__.get(value or "", kind(0))


def _reply_from(data: Mapping[str, Any]) -> bool | None:
    value = data.get("is_reply")
    return None if value is None else bool(value)


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = tuple(data.get(key, ()))
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} is no list of texts")
    return values


def _time_from(data: Mapping[str, Any]) -> int:
    text = _text(data, "time")
    return parse_timestamp(text) if text else 0


def _ip_from(data: Mapping[str, Any] | None) -> Ip | None:
    if not data:
        return None
    version = {"IPv4": 4, "IPv6": 6}.get(_text(data, "ipVersion"), 0)
    return Ip(_text(data, "source"), _text(data, "destination"), version, _text(data, "source_xlated"))


def _l4_from(data: Mapping[str, Any] | None) -> L4 | None:
    if not data:
        return None
    protocol, fields = next(iter(data.items()))
    flags = sum(model.TcpFlag[name] for name, is_set in fields.get("flags", {}).items() if is_set)
    return L4(
        protocol,
        int(fields.get("source_port", 0)),
        int(fields.get("destination_port", 0)),
        flags,
        int(fields.get("type", 0)),
        int(fields.get("code", 0)),
    )


def _endpoint_from(data: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        int(data.get("ID", 0)),
        int(data.get("identity", 0)),
        _text(data, "cluster_name"),
        _text(data, "namespace"),
        _texts(data, "labels"),
        _text(data, "pod_name"),
    )


def _l7_from(data: Mapping[str, Any] | None, extension: Mapping[str, Any] | None) -> L7 | None:
    if not data:
        return None
    kind = next((name for name in ("http", "dns", "kafka") if name in data), "")
    http = _http_from(data["http"]) if kind == "http" else None
    kafka = _kafka_from(data["kafka"], extension or {}) if kind == "kafka" else None
    dns = _dns_from(data["dns"]) if kind == "dns" else None
    return L7(_enum(model.L7Type, data.get("type")), int(data.get("latency_ns", 0)), kind, http, kafka, dns)


def _http_from(fields: Mapping[str, Any]) -> Http:
    headers = tuple((_text(h, "key"), _text(h, "value")) for h in fields.get("headers", ()))
    text = (_text(fields, "method"), _text(fields, "url"), _text(fields, "protocol"))
    return Http(int(fields.get("code", 0)), *text, headers)


def _kafka_from(fields: Mapping[str, Any], extension: Mapping[str, Any]) -> Kafka:
    return Kafka(
        int(fields.get("error_code", 0)),
        int(fields.get("api_version", 0)),
        _text(fields, "api_key"),
        int(fields.get("correlation_id", 0)),
        _text(fields, "topic"),
        _text(extension, CLIENT_ID),
    )


def _dns_from(fields: Mapping[str, Any]) -> Dns:
    return Dns(
        _text(fields, "query"),
        _texts(fields, "ips"),
        int(fields.get("ttl", 0)),
        _texts(fields, "cnames"),
        _text(fields, "observation_source"),
        int(fields.get("rcode", 0)),
        _texts(fields, "qtypes"),
        _texts(fields, "rrtypes"),
    )


def _service_from(data: Mapping[str, Any] | None) -> Service | None:
    return Service(_text(data, "name"), _text(data, "namespace")) if data else None


def _policies_from(data: Mapping[str, Any], key: str) -> tuple[Policy, ...]:
    return tuple(
        Policy(
            _text(item, "name"),
            _text(item, "namespace"),
            _text(item, "kind"),
            int(item.get("revision", 0)),
            _texts(item, "labels"),
        )
        for item in data.get(key, ())
    )


def _extension(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What is ours of a flow's `extensions`, if anything is."""
    extensions = data.get("extensions", {})
    value = extensions.get("value") if extensions.get("@type") == STRUCT else None
    fields = value.get(EXTENSION) if isinstance(value, dict) else None
    return fields if isinstance(fields, dict) else None


def _deciding_from(fields: Mapping[str, Any] | None) -> Deciding | None:
    if fields is None or fields.keys() == {CLIENT_ID}:
        return None
    return Deciding(
        _text(fields, "rule"),
        _text(fields, "file"),
        int(fields.get("line", 0)),
        _text(fields, "reason"),
        bool(fields.get("default_deny", False)),
        int(fields.get("revision", 0)),
    )


def _lost_from(document: Mapping[str, Any]) -> LostEvents:
    data = document["lost_events"]
    return LostEvents(
        _enum(model.LostSource, data.get("source")),
        int(data.get("num_events_lost", 0)),
        _time_from(document),
        data.get("cpu"),
        _text(document, "node_name"),
    )
