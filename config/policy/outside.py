"""What lies outside the cluster, as the documents in force name it: prefixes and groups of DNS names, with identities.

A change of prefixes may change whom other rules mean: 10.1.0.0/16 belongs to every rule for 10.0.0.0/8. So the peers
that depend on what is outside are remembered with the documents that name them, and asked again when it changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from config.endpoints import EndpointsFile
from config.labels import cidr_labels
from config.policy.cidrs import CidrTable, ancestors
from config.policy.cluster import Cluster, depends_on_outside
from config.policy.compile import DocumentKey, Unit
from config.policy.name_groups import NameGroups
from config.policy.references import Simple
from config.policy.resolved import FqdnPeer, Network
from config.policy.rules import CidrBlock

_MANY = 1000
"""With more changed prefixes than this, every peer is asked again."""

Ids = frozenset[int]
Selectors = frozenset[FqdnPeer]


class Outside:
    """`ipcache` and `identities` are whole, with the cluster's own; new objects only when something in them changed."""

    def __init__(self, endpoints: EndpointsFile, *, audit: bool) -> None:
        self._cidrs = CidrTable()
        self.names = NameGroups()
        self.cluster = Cluster(endpoints, self._cidrs, audit=audit)
        self.ipcache: Mapping[Network, int] = self.cluster.prefixes
        self.identities: Mapping[int, frozenset[str]] = self.cluster.labels
        self._uses: Counter[Network] = Counter()
        self._users: defaultdict[Simple, set[DocumentKey]] = defaultdict(set)
        self._answers: dict[Simple, Ids] = {}
        """Whom each peer meant when it was last asked."""
        self._blocks: defaultdict[Network, set[CidrBlock]] = defaultdict(set)
        self._grouped: defaultdict[Selectors, set[DocumentKey]] = defaultdict(set)
        """Which documents name a group."""

    def update(self, added: Sequence[Unit], removed: Sequence[Unit]) -> set[DocumentKey]:
        """Documents (added ones perhaps among them) with peers that mean somebody else now."""
        touched: set[Network] = set()
        new_peers: set[Simple] = set()
        for unit in removed:
            self._remove(unit, touched)
        for unit in added:
            self._add(unit, touched, new_peers)
        before = self._cidrs.numbers
        changed = self._update_prefixes(touched)
        concerned = self._update_names(added, removed)
        if changed:
            self.cluster.outside_changed()
            self._publish(changed, before)
            for peer in self._candidates(changed) - new_peers:
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

    def _update_names(self, added: Sequence[Unit], removed: Sequence[Unit]) -> set[DocumentKey]:
        """Documents that name groups which have other identities now."""
        gone = [(names, unit.key) for unit in removed for names in unit.name_groups()]
        new = [(names, unit.key) for unit in added for names in unit.name_groups()]
        if not gone and not new:
            return set()
        for names, key in gone:
            self._grouped[names].discard(key)
        for names, key in new:
            self._grouped[names].add(key)
        before = self.names.labels
        moved = self.names.update([names for names, _ in new], [names for names, _ in gone])
        after = self.names.labels
        if before != after:
            kept = {number: labels for number, labels in self.identities.items() if number not in before}
            self.identities = {**kept, **after}
        return {key for names in moved for key in self._grouped[names]}

    def _candidates(self, changed: set[Network]) -> set[Simple]:
        if len(changed) > _MANY:
            return set(self._users)
        near = {wider for network in changed for wider in ancestors(network)}
        found: set[Simple] = {block for network in near for block in self._blocks.get(network, ())}
        return found | {peer for peer in self._users if not isinstance(peer, CidrBlock)}

    def _publish(self, changed: set[Network], before: Mapping[Network, int]) -> None:
        """Endpoints and nodes are stronger than prefixes of rules."""
        numbers = self._cidrs.numbers
        if len(changed) > _MANY:
            self.ipcache = {**numbers, **self.cluster.prefixes}
            labels = {number: cidr_labels(prefix) for prefix, number in numbers.items()}
            self.identities = {**self.cluster.labels, **labels, **self.names.labels}
            return
        ipcache, identities = dict(self.ipcache), dict(self.identities)
        for network in changed:
            identities.pop(before.get(network, 0), None)
            if network not in self.cluster.prefixes:
                ipcache.pop(network, None)
                if network in numbers:
                    ipcache[network] = numbers[network]
        identities.update((numbers[network], cidr_labels(network)) for network in changed if network in numbers)
        self.ipcache, self.identities = ipcache, identities
