"""L7 rules of a `toPorts` item: which kind, whether it is possible there, and what cannot be enforced."""

from __future__ import annotations

from config import codes
from config.findings import Code, ValuePath
from config.policy.dns_rules import read_dns_rules
from config.policy.http_rules import read_http_rules
from config.policy.kafka_rules import read_kafka_rules
from config.policy.model import L7Rules, PortFields
from config.policy.resolved import Direction, L7Rule, Protocol, ServerName
from config.policy.rules import PortSpec
from config.policy.scope import Scope
from config.policy.sni import server_name_fault


def read_l7(
    fields: PortFields, ports: tuple[PortSpec, ...], direction: Direction, scope: Scope, path: ValuePath
) -> tuple[L7Rule, ...] | None:
    """The rules, all of one kind, or None when there are none (an empty list is none)."""
    _refuse_unsupported(fields, direction, scope, path)
    kinds = _kinds(fields.rules) if fields.rules is not None else []
    where = (*path, "rules")
    if len(kinds) > 1:
        scope.add(codes.L7_TWO_KINDS, where, f"multiple L7 protocol rule types in one entry: {' and '.join(kinds)}")
    if kinds:
        _check_ports(kinds[0], ports, fields, direction, scope, path)
    if fields.server_names:
        if kinds:
            message = "ServerNames are not allowed with L7 rules without TLS termination"
            scope.add(codes.SERVER_NAMES_WITH_L7, (*path, "serverNames"), message, key=True)
        return _server_names(fields, ports, scope, path)
    if fields.rules is None or not kinds:
        return None
    return _read(fields.rules, direction, scope, where)


def _read(rules: L7Rules, direction: Direction, scope: Scope, path: ValuePath) -> tuple[L7Rule, ...] | None:
    if rules.dns:
        return read_dns_rules(rules.dns, scope, (*path, "dns"))
    if rules.kafka:
        if direction is Direction.EGRESS:
            scope.add(codes.KAFKA_DIRECTION, (*path, "kafka"), "Kafka rules are not allowed on egress", key=True)
        _warn(codes.KAFKA_PORTABLE, scope, (*path, "kafka"))
        return read_kafka_rules(rules.kafka, scope, (*path, "kafka"))
    if rules.l7proto or rules.l7:
        name = "l7proto" if rules.l7proto else "l7"
        scope.add(codes.NOT_L7PROTO, (*path, name), f"{name} is not enforced by this version", key=True)
        return None
    return read_http_rules(rules.http or [], scope, (*path, "http"))


def _warn(code: Code, scope: Scope, path: ValuePath) -> None:
    scope.add(code, path, code.title, key=True)


def _kinds(rules: L7Rules) -> list[str]:
    given = (("http", rules.http), ("dns", rules.dns), ("kafka", rules.kafka), ("l7proto", rules.l7proto or rules.l7))
    return [name for name, items in given if items]


def _server_names(
    fields: PortFields, ports: tuple[PortSpec, ...], scope: Scope, path: ValuePath
) -> tuple[ServerName, ...]:
    where = (*path, "serverNames")
    _check_tcp(ports, fields, scope, path)
    names: list[ServerName] = []
    for index, text in enumerate(fields.server_names or []):
        problem = server_name_fault(text)
        if problem is not None:
            scope.add(codes.SERVER_NAME_BAD, (*where, index), problem)
        names.append(ServerName(text.lower()))
    return tuple(dict.fromkeys(names))


def _refuse_unsupported(fields: PortFields, direction: Direction, scope: Scope, path: ValuePath) -> None:
    for name, context in (("terminatingTLS", fields.terminating_tls), ("originatingTLS", fields.originating_tls)):
        if context is not None:
            scope.add(codes.NOT_TLS, (*path, name), f"{name} is not enforced by this version", key=True)
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
    if kind != "dns":
        _check_tcp(ports, fields, scope, path)
        return
    if direction is Direction.INGRESS:
        scope.add(codes.DNS_DIRECTION, (*path, "rules", "dns"), "DNS rules are not allowed on ingress", key=True)
    if not fields.ports:
        scope.add(codes.DNS_PORTS, path, "port 53 must be specified for DNS rules")
    if any(spec.last > spec.first for spec in ports if not spec.name):
        scope.add(codes.DNS_PORTS, where, "DNS rules do not support port ranges")


def _check_tcp(ports: tuple[PortSpec, ...], fields: PortFields, scope: Scope, path: ValuePath) -> None:
    where = (*path, "ports")
    for index, item in enumerate(fields.ports or []):
        protocol = (item.protocol or "ANY").upper()
        if protocol != "TCP":
            message = f"L7 rules can only apply to TCP (not {protocol}) except for DNS rules"
            scope.add(codes.L7_PROTOCOL, (*where, index), message)
    if any(Protocol.TCP in spec.protocols and not spec.name and spec.first == 0 for spec in ports):
        scope.add(codes.L7_PORT_ZERO, where, "L7 rules can not be used when a port is 0")
