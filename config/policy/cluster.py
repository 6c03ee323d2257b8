"""The endpoints file as the resolver needs it: identities of pods and nodes, who has them, what ports they name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from config.endpoints import EndpointsFile, Workload
from config.identity import RESERVED_LABELS, WORLD_IDENTITIES, Reserved, assign_nodes, assign_pods
from config.labels import WORLD, WORLD_IPV4, WORLD_IPV6
from config.policy.cidrs import CidrTable
from config.policy.named_ports import NamedPorts
from config.policy.references import Simple
from config.policy.resolved import Endpoint, FqdnPeer, Network
from config.policy.rules import CidrBlock, Entity
from config.policy.selectors import Selector, SelectorIndex, is_settled

Ids = frozenset[int]

_SINGLE = {
    Entity.HOST: Reserved.HOST,
    Entity.KUBE_APISERVER: Reserved.KUBE_APISERVER,
    Entity.INIT: Reserved.INIT,
    Entity.INGRESS: Reserved.INGRESS,
    Entity.HEALTH: Reserved.HEALTH,
    Entity.UNMANAGED: Reserved.UNMANAGED,
}
_WORLDS = frozenset((Entity.WORLD, Entity.WORLD_IPV4, Entity.WORLD_IPV6))
_NOBODY = Ids()


class Cluster:
    """Fixed as long as the endpoints file stays the same."""

    def __init__(self, file: EndpointsFile, cidrs: CidrTable, *, audit: bool) -> None:
        self.file = file
        self._cidrs = cidrs
        self._pods = assign_pods(item.labels for item in file.endpoints)
        self._nodes = assign_nodes(node.labels for node in file.nodes)
        self.labels: Mapping[int, frozenset[str]] = {
            **RESERVED_LABELS,
            **{number: labels for labels, number in (*self._nodes.items(), *self._pods.items())},
        }
        self.index = SelectorIndex({number: _searched(labels) for number, labels in self.labels.items()}, cidrs)
        self.ports = NamedPorts((self._pods[item.labels], item.ports) for item in file.endpoints)
        self.endpoints: Mapping[int, Endpoint] = {item.id: self._endpoint(item, audit) for item in file.endpoints}
        self.local: Mapping[int, list[Endpoint]] = self._local()
        """Identity → the endpoints of this node that have it."""
        self.prefixes: Mapping[Network, int] = self._prefixes()
        """Nodes and endpoints, which are stronger than prefixes of rules; endpoints above all."""
        self._fixed = self._fixed_entities()
        self._worlds: dict[Entity, Ids] = {}

    def _endpoint(self, item: Workload, audit: bool) -> Endpoint:
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
            audit=item.audit or audit,
        )

    def _local(self) -> dict[int, list[Endpoint]]:
        found: defaultdict[int, list[Endpoint]] = defaultdict(list)
        for endpoint in self.endpoints.values():
            if endpoint.is_local:
                found[endpoint.identity].append(endpoint)
        return dict(found)

    def _prefixes(self) -> dict[Network, int]:
        known: dict[Network, int] = {}
        for node in self.file.nodes:
            number = self._nodes[node.labels]
            known.update((ip_network(address), number) for address in node.addresses)
        known.update((ip_network(address), int(Reserved.KUBE_APISERVER)) for address in self.file.api_servers)
        known.update(
            (ip_network(address), endpoint.identity)
            for endpoint in self.endpoints.values()
            for address in endpoint.addresses
        )
        return known

    def _fixed_entities(self) -> dict[Entity, Ids]:
        """Entities that do not depend on what is outside."""
        known = {entity: Ids((int(number),)) for entity, number in _SINGLE.items()}
        nodes = Ids(self._nodes.values()) | {int(Reserved.REMOTE_NODE)}
        known[Entity.REMOTE_NODE] = nodes
        known[Entity.NONE] = _NOBODY
        known[Entity.CLUSTER] = Ids(self._pods.values()).union(*known.values())
        return known

    def select(self, peer: Simple) -> Ids:
        """The identities that a peer means now."""
        match peer:
            case Selector():
                return self.index.select(peer)
            case CidrBlock():
                return self._cidrs.select(peer)
            case FqdnPeer():
                # Names have no addresses of their own: an endpoint's lookups give it some, as `NameGroups` says.
                return _NOBODY
            case Entity.WORLD | Entity.WORLD_IPV4 | Entity.WORLD_IPV6:
                if peer not in self._worlds:
                    self._worlds[peer] = self._world(peer)
                return self._worlds[peer]
            case Entity():
                return self._fixed[peer]

    def _world(self, entity: Entity) -> Ids:
        ipv4 = self._cidrs.of_family(4) | {int(Reserved.WORLD_IPV4)}
        ipv6 = self._cidrs.of_family(6) | {int(Reserved.WORLD_IPV6)}
        return {Entity.WORLD_IPV4: ipv4, Entity.WORLD_IPV6: ipv6}.get(entity, ipv4 | ipv6 | WORLD_IDENTITIES)

    def outside_changed(self) -> None:
        """Prefixes are other ones now."""
        self._worlds.clear()
        self.index.outside_changed()

    def select_any(self, peers: Iterable[Simple] | None) -> Ids | None:
        """The identities of all peers together; None means anybody."""
        if peers is None:
            return None
        found = list(peers)
        if Entity.ALL in found:
            return None
        return self.select(found[0]) if len(found) == 1 else _NOBODY.union(*map(self.select, found))


def depends_on_outside(peer: Simple) -> bool:
    """May a change of prefixes change whom the peer means?"""
    if isinstance(peer, Selector):
        return not is_settled(peer)
    return isinstance(peer, CidrBlock) or peer in _WORLDS


def _searched(labels: frozenset[str]) -> frozenset[str]:
    """Selectors on reserved:world mean the world of either family."""
    if f"{WORLD_IPV4}=" in labels or f"{WORLD_IPV6}=" in labels:
        return labels | {f"{WORLD}="}
    return labels
