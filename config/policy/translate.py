"""A CiliumNetworkPolicy that has the right form → what it means (`rules.Document`), or findings why not.

Here are the differences between a missing and an empty list, and everything that Cilium accepts but Penstock does not
enforce: refused with a code, never passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

from config import codes
from config.findings import ValuePath
from config.policy.l7 import read_l7
from config.policy.model import (
    EgressFields,
    EntryFields,
    IngressFields,
    Metadata,
    PolicyObject,
    PortDenyFields,
    PortFields,
    RuleFields,
)
from config.policy.peers import read_peers
from config.policy.ports import read_icmps, read_ports
from config.policy.resolved import Direction, DnsRule, HttpRule, KafkaRule, L7Kind, L7Rule, kind_of
from config.policy.rules import Document, Entry, PolicyRule, PortRule
from config.policy.scope import Scope
from config.policy.selectors import Selector
from config.policy.subjects import is_about_init, subject_selector

_SECTIONS = (
    ("ingress", "ingress", Direction.INGRESS, False),
    ("ingressDeny", "ingress_deny", Direction.INGRESS, True),
    ("egress", "egress", Direction.EGRESS, False),
    ("egressDeny", "egress_deny", Direction.EGRESS, True),
)
_LONGEST_LOG = 32
AUDIT = "policy.penstock.io/audit"
"""Annotation of policies that are only tried out."""

_OWN_LABELS = "io.cilium.k8s.policy."


def translate(policy: PolicyObject, scope: Scope) -> Document | None:
    """The document's meaning; None when `scope` has an error."""
    if policy.spec is None and not policy.specs:
        scope.add(codes.RULE_EMPTY_OBJECT, (), "the policy has neither spec nor specs")
    if policy.description is not None:
        scope.add(codes.DESCRIPTION_OUTSIDE, ("description",), "description stands outside of the rule", key=True)
    given: list[tuple[RuleFields, ValuePath, str]] = []
    if policy.spec is not None:
        given.append((policy.spec, ("spec",), ""))
    for index, item in enumerate(policy.specs or []):
        given.append((item, ("specs", index), f"specs[{index}]."))
    audit = read_audit(policy.metadata, scope)
    rules = [_rule(fields, scope, path, prefix, audit) for fields, path, prefix in given]
    if not scope.ok:
        return None
    return Document(
        kind=scope.kind,
        namespace=scope.namespace,
        name=policy.metadata.name,
        file=scope.file,
        line=scope.place.line,
        rules=tuple(rule for rule in rules if rule is not None),
    )


def read_audit(metadata: Metadata, scope: Scope) -> bool:
    """Is the policy only tried out?"""
    text = (metadata.annotations or {}).get(AUDIT, "false")
    if text not in ("true", "false"):
        scope.add(codes.AUDIT_BAD, ("metadata", "annotations", AUDIT), codes.AUDIT_BAD.title)
    return text == "true"


def _rule(fields: RuleFields, scope: Scope, path: ValuePath, prefix: str, audit: bool) -> PolicyRule | None:
    subject = _subject(fields, scope, path)
    _check_labels(fields, scope, path)
    entries: list[Entry] = []
    governs, denies = [False, False], [False, False]
    sections = 0
    for name, attribute, direction, deny in _SECTIONS:
        items: list[EntryFields] | None = getattr(fields, attribute)
        if items is None:
            continue
        if not items and not deny:
            scope.add(codes.EMPTY_SECTION, (*path, name), f"`{name}: []` is taken as default deny", key=True)
        if items or not deny:
            sections += 1
            governs[direction] = denies[direction] = True
        for index, item in enumerate(items):
            where = (*path, name, index)
            entry_name = f"{prefix}{name}[{index}]"
            entries.append(_entry(item, direction, deny, entry_name, scope, where, is_about_init(subject)))
    if not sections:
        message = "rule must have at least one of Ingress, IngressDeny, Egress, EgressDeny"
        scope.add(codes.RULE_NO_SECTIONS, path, message)
    chosen = fields.enable_default_deny
    for direction, wanted in zip(Direction, (chosen.ingress, chosen.egress) if chosen else (None, None), strict=True):
        if wanted is not None:
            denies[direction] = wanted
            governs[direction] |= wanted
    entries = [_visible(entry) if not denies[entry.direction] else entry for entry in entries]
    return PolicyRule(
        subject=subject,
        entries=tuple(entries),
        governs=(governs[0], governs[1]),
        default_deny=(denies[0], denies[1]),
        log=_log(fields, scope, path),
        audit=audit,
    )


_ANYTHING: dict[L7Kind, L7Rule] = {
    L7Kind.HTTP: HttpRule(),
    L7Kind.DNS: DnsRule(pattern="*"),
    L7Kind.KAFKA: KafkaRule(),
}


def _visible(entry: Entry) -> Entry:
    """Without default deny, L7 rules refuse nothing: one that matches everything joins them."""
    if entry.deny or entry.port_rules is None:
        return entry
    port_rules = tuple(PortRule(rule.ports, _with_anything(rule.l7)) for rule in entry.port_rules)
    return Entry(entry.direction, entry.deny, entry.name, entry.line, entry.peers, port_rules)


