"""Identities of prefixes: every prefix that a rule names has its own, and rules select all prefixes inside theirs.

A packet has the identity of the longest prefix that covers its address. So a rule for 10.0.0.0/8 must select the
identity of 10.1.0.0/16, too, if another rule brought it about; an `except` is a prefix whose identity is left out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping

from config.identity import Reserved, assign_cidrs
from config.policy.resolved import Network
from config.policy.rules import CidrBlock, Document

_Ids = frozenset[int]


def prefixes_of(documents: Iterable[Document]) -> set[Network]:
    """Every prefix that the documents name, exceptions included. The whole of a family is `world`, not a prefix."""
    found: set[Network] = set()
    for document in documents:
        for rule in document.rules:
            for entry in rule.entries:
                for peer in entry.peers or ():
                    if isinstance(peer, CidrBlock):
                        found.add(peer.network)
                        found.update(peer.excepts)
    return {prefix for prefix in found if prefix.prefixlen}


class CidrTable:
    """Prefix → identity, and prefix → the identities of all prefixes inside it."""

    def __init__(self, prefixes: Iterable[Network]) -> None:
        self.numbers: Mapping[Network, int] = assign_cidrs(prefixes)
        self._answers: dict[Network | CidrBlock, _Ids] = {}
        self._starts: dict[int, list[int]] = {}
        self._sorted: dict[int, list[tuple[Network, int]]] = {}
        for version in (4, 6):
            known = [item for item in self.numbers.items() if item[0].version == version]
            # Prefixes nest or are disjoint: those that begin inside a prefix and are not shorter lie inside it.
            known.sort(key=lambda item: (int(item[0].network_address), item[0].prefixlen))
            self._sorted[version] = known
            self._starts[version] = [int(prefix.network_address) for prefix, _ in known]

    def within(self, network: Network) -> _Ids:
        """Identities of the prefixes inside `network`; for a whole family the rest of the world, too."""
        answer = self._answers.get(network)
        if answer is None:
            answer = self._answers[network] = self._within(network)
        return answer

    def _within(self, network: Network) -> _Ids:
        starts, known = self._starts[network.version], self._sorted[network.version]
        low = bisect_left(starts, int(network.network_address))
        high = bisect_right(starts, int(network.broadcast_address))
        found = {number for prefix, number in known[low:high] if prefix.prefixlen >= network.prefixlen}
        if not network.prefixlen:
            found.add(int(Reserved.WORLD_IPV4 if network.version == 4 else Reserved.WORLD_IPV6))
        return frozenset(found)

    def select(self, block: CidrBlock) -> _Ids:
        """Identities that the block covers: those inside it, but not inside an exception."""
        if not block.excepts:
            return self.within(block.network)
        answer = self._answers.get(block)
        if answer is None:
            outside = frozenset[int]().union(*(self.within(inner) for inner in block.excepts))
            answer = self._answers[block] = self.within(block.network) - outside
        return answer

    def of_family(self, version: int) -> _Ids:
        return frozenset(number for _, number in self._sorted[version])
