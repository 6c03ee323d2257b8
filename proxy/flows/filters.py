"""Flow filters in the terms of Hubble's `FlowFilter`: values of one field are ORed, fields are ANDed.

A filter set is allow-filters minus deny-filters. Each field of a filter is one row of `FIELDS`: its JSON key and a
function from the wanted values to a predicate. A new filter is a new row (and a flag in `flags`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from proxy.flows import labels as label_selectors
from proxy.flows.model import Flow, TrafficDirection, Verdict
from proxy.flows.reasons import DROP_REASONS

Predicate = Callable[[Flow], bool]
Json = Mapping[str, Any]

_STATUS: Final = re.compile(r"[1-5][0-9]{2}|[1-5][0-9]?\+")
_PROTOCOL_NAMES: Final = {
    "icmp": ("ICMPv4", "ICMPv6"),
    "icmpv4": ("ICMPv4",),
    "icmpv6": ("ICMPv6",),
    "sctp": ("SCTP",),
    "tcp": ("TCP",),
    "udp": ("UDP",),
    "vrrp": ("VRRP",),
    "igmp": ("IGMP",),
}
_NAME_PATTERN: Final = re.compile(r"[-a-z0-9_.*]+")
_NAME_CHARACTERS: Final = r"[-a-z0-9_.\\]*"
"""Backslashes: names have all other bytes as `\\DDD`."""
_L7_PROTOCOLS: Final = ("dns", "http", "kafka")
_REASON_NAMES: Final = frozenset(name for name, _ in DROP_REASONS.values())


class FilterError(ValueError):
    """A filter that cannot be; the text says which value of which field, and what would do."""


def _verdict(values: Sequence[str]) -> Predicate:
    wanted = frozenset(_member(value, Verdict.__members__, "verdict") for value in values)
    return lambda flow: flow.verdict in wanted


def _member(value: str, members: Mapping[str, Any], what: str) -> Any:
    if value not in members:
        raise FilterError(
            f"unknown {what} {value!r}: expected one of {', '.join(m for m in members if 'UNKNOWN' not in m)}"
        )
    return members[value]


def _event_type(values: Sequence[Json]) -> Predicate:
    wanted = []
    for value in values:
        if not isinstance(value, Mapping) or not isinstance(value.get("type"), int):
            raise FilterError(f'event_type: expected {{"type": NUMBER}}, not {value!r}')
        sub_type = value.get("sub_type", 0) if value.get("match_sub_type") else None
        wanted.append((value["type"], sub_type))
    return lambda flow: any(
        flow.event_type == kind and (sub is None or flow.event_sub_type == sub) for kind, sub in wanted
    )


def _protocol(values: Sequence[str]) -> Predicate:
    l4: set[str] = set()
    l7: set[str] = set()
    for value in values:
        name = value.lower()
        if name in _L7_PROTOCOLS:
            l7.add(name)
        elif name in _PROTOCOL_NAMES:
            l4.update(_PROTOCOL_NAMES[name])
        else:
            known = ", ".join((*_PROTOCOL_NAMES, *_L7_PROTOCOLS))
            raise FilterError(f"unknown protocol {value!r}: expected one of {known}")
    return lambda flow: bool((flow.l7 and flow.l7.kind in l7) or (flow.l4 and flow.l4.protocol in l4))


def _pod(side: str) -> Callable[[Sequence[str]], Predicate]:
    def make(values: Sequence[str]) -> Predicate:
        wanted = []
        for value in values:
            namespace, slash, name = value.partition("/")
            wanted.append((namespace, name) if slash else ("default", namespace))

        def matches(flow: Flow) -> bool:
            endpoint = getattr(flow, side)
            # An empty namespace means all of them; an empty name, any pod of the namespace.
            return any(
                namespace in ("", endpoint.namespace) and endpoint.pod_name.startswith(name)
                for namespace, name in wanted
                if endpoint.pod_name or (namespace and not name)
            )

        return matches

    return make


def _label(side: str) -> Callable[[Sequence[str]], Predicate]:
    def make(values: Sequence[str]) -> Predicate:
        try:
            wanted = [label_selectors.selector(value) for value in values]
        except ValueError as error:
            raise FilterError(str(error)) from None
        return lambda flow: any(select(getattr(flow, side).labels) for select in wanted)

    return make


def _ip(side: str) -> Callable[[Sequence[str]], Predicate]:
    def make(values: Sequence[str]) -> Predicate:
        try:
            wanted = [ip_network(value, strict=False) for value in values]
        except ValueError as error:
            raise FilterError(f"not an address or CIDR: {error}") from None

        def matches(flow: Flow) -> bool:
            text = getattr(flow.ip, side) if flow.ip else ""
            if not text:
                return False
            try:
                address = ip_address(text)
            except ValueError:
                return False
            return any(address in network for network in wanted)

        return matches

    return make


def _port(side: str) -> Callable[[Sequence[str]], Predicate]:
    attribute = f"{side}_port"

    def make(values: Sequence[str]) -> Predicate:
        wanted = frozenset(_number(value, "port", 65535) for value in values)
        return lambda flow: bool(
            flow.l4 and not flow.l4.protocol.startswith("ICMP") and getattr(flow.l4, attribute) in wanted
        )

    return make


def _identity(side: str) -> Callable[[Sequence[int]], Predicate]:
    def make(values: Sequence[int]) -> Predicate:
        wanted = frozenset(_number(value, "identity", 2**32 - 1) for value in values)
        return lambda flow: getattr(flow, side).identity in wanted

    return make


def _number(value: int | str, what: str, maximum: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise FilterError(f"{what} {value!r} is no number") from None
    if not 0 <= number <= maximum:
        raise FilterError(f"{what} {value!r} is out of range 0..{maximum}")
    return number


def _http_status(values: Sequence[str]) -> Predicate:
    for value in values:
        if not _STATUS.fullmatch(value):
            raise FilterError(f"HTTP status {value!r}: expected a code such as 404 or a prefix such as 4+ or 50+")
    exact = frozenset(value for value in values if not value.endswith("+"))
    prefixes = tuple(value[:-1] for value in values if value.endswith("+"))

    def matches(flow: Flow) -> bool:
        http = flow.l7.http if flow.l7 else None
        # Requests have no code and match nothing.
        if http is None or not http.code:
            return False
        code = str(http.code)
        return code in exact or code.startswith(prefixes)

    return matches


def _http_method(values: Sequence[str]) -> Predicate:
    wanted = frozenset(value.upper() for value in values)
    return lambda flow: bool(flow.l7 and flow.l7.http and flow.l7.http.method.upper() in wanted)


def _expressions(values: Sequence[str]) -> list[Any]:
    # RE2 as in the policies: linear time whatever an observer asks the agent to match.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return [re2.compile(value, options) for value in values]
    except re2.error as error:
        raise FilterError(f"not a regular expression: {error}") from None


def _http_text(of: Callable[[str], str]) -> Callable[[Sequence[str]], Predicate]:
    def make(values: Sequence[str]) -> Predicate:
        wanted = _expressions(values)
        return lambda flow: bool(
            flow.l7 and flow.l7.http and any(regex.search(of(flow.l7.http.url)) for regex in wanted)
        )

    return make


def _dns_query(values: Sequence[str]) -> Predicate:
    wanted = _expressions(values)
    return lambda flow: bool(flow.l7 and flow.l7.dns and any(regex.search(flow.l7.dns.query) for regex in wanted))


def _fqdn(side: str) -> Callable[[Sequence[str]], Predicate]:
    attribute = f"{side}_names"

    def make(values: Sequence[str]) -> Predicate:
        wanted = _expressions([_name_expression(value) for value in values])
        return lambda flow: any(
            regex.search(name.lower().removesuffix(".")) for name in getattr(flow, attribute) for regex in wanted
        )

    return make


def _name_expression(pattern: str) -> str:
    plain = pattern.lower().strip().removesuffix(".")
    if not _NAME_PATTERN.fullmatch(plain):
        raise FilterError(f"not a name: {pattern!r}; expected for example api.example.com or *.example.com")
    return f"^{plain.replace('.', '[.]').replace('*', _NAME_CHARACTERS)}$"


def url_path(url: str) -> str:
    """The path of an absolute URL, without its query."""
    rest = url.partition("://")[2] or url
    slash = rest.find("/")
    return rest[slash:].partition("?")[0].partition("#")[0] if slash >= 0 else ""


def _drop_reason(values: Sequence[str]) -> Predicate:
    for value in values:
        if value not in _REASON_NAMES:
            raise FilterError(f"unknown drop reason {value!r}: expected one of {', '.join(sorted(_REASON_NAMES))}")
    wanted = frozenset(values)
    return lambda flow: flow.drop_reason_desc in wanted


def _direction(values: Sequence[str]) -> Predicate:
    members = {name: member for name, member in TrafficDirection.__members__.items() if member}
    wanted = frozenset(_member(value.upper(), members, "traffic direction") for value in values)
    return lambda flow: flow.traffic_direction in wanted


def _reply(values: Sequence[bool]) -> Predicate:
    return lambda flow: flow.is_reply is not None and flow.is_reply in values


def _uuid(values: Sequence[str]) -> Predicate:
    wanted = frozenset(values)
    return lambda flow: flow.uuid in wanted


FIELDS: Final[Mapping[str, Callable[[Any], Predicate]]] = {
    "uuid": _uuid,
    "source_ip": _ip("source"),
    "source_pod": _pod("source"),
    "source_fqdn": _fqdn("source"),
    "source_label": _label("source"),
    "source_port": _port("source"),
    "source_identity": _identity("source"),
    "destination_ip": _ip("destination"),
    "destination_pod": _pod("destination"),
    "destination_fqdn": _fqdn("destination"),
    "destination_label": _label("destination"),
    "destination_port": _port("destination"),
    "destination_identity": _identity("destination"),
    "traffic_direction": _direction,
    "verdict": _verdict,
    "drop_reason_desc": _drop_reason,
    "event_type": _event_type,
    "http_status_code": _http_status,
    "protocol": _protocol,
    "reply": _reply,
    "dns_query": _dns_query,
    "http_method": _http_method,
    "http_path": _http_text(url_path),
    "http_url": _http_text(str),
}

# Fields whose values are not texts.
_KINDS: Final = {"source_identity": int, "destination_identity": int, "reply": bool, "event_type": dict}


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """One filter, compiled. `spec` is its JSON form, as users paste it."""

    spec: Json
    predicates: tuple[Predicate, ...]

    @classmethod
    def parse(cls, spec: object) -> FlowFilter:
        """From JSON text or what it holds. FilterError on anything that is no filter."""
        if isinstance(spec, str):
            try:
                spec = json.loads(spec)
            except ValueError as error:
                raise FilterError(f"filter is not JSON: {error}") from None
        if not isinstance(spec, Mapping):
            raise FilterError(f"filter is not a JSON object: {spec!r}")
        predicates = []
        for key, values in spec.items():
            make = FIELDS.get(key)
            if make is None:
                raise FilterError(f"unknown filter field {key!r}: known are {', '.join(FIELDS)}")
            kind = _KINDS.get(key, str)
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise FilterError(f"{key}: expected a list with at least one value")
            if not all(isinstance(value, kind) for value in values):
                raise FilterError(f"{key}: every value must be of type {kind.__name__}")
            predicates.append(make(values))
        return cls(dict(spec), tuple(predicates))

    def matches(self, flow: Flow) -> bool:
        return all(predicate(flow) for predicate in self.predicates)

    def text(self) -> str:
        return json.dumps(self.spec, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class FlowFilters:
    """Allow-filters minus deny-filters; no allow-filter means everything."""

    allow: tuple[FlowFilter, ...] = ()
    deny: tuple[FlowFilter, ...] = ()

    def matches(self, flow: Flow) -> bool:
        if self.allow and not any(item.matches(flow) for item in self.allow):
            return False
        return not any(item.matches(flow) for item in self.deny)

    def may_match(self, verdict: int, event_type: int) -> bool:
        """Whether a flow with this verdict and type could match: asked before a flow is built."""
        if not self.allow:
            return True
        name = Verdict(verdict).name
        return any(_may(item.spec, name, event_type) for item in self.allow)


def _may(spec: Json, verdict: str, event_type: int) -> bool:
    if "verdict" in spec and verdict not in spec["verdict"]:
        return False
    return "event_type" not in spec or any(item["type"] == event_type for item in spec["event_type"])
