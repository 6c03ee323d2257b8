"""Documents and endpoints → `Snapshot`: pure, and the same for any order of files.

Identities first (pods by labels, prefixes of CIDR rules), then each entry's peers become a set of identities, once per
distinct selector. Endpoints that the same rules are about, and that give named ports the same numbers, share a policy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from config.endpoints import EndpointsFile, Workload
from config.identity import (
    WORLD_IDENTITIES,
    Reserved,
    assign_numbers,
    assign_pods,
    labels_of,
)
from config.labels import WORLD, WORLD_IPV4, WORLD_IPV6
from config.policy.cidrs import CidrTable, prefixes_of
from config.policy.named_ports import NamedPorts, own_ports
from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    Network,
    Origin,
    PolicyName,
    PortRange,
    Rule,
    Snapshot,
)
from config.policy.rules import CidrBlock, Document, Entity, Entry, Peer, PolicyRule, PortRule, PortSpec
from config.policy.selectors import Selector, SelectorIndex
from config.settings import Settings

PENSTOCK = "Penstock"

_FIRST_ORIGIN, _LAST_ORIGIN = 16, (1 << 31) - 1
"""Rule ids are hashes of what they name, so that a changed policy leaves other rows of the kernel's map alone."""

_HOST_ACCESS = Origin(1, PENSTOCK, "", "allow-localhost", "")
_DEFAULT_ALLOW = Origin(2, PENSTOCK, "", "default-allow", "")
_OWN_ORIGINS = (_HOST_ACCESS, _DEFAULT_ALLOW)

_CLUSTER = frozenset(
    int(number)
    for number in (
        Reserved.HOST,
        Reserved.REMOTE_NODE,
        Reserved.INIT,
        Reserved.INGRESS,
        Reserved.UNMANAGED,
        Reserved.HEALTH,
        Reserved.KUBE_APISERVER,
    )
)
_SINGLE = {
    Entity.HOST: Reserved.HOST,
    Entity.REMOTE_NODE: Reserved.REMOTE_NODE,
    Entity.KUBE_APISERVER: Reserved.KUBE_APISERVER,
    Entity.INIT: Reserved.INIT,
    Entity.INGRESS: Reserved.INGRESS,
    Entity.HEALTH: Reserved.HEALTH,
    Entity.UNMANAGED: Reserved.UNMANAGED,
}

