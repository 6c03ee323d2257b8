"""`rules` of a `toPorts` item → HTTP rules, or the reason why they cannot be enforced."""

from __future__ import annotations

from config import codes
from config.findings import ValuePath
from config.policy.model import HeaderMatch, HttpFields, L7Rules, PortFields
from config.policy.patterns import fault
from config.policy.resolved import Direction, HttpRule, Protocol
from config.policy.rules import PortSpec
from config.policy.scope import Scope

_Headers = list[tuple[str, str | None]]


def read_l7(
    fields: PortFields, ports: tuple[PortSpec, ...], direction: Direction, scope: Scope, path: ValuePath
) -> tuple[HttpRule, ...] | None:
    """The HTTP rules, or None when there are no L7 rules (an empty list is none)."""
    _refuse_unsupported(fields, direction, scope, path)
    rules = fields.rules
    if rules is None:
        return None
    where = (*path, "rules")
    kinds = _kinds(rules)
    if len(kinds) > 1:
        scope.add(codes.L7_TWO_KINDS, where, f"multiple L7 protocol rule types in one entry: {' and '.join(kinds)}")
    if kinds:
        _check_ports(kinds[0], ports, fields, direction, scope, path)
    if rules.dns:
        scope.add(codes.NOT_DNS, (*where, "dns"), "DNS rules are not enforced by this version", key=True)
    if rules.kafka:
        scope.add(codes.NOT_KAFKA, (*where, "kafka"), "Kafka rules are not enforced by this version", key=True)
    if rules.l7proto or rules.l7:
        name = "l7proto" if rules.l7proto else "l7"
        scope.add(codes.NOT_L7PROTO, (*where, name), f"{name} is not enforced by this version", key=True)
    if not rules.http:
        return None
    return tuple(_http_rule(item, scope, (*where, "http", index)) for index, item in enumerate(rules.http))


def _kinds(rules: L7Rules) -> list[str]:
    given = (("http", rules.http), ("dns", rules.dns), ("kafka", rules.kafka), ("l7proto", rules.l7proto or rules.l7))
    return [name for name, items in given if items]


def _refuse_unsupported(fields: PortFields, direction: Direction, scope: Scope, path: ValuePath) -> None:
    for name, context in (("terminatingTLS", fields.terminating_tls), ("originatingTLS", fields.originating_tls)):
        if context is not None:
            scope.add(codes.NOT_TLS, (*path, name), f"{name} is not enforced by this version", key=True)
    if fields.server_names is not None:
        if any(not name for name in fields.server_names):
            scope.add(codes.SERVER_NAME_BAD, (*path, "serverNames"), "empty server name is not allowed")
        scope.add(
            codes.NOT_SERVER_NAMES, (*path, "serverNames"), "serverNames is not enforced by this version", key=True
        )
    if fields.listener is not None:
        where, name = (*path, "listener"), fields.listener.name
        if direction is Direction.INGRESS:
            scope.add(codes.LISTENER_BAD, where, "Listener is not allowed on ingress", key=True)
        if fields.rules is not None and _kinds(fields.rules):
            scope.add(codes.LISTENER_BAD, where, f"Listener is not allowed with L7 rules ({name})", key=True)
        if not scope.namespace and fields.listener.envoy_config.kind == "CiliumEnvoyConfig":
            scope.add(codes.LISTENER_BAD, where, f'Listener "{name}" in CCNP can not use Kind CiliumEnvoyConfig')
        scope.add(codes.NOT_LISTENER, where, "listener is not enforced by this version", key=True)


def _check_ports(
    kind: str,
    ports: tuple[PortSpec, ...],
    fields: PortFields,
    direction: Direction,
    scope: Scope,
    path: ValuePath,
) -> None:
    """L7 rules need TCP on a port; DNS rules also take UDP, and no ranges."""
    where = (*path, "ports")
    if kind == "dns":
        if direction is Direction.INGRESS:
            scope.add(codes.DNS_DIRECTION, (*path, "rules", "dns"), "DNS rules are not allowed on ingress", key=True)
        if not fields.ports:
            scope.add(codes.DNS_PORTS, path, "port 53 must be specified for DNS rules")
        if any(spec.last > spec.first for spec in ports if not spec.name):
            scope.add(codes.DNS_PORTS, where, "DNS rules do not support port ranges")
        return
    for index, item in enumerate(fields.ports or []):
        protocol = (item.protocol or "ANY").upper()
        if protocol != "TCP":
            message = f"L7 rules can only apply to TCP (not {protocol}) except for DNS rules"
            scope.add(codes.L7_PROTOCOL, (*where, index), message)
    if any(Protocol.TCP in spec.protocols and not spec.name and spec.first == 0 for spec in ports):
        scope.add(codes.L7_PORT_ZERO, where, "L7 rules can not be used when a port is 0")


def _http_rule(item: HttpFields, scope: Scope, path: ValuePath) -> HttpRule:
    for name in ("path", "method", "host"):
        pattern = getattr(item, name)
        problem = fault(pattern) if pattern else None
        if problem is not None:
            too_big, message = problem
            scope.add(codes.REGEX_BIG if too_big else codes.REGEX_BAD, (*path, name), message)
    headers: _Headers = []
    for index, text in enumerate(item.headers or []):
        headers.extend(_header(text, scope, (*path, "headers", index)))
    for index, match in enumerate(item.header_matches or []):
        headers.extend(_header_match(match, scope, (*path, "headerMatches", index)))
    return HttpRule(item.method or "", item.path or "", item.host or "", tuple(dict.fromkeys(headers)))


def _header(text: str, scope: Scope, path: ValuePath) -> _Headers:
    """`Name: value` is cut at the first space; without one only the presence of a header of that name is asked for."""
    name, space, value = text.partition(" ")
    if space:
        name = name.removesuffix(":")
    elif ":" in name:
        scope.add(codes.HEADER_SPELLING, path, f'"{text}" asks for a header of that whole name, which nobody can send')
    if not name:
        scope.add(codes.HEADER_BAD, path, f'"{text}" names no header')
        return []
    return [(name.lower(), value if space else None)]


def _header_match(match: HeaderMatch, scope: Scope, path: ValuePath) -> _Headers:
    if not match.name:
        scope.add(codes.HEADER_BAD, path, "headerMatches needs a name")
        return []
    if match.secret is not None:
        scope.add(codes.NOT_SECRET, (*path, "secret"), "secrets in headerMatches are not read", key=True)
        return []
    if match.mismatch in ("LOG", "ADD", "DELETE", "REPLACE"):
        message = f"mismatch action {match.mismatch} is not enforced by this version"
        scope.add(codes.NOT_HEADER_ACTION, (*path, "mismatch"), message)
        return []
    if match.mismatch == "FAIL":
        scope.add(codes.MISMATCH_FAIL, (*path, "mismatch"), "mismatch: FAIL is what a missing `mismatch` means")
    elif match.mismatch:
        scope.add(codes.SCHEMA_VALUE, (*path, "mismatch"), f'"{match.mismatch}" is no mismatch action')
        return []
    return [(match.name.lower(), match.value or None)]
