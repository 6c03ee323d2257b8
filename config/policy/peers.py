"""The peers of an entry: `fromEndpoints`, `toCIDR`, `toEntities` … → `Peer`s.

An entry names peers in one way only. A key that is there with an empty list selects nobody; no key at all means
anybody, if the entry says anything else.
"""

from __future__ import annotations

from ipaddress import ip_network
from itertools import combinations

from config import codes
from config.findings import Code, ValuePath
from config.labels import K8S, POD_NAMESPACE, RESERVED
from config.policy.dns_rules import read_fqdns
from config.policy.model import CidrRule, EgressDenyFields, EgressFields, EntryFields, ServiceFields
from config.policy.resolved import Network
from config.policy.rules import CidrBlock, Entity, GroupPeer, Peer, ServicePeer
from config.policy.scope import Scope
from config.policy.selectors import equals, exists, selector
from config.policy.subjects import peer_selector, read_selector

_KUBE_DNS = "kube-dns"


def read_peers(fields: EntryFields, scope: Scope, path: ValuePath, about_init: bool) -> tuple[Peer, ...] | None:
    """The peers, or None when the entry names none and so means anybody."""
    given = _given(fields)
    _refuse_unsupported(given, scope, path)
    # fromCIDR and fromCIDRSet are two kinds, too.
    for one, other in combinations([name for name, items in given.items() if items], 2):
        if {one, other} == {"toEntities", "toFQDNs"}:
            scope.add(codes.FQDN_WITH_ENTITIES, (*path, other), codes.FQDN_WITH_ENTITIES.title, key=True)
        else:
            scope.add(codes.PEERS_COMBINED, (*path, other), f"combining {one} and {other} is not supported", key=True)
    if not given:
        return None
    for name, items in given.items():
        if not items:
            scope.add(codes.EMPTY_PEERS, (*path, name), f"{name} is empty: this entry selects nobody", key=True)
    if not all(given.values()):
        return ()
    name_of = type(fields).model_fields
    peers: list[Peer] = []
    for index, item in enumerate(fields.endpoints or []):
        where = (*path, name_of["endpoints"].alias or "", index)
        peers.append(peer_selector(item, scope, where, about_init))
    for index, text in enumerate(fields.cidr or []):
        network = read_network(text, scope, (*path, name_of["cidr"].alias or "", index), bare=True)
        peers.extend([CidrBlock(network)] if network else [])
    for index, rule in enumerate(fields.cidr_set or []):
        block = _cidr_rule(rule, scope, (*path, name_of["cidr_set"].alias or "", index))
        peers.extend([block] if block else [])
    for index, node in enumerate(fields.nodes or []):
        terms = read_selector(node, scope, (*path, name_of["nodes"].alias or "", index))
        peers.append(selector(*terms, exists(f"{RESERVED}:remote-node")))
    if isinstance(fields, EgressFields | EgressDenyFields):
        for index, service in enumerate(fields.to_services or []):
            found = _service(service, scope, (*path, "toServices", index))
            peers.extend([found] if found else [])
    if isinstance(fields, EgressFields) and fields.fqdns:
        peers.extend(read_fqdns(fields.fqdns, scope, (*path, "toFQDNs")))
    for index, name in enumerate(fields.entities or []):
        entity = _entity(name, scope, (*path, name_of["entities"].alias or "", index))
        peers.extend([entity] if entity else [])
    return tuple(peers)


def _given(fields: EntryFields) -> dict[str, list[object]]:
    """The peer keys that are there, by their names in the file."""
    names = ["endpoints", "cidr", "cidr_set", "entities", "nodes", "groups"]
    if fields.requires:
        names.append("requires")
    if isinstance(fields, EgressFields | EgressDenyFields):
        names.append("to_services")
    if isinstance(fields, EgressFields) and fields.fqdns:
        # An empty toFQDNs is the one empty list that counts as missing.
        names.append("fqdns")
    known = type(fields).model_fields
    return {known[name].alias or name: getattr(fields, name) for name in names if getattr(fields, name) is not None}


_UNSUPPORTED: dict[str, tuple[Code, str]] = {
    "fromGroups": (codes.NOT_GROUPS, "fromGroups is not enforced by this version"),
    "toGroups": (codes.NOT_GROUPS, "toGroups is not enforced by this version"),
    "fromRequires": (codes.REQUIRES_REMOVED, "fromRequires does not exist any more"),
    "toRequires": (codes.REQUIRES_REMOVED, "toRequires does not exist any more"),
}


def _refuse_unsupported(given: dict[str, list[object]], scope: Scope, path: ValuePath) -> None:
    for name, items in given.items():
        if items and name in _UNSUPPORTED:
            code, message = _UNSUPPORTED[name]
            scope.add(code, (*path, name), message, key=True)


