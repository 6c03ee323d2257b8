"""What provably includes what: terms, selectors, peers and ports, without knowing any endpoint.

The tables answer "which of these include that?" at a cost that does not grow with their size: a set of 10,000 rules
asks each of them about all others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from config.labels import ANY, K8S, POD_NAMESPACE
from config.policy.cidrs import ancestors
from config.policy.resolved import FqdnPeer, Network
from config.policy.rules import CidrBlock, Entity, GroupPeer, Peer, PortSpec
from config.policy.selectors import Operator, Selector, Term

MAX_CANDIDATES = 1000
"""Selectors that are compared with one: a lint may overlook something, but never takes minutes."""

_NEGATIVE = frozenset((Operator.NOT_IN, Operator.DOES_NOT_EXIST))
_WORLDS = frozenset((Entity.WORLD, Entity.WORLD_IPV4, Entity.WORLD_IPV6))

_Anchor = tuple[str, str | bool]
T = TypeVar("T")


def term_covers(outer: Term, inner: Term) -> bool:
    """Does whatever satisfies `inner` satisfy `outer`?"""
    if outer.key != inner.key or (outer.operator in _NEGATIVE) is not (inner.operator in _NEGATIVE):
        return False
    wide, narrow = (inner, outer) if outer.operator in _NEGATIVE else (outer, inner)
    if wide.source not in (ANY, narrow.source):
        return False
    match outer.operator:
        case Operator.EXISTS:
            return True
        case Operator.IN:
            return inner.operator is Operator.IN and set(inner.values) <= set(outer.values)
        case Operator.NOT_IN:
            return inner.operator is Operator.DOES_NOT_EXIST or set(inner.values) >= set(outer.values)
    return inner.operator is Operator.DOES_NOT_EXIST


def selector_covers(outer: Selector, inner: Selector) -> bool:
    """Is each term of `outer` implied by one of `inner`?"""
    return all(any(term_covers(wanted, given) for given in inner.terms) for wanted in outer.terms)


def is_about_pods(chosen: Selector) -> bool:
    """Is it limited to what has a namespace?"""
    positive = (term for term in chosen.terms if term.operator not in _NEGATIVE)
    return any(term.key == POD_NAMESPACE and term.source in (ANY, K8S) for term in positive)


class SelectorTable:
    """Selectors, filed by one of their terms: whatever they cover must have that, too. The rarest term is the best."""

    def __init__(self) -> None:
        self._all: dict[Selector, None] = {}
        self._filed: dict[_Anchor | None, list[Selector]] | None = None

    def add(self, chosen: Selector) -> None:
        self._all[chosen] = None
        self._filed = None

    def covering(self, inner: Selector) -> Iterator[Selector]:
        """All that cover `inner`, also itself."""
        if self._filed is None:
            self._filed = self._file()
        found: dict[Selector, None] = {}
        for anchor in _implied(inner):
            for outer in self._filed.get(anchor, ())[:MAX_CANDIDATES]:
                if outer not in found and selector_covers(outer, inner):
                    found[outer] = None
        yield from found

    def _file(self) -> dict[_Anchor | None, list[Selector]]:
        frequency = Counter(anchor for chosen in self._all for term in chosen.terms for anchor in _anchors(term))
        filed: defaultdict[_Anchor | None, list[Selector]] = defaultdict(list)
        for chosen in self._all:
            costs = [(sum(frequency[anchor] for anchor in _anchors(term)), term) for term in chosen.terms]
            for anchor in _anchors(min(costs)[1]) if costs else (None,):
                filed[anchor].append(chosen)
        return dict(filed)


def _anchors(term: Term) -> list[_Anchor]:
    """Under what a selector with this term is filed: the key with each of its values."""
    if term.operator is Operator.IN:
        return [(term.key, value) for value in term.values]
    return [(term.key, term.operator in _NEGATIVE)]


def _implied(inner: Selector) -> Iterator[_Anchor | None]:
    """Where everything is filed that may cover `inner`."""
    yield None
    for term in inner.terms:
        yield term.key, term.operator in _NEGATIVE
        if term.operator is Operator.IN:
            yield term.key, term.values[0]


class PortTable(Generic[T]):
    """Things by their ports."""

    def __init__(self) -> None:
        self._everywhere: list[T] = []
        self._exact: defaultdict[tuple[int, int | str], list[T]] = defaultdict(list)
        self._ranges: list[tuple[PortSpec, T]] = []

    def add(self, ports: tuple[PortSpec, ...] | None, item: T) -> None:
        if ports is None:
            self._everywhere.append(item)
            return
        for spec in ports:
            if _is_range(spec):
                self._ranges.append((spec, item))
                continue
            for protocol in spec.protocols:
                self._exact[protocol, spec.name or spec.first].append(item)

    def overlapping(self, spec: PortSpec) -> Iterator[T]:
        """What has a port of `spec`, as far as that is certain."""
        yield from self._everywhere
        if _is_range(spec):
            for (protocol, port), items in self._exact.items():
                if protocol in spec.protocols and isinstance(port, int) and spec.first <= port <= spec.last:
                    yield from items
        else:
            for protocol in spec.protocols:
                yield from self._exact.get((protocol, spec.name or spec.first), ())
        yield from (item for other, item in self._ranges if not spec.name and _overlap(other, spec))

    def covering(self, spec: PortSpec | None) -> Iterator[T]:
        """What has all ports of `spec`; None: all ports there are."""
        yield from self._everywhere
        if spec is None:
            return
        if not _is_range(spec):
            found, *others = (self._exact.get((protocol, spec.name or spec.first), ()) for protocol in spec.protocols)
            known = [set(map(id, other)) for other in others]
            yield from (item for item in found if all(id(item) in other for other in known))
        yield from (item for other, item in self._ranges if not spec.name and _contains(other, spec))


def _is_range(spec: PortSpec) -> bool:
    return not spec.name and spec.first != spec.last


def _overlap(one: PortSpec, other: PortSpec) -> bool:
    return one.first <= other.last and other.first <= one.last and not set(one.protocols).isdisjoint(other.protocols)


def _contains(outer: PortSpec, inner: PortSpec) -> bool:
    return outer.first <= inner.first and inner.last <= outer.last and set(inner.protocols) <= set(outer.protocols)


class PeerTable(Generic[T]):
    """Things by peers and ports. Peers None is any peer, like the entity `all`."""

    def __init__(self) -> None:
        self._by_peer: dict[Peer | None, PortTable[T]] = {}
        self._selectors = SelectorTable()

    def add(self, peers: Iterable[Peer] | None, ports: tuple[PortSpec, ...] | None, item: T) -> None:
        for peer in distinct(peers):
            if peer not in self._by_peer:
                self._by_peer[peer] = PortTable()
                if isinstance(peer, Selector):
                    self._selectors.add(peer)
            self._by_peer[peer].add(ports, item)

    def equal(self, peer: Peer | None) -> PortTable[T] | None:
        return self._by_peer.get(peer)

    def covering(self, peer: Peer | None) -> Iterator[tuple[Peer | None, PortTable[T]]]:
        """The ports by each peer that includes `peer`, the widest first."""
        for outer in dict.fromkeys((None, *self._wider(peer), peer)):
            known = self._by_peer.get(outer)
            if known is not None:
                yield outer, known

    def _wider(self, peer: Peer | None) -> Iterator[Peer]:
        match peer:
            case Selector():
                if is_about_pods(peer):
                    yield Entity.CLUSTER
                yield from self._selectors.covering(peer)
            case CidrBlock():
                yield from (Entity.WORLD, _world_of(peer.network))
                yield from (CidrBlock(network) for network in ancestors(peer.network))
            case GroupPeer() | Entity.WORLD_IPV4 | Entity.WORLD_IPV6:
                yield Entity.WORLD
            case FqdnPeer():
                yield Entity.WORLD
            case Entity() if peer not in (*_WORLDS, Entity.ALL, Entity.NONE):
                yield Entity.CLUSTER


def _world_of(network: Network) -> Entity:
    return Entity.WORLD_IPV4 if network.version == 4 else Entity.WORLD_IPV6


def distinct(peers: Iterable[Peer] | None) -> tuple[Peer | None, ...]:
    """Each peer once; `(None,)` where any peer is meant."""
    if peers is None:
        return (None,)
    found = tuple(dict.fromkeys(peers))
    return (None,) if Entity.ALL in found else found