def _with_anything(rules: tuple[L7Rule, ...] | None) -> tuple[L7Rule, ...] | None:
    if not rules:
        return rules
    anything = _ANYTHING.get(kind_of(rules[0]))
    # No server name matches connections that name none: the list goes.
    return None if anything is None else (*rules, anything)


def _subject(fields: RuleFields, scope: Scope, path: ValuePath) -> Selector:
    if fields.endpoint_selector is not None and fields.node_selector is not None:
        message = "rule cannot have both EndpointSelector and NodeSelector"
        scope.add(codes.RULE_TWO_SELECTORS, (*path, "nodeSelector"), message, key=True)
    elif fields.endpoint_selector is None and fields.node_selector is None:
        scope.add(codes.RULE_NO_SELECTOR, path, "rule must have one of EndpointSelector or NodeSelector")
    if fields.node_selector is not None:
        where = (*path, "nodeSelector")
        if scope.namespace:
            message = f"Invalid {scope.kind} spec: rule cannot have NodeSelector"
            scope.add(codes.RULE_NODE_IN_CNP, where, message, key=True)
        else:
            _check_host_l7(fields, scope, path)
            scope.add(codes.NOT_NODE_SELECTOR, where, "nodeSelector is not enforced by this version", key=True)
    if fields.endpoint_selector is None:
        return Selector()
    return subject_selector(fields.endpoint_selector, scope, (*path, "endpointSelector"))


def _check_host_l7(fields: RuleFields, scope: Scope, path: ValuePath) -> None:
    sections: tuple[tuple[str, Sequence[IngressFields | EgressFields]], ...] = (
        ("ingress", fields.ingress or []),
        ("egress", fields.egress or []),
    )
    for name, entries in sections:
        for index, entry in enumerate(entries):
            for number, port in enumerate(entry.to_ports or []):
                where = (*path, name, index, "toPorts", number, "rules")
                if port.rules is None:
                    continue
                if name == "ingress":
                    scope.add(codes.HOST_L7, where, "L7 policy is not supported on host ingress yet", key=True)
                elif port.rules.http:
                    message = "L7 protocol HTTP is not supported on host egress yet"
                    scope.add(codes.HOST_L7, where, message, key=True)


def _check_labels(fields: RuleFields, scope: Scope, path: ValuePath) -> None:
    for index, item in enumerate(fields.labels or []):
        if item.key.startswith(_OWN_LABELS):
            message = f'label "{item.key}" is given by the system'
            scope.add(codes.LABEL_RESERVED, (*path, "labels", index, "key"), message)


def _log(fields: RuleFields, scope: Scope, path: ValuePath) -> str:
    text = fields.log.value if fields.log and fields.log.value else ""
    if len(text) > _LONGEST_LOG or not text.isprintable():
        message = f"log.value must be printable and have at most {_LONGEST_LOG} characters"
        scope.add(codes.LOG_BAD, (*path, "log", "value"), message)
    return text


def _entry(
    fields: EntryFields,
    direction: Direction,
    deny: bool,
    name: str,
    scope: Scope,
    path: ValuePath,
    about_init: bool,
) -> Entry:
    peers = read_peers(fields, scope, path, about_init)
    to_ports: list[PortDenyFields] = list(getattr(fields, "to_ports", None) or [])
    if fields.icmps and to_ports:
        scope.add(codes.ICMP_WITH_PORTS, (*path, "icmps"), "icmps and toPorts cannot be in one entry", key=True)
    if (
        isinstance(fields, IngressFields | EgressFields)
        and fields.authentication
        and fields.authentication.mode != "disabled"
    ):
        message = f"authentication mode {fields.authentication.mode} is not enforced by this version"
        scope.add(codes.NOT_AUTHENTICATION, (*path, "authentication"), message, key=True)
    port_rules: tuple[PortRule, ...] | None = None
    if fields.icmps:
        port_rules = (PortRule(read_icmps(fields.icmps, scope, (*path, "icmps"))),)
    elif to_ports:
        port_rules = tuple(
            _port_rule(item, direction, scope, (*path, "toPorts", index)) for index, item in enumerate(to_ports)
        )
    elif peers is None:
        verb = "denies" if deny else "allows"
        scope.add(codes.EMPTY_ENTRY, path, f"an entry that names neither peers nor ports {verb} nothing")
        peers = ()
    return Entry(direction, deny, name, scope.line(path), peers, port_rules)


def _port_rule(fields: PortDenyFields, direction: Direction, scope: Scope, path: ValuePath) -> PortRule:
    ports = read_ports(fields.ports or [], scope, (*path, "ports"))
    l7 = read_l7(fields, ports, direction, scope, path) if isinstance(fields, PortFields) else None
    if not fields.ports:
        scope.add(codes.EMPTY_PORTS, path, "a toPorts entry without ports allows nothing")
    return PortRule(ports, l7)