def read_network(text: str, scope: Scope, path: ValuePath, *, bare: bool) -> Network | None:
    """A prefix; bits of the host part are ignored. `bare`: an address without a length is accepted."""
    _, slash, length = text.partition("/")
    # The standard library reads 10.0.0.0/255.0.0.0 too; Cilium does not.
    if "%" not in text and ((slash and length.isascii() and length.isdigit()) or (bare and not slash)):
        try:
            return ip_network(text, strict=False)
        except ValueError:
            pass
    wanted = "a CIDR or an IP address" if bare else "a CIDR"
    scope.add(codes.CIDR_BAD, path, f'"{text}" is not {wanted}')
    return None


def _service(fields: ServiceFields, scope: Scope, path: ValuePath) -> ServicePeer | None:
    """A service by name, or services by labels; without a namespace those of the policy's own."""
    named, chosen = fields.k8s_service, fields.k8s_service_selector
    if (named is None) == (chosen is None):
        scope.add(codes.SERVICE_CHOICE, path, "exactly one of k8sService and k8sServiceSelector is wanted")
        return None
    if chosen is not None:
        terms = read_selector(chosen.selector, scope, (*path, "k8sServiceSelector", "selector"))
        return ServicePeer(chosen.namespace or scope.namespace, selector=selector(*terms))
    assert named is not None
    if not named.service_name:
        scope.add(codes.SERVICE_CHOICE, (*path, "k8sService"), "the name of the service is missing")
        return None
    namespace = named.namespace or scope.namespace
    if not namespace:
        scope.add(codes.SERVICE_CHOICE, (*path, "k8sService"), "a cluster-wide policy must name the namespace")
        return None
    return ServicePeer(namespace, named.service_name)


def _group(rule: CidrRule, scope: Scope, path: ValuePath) -> GroupPeer:
    """Cilium does not look at `except` beside a group."""
    excepts = [
        read_network(text, scope, (*path, "except", index), bare=False) for index, text in enumerate(rule.except_ or [])
    ]
    if excepts:
        scope.add(codes.GROUP_EXCEPT, (*path, "except"), codes.GROUP_EXCEPT.title, key=True)
    networks = tuple(network for network in excepts if network is not None)
    if rule.cidr_group_ref:
        return GroupPeer(rule.cidr_group_ref, excepts=networks)
    assert rule.cidr_group_selector is not None
    terms = read_selector(rule.cidr_group_selector, scope, (*path, "cidrGroupSelector"))
    return GroupPeer(selector=selector(*terms), excepts=networks)


def _cidr_rule(rule: CidrRule, scope: Scope, path: ValuePath) -> CidrBlock | GroupPeer | None:
    chosen = [item for item in (rule.cidr, rule.cidr_group_ref, rule.cidr_group_selector) if item]
    empty_selector = rule.cidr_group_selector is not None and not chosen
    if len(chosen) != 1 and not empty_selector:
        scope.add(codes.CIDR_CHOICE, path, "one of cidr, cidrGroupRef and cidrGroupSelector is wanted")
        return None
    if rule.cidr is None:
        return _group(rule, scope, path)
    return read_block(rule.cidr, rule.except_ or [], scope, path)


def read_block(cidr: str, but: list[str], scope: Scope, path: ValuePath) -> CidrBlock | None:
    """A prefix and its exceptions, which must lie inside."""
    network = read_network(cidr, scope, (*path, "cidr"), bare=False)
    excepts: list[Network] = []
    for index, text in enumerate(but):
        where = (*path, "except", index)
        inner = read_network(text, scope, where, bare=False)
        if inner is None or network is None:
            continue
        if not _contains(network, inner):
            scope.add(codes.CIDR_EXCEPT, where, f'"{text}" is not inside "{cidr}"')
            continue
        excepts.append(inner)
    return CidrBlock(network, tuple(sorted(set(excepts), key=str))) if network else None


def _contains(outer: Network, inner: Network) -> bool:
    return outer.version == inner.version and inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def _entity(name: str, scope: Scope, path: ValuePath) -> Peer | None:
    if name == _KUBE_DNS:
        scope.add(codes.KUBE_DNS_ENTITY, path, 'entity "kube-dns" is taken as the cluster DNS pods')
        return selector(equals("k8s:k8s-app", _KUBE_DNS), equals(f"{K8S}:{POD_NAMESPACE}", "kube-system"))
    try:
        return Entity(name)
    except ValueError:
        known = ", ".join(Entity)
        scope.add(codes.ENTITY_UNKNOWN, path, f'unsupported entity "{name}"', hint=f"known: {known}")
        return None