_Ids = frozenset[int]
_Named = tuple[PortSpec, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """One rule, but for the named ports that depend on the endpoint it is for."""

    rule: Rule
    named: _Named = ()


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One `PolicyRule` with its peers resolved; `parts` by direction, `order` among all rules."""

    order: int
    owner: PolicyName
    governs: tuple[bool, bool]
    default_deny: tuple[bool, bool]
    parts: tuple[tuple[_Part, ...], tuple[_Part, ...]]


def resolve(documents: Iterable[Document], endpoints: EndpointsFile, settings: Settings, revision: int) -> Snapshot:
    """Everything that is to be enforced."""
    ordered = sorted(documents, key=lambda item: (item.kind, item.namespace, item.name, item.file, item.line))
    return _Resolver(ordered, endpoints, settings).snapshot(revision)


class _Resolver:
    def __init__(self, documents: Sequence[Document], endpoints: EndpointsFile, settings: Settings) -> None:
        self._settings = settings
        self._file = endpoints
        self._pods = assign_pods(item.labels for item in endpoints.endpoints)
        self._cidrs = CidrTable(prefixes_of(documents))
        self._labels = labels_of(self._pods, self._cidrs.numbers)
        self._index = SelectorIndex(
            {number: _searched(labels) for number, labels in self._labels.items()}, self._within
        )
        self._ports = NamedPorts((self._pods[item.labels], item.ports) for item in endpoints.endpoints)
        self._entities = self._entity_identities()
        self._origins = _number_origins(documents)
        self._by_subject: defaultdict[Selector, list[_Compiled]] = defaultdict(list)
        pairs = [(document, rule) for document in documents for rule in document.rules]
        for order, (owner, rule) in enumerate(pairs):
            self._by_subject[rule.subject].append(self._compile(order, owner, rule))

    def snapshot(self, revision: int) -> Snapshot:
        governing: defaultdict[int, list[Selector]] = defaultdict(list)
        pods = frozenset(self._pods.values())
        for subject in self._by_subject:
            for number in self._index.select(subject) & pods:
                governing[number].append(subject)
        endpoints = {item.id: self._endpoint(item) for item in self._file.endpoints}
        shared: dict[object, EndpointPolicy] = {}
        policies: dict[int, EndpointPolicy] = {}
        for item in endpoints.values():
            if item.is_local:
                policies[item.id] = self._policy_of(item, tuple(governing[item.identity]), shared)
        return Snapshot(
            revision=revision,
            endpoints=endpoints,
            policies=policies,
            ipcache=self._ipcache(),
            identities=self._labels,
            origins={origin.id: origin for origin in (*_OWN_ORIGINS, *self._origins.values())},
        )

    def _within(self, network: Network) -> _Ids:
        return self._cidrs.within(network)

    def _endpoint(self, item: Workload) -> Endpoint:
        return Endpoint(
            id=item.id,
            namespace=item.namespace,
            name=item.name,
            labels=item.labels,
            identity=self._pods[item.labels],
            addresses=item.addresses,
            interface=item.interface,
            netns=item.netns,
            ports=item.ports,
            audit=item.audit or self._settings.policy_audit_mode,
        )

    def _ipcache(self) -> dict[Network, int]:
        """Prefixes of rules, then what is stronger: nodes, and endpoints above all."""
        known: dict[Network, int] = dict(self._cidrs.numbers)
        known.update((ip_network(address), int(Reserved.REMOTE_NODE)) for address in self._file.remote_nodes)
        known.update((ip_network(address), int(Reserved.KUBE_APISERVER)) for address in self._file.api_servers)
        known.update(
            (ip_network(address), self._pods[item.labels])
            for item in self._file.endpoints
            for address in item.addresses
        )
        return known

    # Peers

    def _entity_identities(self) -> dict[Entity, _Ids]:
        ipv4, ipv6 = self._cidrs.of_family(4), self._cidrs.of_family(6)
        known = {entity: frozenset((int(number),)) for entity, number in _SINGLE.items()}
        known[Entity.NONE] = frozenset()
        known[Entity.WORLD] = WORLD_IDENTITIES | ipv4 | ipv6
        known[Entity.WORLD_IPV4] = frozenset((int(Reserved.WORLD_IPV4),)) | ipv4
        known[Entity.WORLD_IPV6] = frozenset((int(Reserved.WORLD_IPV6),)) | ipv6
        known[Entity.CLUSTER] = _CLUSTER | frozenset(self._pods.values())
        return known

    def _peers(self, peers: tuple[Peer, ...] | None) -> _Ids | None:
        if peers is None or Entity.ALL in peers:
            return None
        return frozenset[int]().union(*(self._peer(peer) for peer in peers))

    def _peer(self, peer: Peer) -> _Ids:
        match peer:
            case Selector():
                return self._index.select(peer)
            case CidrBlock():
                return self._cidrs.select(peer)
            case Entity():
                return self._entities[peer]
            case _:
                raise NotImplementedError(peer)

    # Rules

    def _compile(self, order: int, document: Document, rule: PolicyRule) -> _Compiled:
        parts: tuple[list[_Part], list[_Part]] = ([], [])
        for entry in rule.entries:
            origin = self._origins[_origin_name(document, entry)]
            parts[entry.direction].extend(self._parts(entry, origin))
        owner = PolicyName(document.kind, document.namespace, document.name)
        return _Compiled(order, owner, rule.governs, rule.default_deny, (tuple(parts[0]), tuple(parts[1])))

    def _parts(self, entry: Entry, origin: Origin) -> Iterable[_Part]:
        identities = self._peers(entry.peers)
        if entry.port_rules is None:
            yield _Part(Rule(origin, identities, None, entry.deny))
            return
        for port_rule in entry.port_rules:
            named = tuple(spec for spec in port_rule.ports if spec.name)
            numbered = _ranges(spec for spec in port_rule.ports if not spec.name)
            if entry.direction is Direction.INGRESS and named:
                yield _Part(Rule(origin, identities, numbered, entry.deny, port_rule.l7), named)
                continue
            if numbered:
                yield _Part(Rule(origin, identities, numbered, entry.deny, port_rule.l7))
            yield from self._egress_named(named, identities, entry, port_rule, origin)

    def _egress_named(
        self, named: _Named, identities: _Ids | None, entry: Entry, port_rule: PortRule, origin: Origin
    ) -> Iterable[_Part]:
        """Named ports of peers: one rule for the peers that give the names the same numbers."""
        for ports, having in self._ports.of_peers(named, identities):
            yield _Part(Rule(origin, having, ports, entry.deny, port_rule.l7))

    # Endpoints

    def _policy_of(
        self, endpoint: Endpoint, subjects: tuple[Selector, ...], shared: dict[object, EndpointPolicy]
    ) -> EndpointPolicy:
        rules = sorted(
            (rule for subject in subjects for rule in self._by_subject[subject]), key=lambda rule: rule.order
        )
        names = {spec for rule in rules for part in rule.parts[Direction.INGRESS] for spec in part.named}
        key = (frozenset(subjects), frozenset((spec, own_ports(spec, endpoint.ports)) for spec in names))
        policy = shared.get(key)
        if policy is None:
            ingress = self._direction(Direction.INGRESS, rules, endpoint)
            policy = shared[key] = EndpointPolicy(ingress, self._direction(Direction.EGRESS, rules, endpoint))
        return policy

    def _direction(self, direction: Direction, rules: list[_Compiled], endpoint: Endpoint) -> DirectionPolicy:
        mode = self._settings.enable_policy
        governing = [rule for rule in rules if rule.governs[direction]]
        if mode == "never" or (mode == "default" and not governing):
            return DirectionPolicy(enforced=False)
        found = [made for rule in governing for part in rule.parts[direction] for made in _finish(part, endpoint)]
        if mode == "default" and not any(rule.default_deny[direction] for rule in governing):
            found.append(Rule(_DEFAULT_ALLOW, None, None))
        if direction is Direction.INGRESS and self._settings.allow_localhost != "policy":
            found.append(Rule(_HOST_ACCESS, frozenset((int(Reserved.HOST),)), None))
        return DirectionPolicy(True, tuple(found), tuple(dict.fromkeys(rule.owner for rule in governing)))


def _searched(labels: frozenset[str]) -> frozenset[str]:
    """Selectors on reserved:world mean the world of either family."""
    if f"{WORLD_IPV4}=" in labels or f"{WORLD_IPV6}=" in labels:
        return labels | {f"{WORLD}="}
    return labels


def _finish(part: _Part, endpoint: Endpoint) -> Iterable[Rule]:
    """The rule with the endpoint's own numbers for named ports; none if no port is left."""
    if not part.named:
        yield part.rule
        return
    own = [found for spec in part.named for found in own_ports(spec, endpoint.ports)]
    ports = tuple(sorted({*(part.rule.ports or ()), *own}, key=_port_order))
    if ports:
        rule = part.rule
        yield Rule(rule.origin, rule.identities, ports, rule.deny, rule.l7)


def _ranges(specs: Iterable[PortSpec]) -> tuple[PortRange, ...]:
    found = {PortRange(protocol, spec.first, spec.last) for spec in specs for protocol in spec.protocols}
    return tuple(sorted(found, key=_port_order))


def _port_order(ports: PortRange) -> tuple[int, int, int]:
    return ports.protocol, ports.first, ports.last


_OriginName = tuple[str, str, str, str]


def _origin_name(document: Document, entry: Entry) -> _OriginName:
    return document.kind, document.namespace, document.name, entry.name


def _number_origins(documents: Iterable[Document]) -> dict[_OriginName, Origin]:
    places: dict[_OriginName, tuple[str, int, str]] = {}
    for document in documents:
        for rule in document.rules:
            for entry in rule.entries:
                places.setdefault(_origin_name(document, entry), (document.file, entry.line, rule.log))
    numbers = assign_numbers(("\0".join(name) for name in places), _FIRST_ORIGIN, _LAST_ORIGIN, "origin")
    return {
        name: Origin(numbers["\0".join(name)], *name, file=file, line=line, log=log)
        for name, (file, line, log) in places.items()
    }
