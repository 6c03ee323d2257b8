"""One document → rules with identities, but for the named ports that depend on the endpoint they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from config.policy.cluster import Cluster
from config.policy.http_rules import refers_to_secret, with_secrets
from config.policy.name_groups import NameGroups
from config.policy.named_ports import own_ports
from config.policy.references import References, Simple, expand, refers
from config.policy.resolved import (
    ContainerPort,
    Direction,
    FqdnPeer,
    HttpRule,
    L7Rule,
    Network,
    Origin,
    PolicyName,
    PortRange,
    Rule,
)
from config.policy.rules import CidrBlock, Document, Entry, PolicyRule, PortRule, PortSpec
from config.policy.selectors import Selector

DocumentKey = tuple[str, str, str]
RuleKey = tuple[DocumentKey, int]
OriginName = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """One rule; `named` are the ports that the endpoint itself gives numbers."""

    rule: Rule
    named: tuple[PortSpec, ...] = ()

    def finish(self, ports: tuple[ContainerPort, ...]) -> Iterator[Rule]:
        """The rule for an endpoint with these ports; none if no port is left."""
        if not self.named:
            yield self.rule
            return
        own = [found for spec in self.named for found in own_ports(spec, ports)]
        found = tuple(sorted({*(self.rule.ports or ()), *own}, key=_port_order))
        if found:
            yield replace(self.rule, ports=found)


@dataclass(frozen=True, slots=True)
class Compiled:
    """One `PolicyRule` with its peers resolved; `parts` by direction. `key` orders the rules of all documents."""

    key: RuleKey
    subject: Selector
    owner: PolicyName
    governs: tuple[bool, bool]
    default_deny: tuple[bool, bool]
    audit: bool
    parts: tuple[tuple[Part, ...], tuple[Part, ...]]


@dataclass(frozen=True, slots=True)
class Unit:
    """A document under resolution, with what its peers stand for: by rule and entry.

    `refers`: something in it stands for other objects, so that these may change what it means.
    """

    key: DocumentKey
    document: Document
    peers: tuple[tuple[tuple[Simple, ...] | None, ...], ...]
    refers: bool

    def all_peers(self) -> Iterator[Simple]:
        return (peer for rule in self.peers for entry in rule if entry is not None for peer in entry)

    def prefixes(self) -> Iterator[Network]:
        """Every prefix that the document names, exceptions included."""
        for peer in self.all_peers():
            if isinstance(peer, CidrBlock):
                yield peer.network
                yield from peer.excepts

    def name_groups(self) -> Iterator[frozenset[FqdnPeer]]:
        """What each entry's `toFQDNs` select."""
        for rule in self.peers:
            for entry in rule:
                if names := names_among(entry):
                    yield names

    def entries(self) -> Iterator[tuple[OriginName, int, str]]:
        """Name, line and log text of every entry."""
        for rule in self.document.rules:
            for entry in rule.entries:
                yield origin_name(self.document, entry), entry.line, rule.log


def names_among(peers: Iterable[Simple] | None) -> frozenset[FqdnPeer]:
    return frozenset(peer for peer in peers or () if isinstance(peer, FqdnPeer))


def origin_name(document: Document, entry: Entry) -> OriginName:
    return document.kind, document.namespace, document.name, entry.name


def unit_of(document: Document, references: References) -> Unit:
    peers = tuple(tuple(_expanded(entry, references) for entry in rule.entries) for rule in document.rules)
    return Unit(document.key, document, peers, any(map(_refers, document.rules)))


def _refers(rule: PolicyRule) -> bool:
    return any(
        any(map(refers, entry.peers or ())) or any(map(_uses_secrets, entry.port_rules or ())) for entry in rule.entries
    )


def _uses_secrets(port_rule: PortRule) -> bool:
    return any(isinstance(rule, HttpRule) and refers_to_secret(rule) for rule in port_rule.l7 or ())


def _expanded(entry: Entry, references: References) -> tuple[Simple, ...] | None:
    if entry.peers is None:
        return None
    return tuple(found for peer in entry.peers for found in expand(peer, references, deny=entry.deny))


class Compiler:
    """Compiles documents against one state of the cluster, the prefixes, and the numbers of origins."""

    def __init__(
        self, cluster: Cluster, names: NameGroups, origins: Mapping[OriginName, Origin], secrets: Mapping[str, str]
    ) -> None:
        self._cluster = cluster
        self._names = names
        self._origins = origins
        self._secrets = secrets

    def compile(self, unit: Unit) -> tuple[Compiled, ...]:
        return tuple(
            self._rule(unit, index, rule, peers)
            for index, (rule, peers) in enumerate(zip(unit.document.rules, unit.peers, strict=True))
        )

    def _rule(self, unit: Unit, index: int, rule: PolicyRule, peers: tuple[tuple[Simple, ...] | None, ...]) -> Compiled:
        document = unit.document
        parts: tuple[list[Part], list[Part]] = ([], [])
        for entry, meant in zip(rule.entries, peers, strict=True):
            origin = self._origins[origin_name(document, entry)]
            parts[entry.direction].extend(self._parts(entry, meant, origin, rule.audit))
        owner = PolicyName(document.kind, document.namespace, document.name)
        return Compiled(
            key=(unit.key, index),
            subject=rule.subject,
            owner=owner,
            governs=rule.governs,
            default_deny=rule.default_deny,
            audit=rule.audit,
            parts=(tuple(parts[0]), tuple(parts[1])),
        )

    def _parts(self, entry: Entry, peers: tuple[Simple, ...] | None, origin: Origin, audit: bool) -> Iterator[Part]:
        identities, group = self._cluster.select_any(peers), None
        if identities is not None and (names := names_among(peers)):
            group = self._names.group(names)
            identities |= {group.identity}
        if entry.port_rules is None:
            yield Part(Rule(origin, identities, None, entry.deny, audit=audit, names=group))
            return
        for port_rule in entry.port_rules:
            named = tuple(spec for spec in port_rule.ports if spec.name)
            numbered = _ranges(spec for spec in port_rule.ports if not spec.name)
            l7 = self._l7(port_rule)
            if entry.direction is Direction.INGRESS and named:
                yield Part(Rule(origin, identities, numbered, entry.deny, l7, audit), named)
                continue
            if numbered:
                yield Part(Rule(origin, identities, numbered, entry.deny, l7, audit, group))
            # Named ports of peers: one rule for the peers that give the names the same numbers.
            for ports, having in self._cluster.ports.of_peers(named, identities):
                yield Part(Rule(origin, having, ports, entry.deny, l7, audit))

    def _l7(self, port_rule: PortRule) -> tuple[L7Rule, ...] | None:
        if not _uses_secrets(port_rule):
            return port_rule.l7
        rules = port_rule.l7 or ()
        return tuple(with_secrets(rule, self._secrets) if isinstance(rule, HttpRule) else rule for rule in rules)


def _ranges(specs: Iterable[PortSpec]) -> tuple[PortRange, ...]:
    found = {PortRange(protocol, spec.first, spec.last) for spec in specs for protocol in spec.protocols}
    return tuple(sorted(found, key=_port_order))


def _port_order(ports: PortRange) -> tuple[int, int, int]:
    return ports.protocol, ports.first, ports.last
