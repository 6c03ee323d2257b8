"""Identities of what lies outside the cluster: every prefix that a rule names.

A packet has the identity of the longest prefix that covers its address. So a rule for 10.0.0.0/8 must select the
identity of 10.1.0.0/16, too, if another rule brought it about; an `except` is a prefix whose identity is left out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping

from config.identity import FIRST_CIDR, LAST_CIDR, Numbering, Reserved
from config.policy.resolved import Network
from config.policy.rules import CidrBlock

Ids = frozenset[int]
_Place = tuple[int, int]


class CidrTable:
    """Prefix → identity, and prefix → the identities of all prefixes inside it."""

    def __init__(self, prefixes: Iterable[Network] = ()) -> None:
        self.numbers: Mapping[Network, int] = {}
        self._numbering = Numbering(FIRST_CIDR, LAST_CIDR, "cidr")
        self._by_text: dict[str, Network] = {}
        self._answers: dict[Network | CidrBlock, Ids] = {}
        self._sorted: dict[int, list[tuple[_Place, Network]]] = {4: [], 6: []}
        self.update(prefixes, ())

    def update(self, added: Iterable[Network], removed: Iterable[Network]) -> set[Network]:
        """The prefixes that came, went or have another identity. The whole of a family is `world`, not a prefix."""
        gone = {str(prefix): prefix for prefix in removed if prefix in self.numbers}
        new = {str(prefix): prefix for prefix in added if prefix.prefixlen and prefix not in self.numbers}
        if not gone and not new:
            return set()
        moved = self._numbering.update(new, gone)
        changed = {*gone.values(), *new.values(), *(self._by_text[text] for text in moved)}
        numbers = dict(self.numbers)
        for text, prefix in gone.items():
            del numbers[prefix], self._by_text[text]
        self._by_text.update(new)
        numbers.update((self._by_text[text], self._numbering.numbers[text]) for text in (*new, *moved))
        self.numbers = numbers
        self._place(new.values(), gone.values())
        self._answers.clear()
        return changed

    def _place(self, new: Iterable[Network], gone: Iterable[Network]) -> None:
        """Prefixes nest or are disjoint: those that begin inside a prefix and are not shorter lie inside it."""
        for prefix in gone:
            known = self._sorted[prefix.version]
            del known[bisect_left(known, _place_of(prefix), key=_first)]
        for version, known in self._sorted.items():
            added = [prefix for prefix in new if prefix.version == version]
            if len(added) > 100:
                known.extend((_place_of(prefix), prefix) for prefix in added)
                known.sort(key=_first)
            else:
                for prefix in added:
                    insort(known, (_place_of(prefix), prefix), key=_first)

    def within(self, network: Network) -> Ids:
        """Identities of the prefixes inside `network`; for a whole family the rest of the world, too."""
        answer = self._answers.get(network)
        if answer is None:
            answer = self._answers[network] = frozenset(self._within(network))
        return answer

    def _within(self, network: Network) -> set[int]:
        known = self._sorted[network.version]
        first: _Place = int(network.network_address), network.prefixlen
        last: _Place = int(network.broadcast_address), network.max_prefixlen
        low, high = bisect_left(known, first, key=_first), bisect_right(known, last, key=_first)
        # From `low` on: a shorter prefix that begins inside would begin at the same address and come before.
        found = {self.numbers[prefix] for _, prefix in known[low:high]}
        if not network.prefixlen:
            found.add(int(Reserved.WORLD_IPV4 if network.version == 4 else Reserved.WORLD_IPV6))
        return found

    def select(self, block: CidrBlock) -> Ids:
        """Identities that the block covers: those inside it, but not inside an exception."""
        if not block.excepts:
            return self.within(block.network)
        answer = self._answers.get(block)
        if answer is None:
            outside = Ids().union(*(self.within(inner) for inner in block.excepts))
            answer = self._answers[block] = self.within(block.network) - outside
        return answer

    def of_family(self, version: int) -> Ids:
        """Identities of all prefixes of one family."""
        return frozenset(self.numbers[prefix] for _, prefix in self._sorted[version])


def ancestors(network: Network) -> Iterable[Network]:
    """The prefix itself and all that cover it, the longest first."""
    while True:
        yield network
        if not network.prefixlen:
            return
        network = network.supernet()


def _place_of(prefix: Network) -> _Place:
    return int(prefix.network_address), prefix.prefixlen


def _first(item: tuple[_Place, Network]) -> _Place:
    return item[0]
