"""What lies outside the cluster, as the documents in force name it: prefixes and named addresses, with identities.

A change of prefixes may change whom other rules mean: 10.1.0.0/16 belongs to every rule for 10.0.0.0/8. So the peers
that depend on what is outside are remembered with the documents that name them, and asked again when it changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from config.endpoints import EndpointsFile
from config.labels import cidr_labels
from config.policy.cidrs import CidrTable, ancestors
from config.policy.cluster import Cluster, depends_on_outside
from config.policy.compile import DocumentKey, Unit
from config.policy.names import NameTable
from config.policy.references import Simple
from config.policy.resolved import Address, Network
from config.policy.rules import CidrBlock, FqdnPeer

_MANY = 1000
"""With more changed prefixes than this, every peer is asked again."""

Ids = frozenset[int]


class Outside:
    """`ipcache` and `identities` are whole, with the cluster's own; new objects only when something in them changed."""

    def __init__(self, endpoints: EndpointsFile, *, audit: bool) -> None:
        self._cidrs = CidrTable()
        self.cluster = Cluster(endpoints, self._cidrs, audit=audit)
        self.ipcache: Mapping[Network, int] = self.cluster.prefixes
        self.identities: Mapping[int, frozenset[str]] = self.cluster.labels
        self._uses: Counter[Network] = Counter()
        self._users: defaultdict[Simple, set[DocumentKey]] = defaultdict(set)
        self._answers: dict[Simple, Ids] = {}
        """Whom each peer meant when it was last asked."""
        self._blocks: defaultdict[Network, set[CidrBlock]] = defaultdict(set)
        self._names: Mapping[str, tuple[Address, ...]] = {}
        self._fqdns: frozenset[FqdnPeer] = frozenset()
        self._named: Mapping[Network, int] = {}

    def update(
        self, added: Iterable[Unit], removed: Iterable[Unit], names: Mapping[str, tuple[Address, ...]]
    ) -> set[DocumentKey]:
        """Documents (added ones perhaps among them) with peers that mean somebody else now."""
        touched: set[Network] = set()
        new_peers: set[Simple] = set()
        for unit in removed:
            self._remove(unit, touched)
        for unit in added:
            self._add(unit, touched, new_peers)
        before = self._cidrs.numbers
        changed = self._update_prefixes(touched)
        renamed = self._update_names(names, changed)
        concerned: set[DocumentKey] = set()
        if changed or renamed:
            self.cluster.outside_changed()
            self._publish(changed, before, renamed)
            for peer in self._candidates(changed, renamed) - new_peers:
                if self.cluster.select(peer) != self._answers[peer]:
                    concerned |= self._users[peer]
                    new_peers.add(peer)
        self._answers.update((peer, self.cluster.select(peer)) for peer in new_peers if peer in self._users)
        return concerned

    def _add(self, unit: Unit, touched: set[Network], new_peers: set[Simple]) -> None:
        for network in unit.prefixes():
            self._uses[network] += 1
            touched.add(network)
        for peer in unit.all_peers():
            if depends_on_outside(peer):
                if peer not in self._users:
                    new_peers.add(peer)
                self._users[peer].add(unit.key)
                if isinstance(peer, CidrBlock):
                    self._blocks[peer.network].add(peer)

    def _remove(self, unit: Unit, touched: set[Network]) -> None:
        for network in unit.prefixes():
            self._uses[network] -= 1
            touched.add(network)
        for peer in set(unit.all_peers()):
            if peer not in self._users:
                continue
            self._users[peer].discard(unit.key)
            if not self._users[peer]:
                del self._users[peer]
                self._answers.pop(peer, None)
                if isinstance(peer, CidrBlock):
                    self._blocks[peer.network].discard(peer)

    def _update_prefixes(self, touched: set[Network]) -> set[Network]:
        used = {network for network in touched if self._uses[network]}
        for network in touched - used:
            del self._uses[network]
        return self._cidrs.update(used, touched - used)

    def _update_names(self, names: Mapping[str, tuple[Address, ...]], changed: set[Network]) -> bool:
        """True if addresses with names have other identities now."""
        selectors = frozenset(peer for peer in self._users if isinstance(peer, FqdnPeer)) if names else frozenset()
        if names == self._names and selectors == self._fqdns and not (changed and selectors):
            return False
        self._names, self._fqdns = names, selectors
        table = NameTable(names, selectors, self._cidrs.covering)
        before = self._cidrs.names
        self._cidrs.name(table)
        return (table.addresses, table.labels) != (before.addresses, before.labels)

    def _candidates(self, changed: set[Network], renamed: bool) -> set[Simple]:
        if renamed or len(changed) > _MANY:
            return set(self._users)
        near = {wider for network in changed for wider in ancestors(network)}
        found: set[Simple] = {block for network in near for block in self._blocks.get(network, ())}
        return found | {peer for peer in self._users if not isinstance(peer, CidrBlock)}

    def _publish(self, changed: set[Network], before: Mapping[Network, int], renamed: bool) -> None:
        """Endpoints and nodes are stronger than names, and names than prefixes of rules."""
        numbers, names = self._cidrs.numbers, self._cidrs.names
        if renamed:
            self._named = {ip_network(address): number for address, number in names.addresses.items()}
        if renamed or len(changed) > _MANY:
            self.ipcache = {**numbers, **self._named, **self.cluster.prefixes}
            labels = {number: cidr_labels(prefix) for prefix, number in numbers.items()}
            self.identities = {**self.cluster.labels, **labels, **names.labels}
            return
        ipcache, identities = dict(self.ipcache), dict(self.identities)
        for network in changed:
            identities.pop(before.get(network, 0), None)
            if network not in self._named and network not in self.cluster.prefixes:
                ipcache.pop(network, None)
                if network in numbers:
                    ipcache[network] = numbers[network]
        identities.update((numbers[network], cidr_labels(network)) for network in changed if network in numbers)
        self.ipcache, self.identities = ipcache, identities
