"""Whom rules are about: nobody, more than one may think, or what is not there at all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

from config import codes
from config.endpoints import EndpointsFile
from config.labels import CIDR, RESERVED
from config.policy.lint.covers import distinct
from config.policy.lint.view import Item, Note, View, note, rule_note
from config.policy.mismatch import peer_words
from config.policy.references import expand, refers
from config.policy.resolved import Direction, Network
from config.policy.rules import CidrBlock, GroupPeer, Peer, PolicyRule
from config.policy.selectors import Selector, SelectorIndex


def whole_world_cidrs(view: View) -> Iterator[Note]:
    """0.0.0.0/0 is every address outside of the cluster."""
    for item in view.items:
        blocks = [peer for peer in item.entry.peers or () if isinstance(peer, CidrBlock) and not peer.network.prefixlen]
        if blocks and not item.entry.deny:
            yield note(codes.WORLD_CIDR, item, f"{blocks[0].network} does not mean pods, nor nodes")


def everybody_denied(view: View) -> Iterator[Note]:
    """A cluster-wide policy for all pods makes those of kube-system default deny, too."""
    for document in view.documents:
        for index, rule in enumerate(document.rules):
            directions = [
                way.name.lower() for way in Direction if rule.default_deny[way] and not _allows_all(rule, way)
            ]
            if directions and not document.namespace and not rule.subject.terms and not rule.audit:
                message = f"{' and '.join(directions)} of all pods becomes default deny"
                yield rule_note(codes.EVERYBODY_DENIED, document, index, message, "endpointSelector")


def _allows_all(rule: PolicyRule, direction: Direction) -> bool:
    allowing = (entry for entry in rule.entries if entry.direction is direction and not entry.deny)
    return any(entry.port_rules is None and distinct(entry.peers) == (None,) for entry in allowing)


def unknown_references(view: View) -> Iterator[Note]:
    """A CIDR group or service that is not there selects nobody. Services: only if there are any."""
    nobody: dict[Peer, bool] = {}
    for item in view.items:
        for peer in item.entry.peers or ():
            is_group = isinstance(peer, GroupPeer)
            if not refers(peer) or not (is_group or view.references.services):
                continue
            if peer not in nobody:
                nobody[peer] = not expand(peer, view.references)
            if nobody[peer]:
                code = codes.GROUP_UNKNOWN if is_group else codes.SERVICE_UNKNOWN
                yield note(code, item, f"{peer_words(peer)} selects nobody in these files")


class _Known:
    """The endpoints, as lints ask for them."""

    def __init__(self, file: EndpointsFile) -> None:
        self._file = file
        sets = dict(enumerate(dict.fromkeys(item.labels for item in file.endpoints)))
        self._ports: dict[int, set[tuple[int, str]]] = {number: set() for number in sets}
        numbers = {labels: number for number, labels in sets.items()}
        for item in file.endpoints:
            self._ports[numbers[item.labels]].update((port.protocol, port.name) for port in item.ports)
        self._index = SelectorIndex(sets, _NothingOutside())

    def select(self, chosen: Selector) -> frozenset[int]:
        return self._index.select(chosen)

    def ports_of(self, selected: Iterable[int]) -> set[tuple[int, str]]:
        return set[tuple[int, str]]().union(*(self._ports[number] for number in selected))

    @cached_property
    def every_port(self) -> set[tuple[int, str]]:
        return self.ports_of(self._ports)

    @cached_property
    def _addresses(self) -> dict[int, list[tuple[int, str]]]:
        found: dict[int, list[tuple[int, str]]] = {4: [], 6: []}
        for item in self._file.endpoints:
            for address in item.addresses:
                found[address.version].append((int(address), f"{item.namespace}/{item.name} ({address})"))
        return {version: sorted(items) for version, items in found.items()}

    def inside(self, block: CidrBlock) -> str:
        """One endpoint with an address in the block, or an empty string."""
        items = self._addresses[block.network.version]
        for number, name in items[slice(*_bounds(items, block.network))]:
            if not any(_holds(inner, number) for inner in block.excepts):
                return name
        return ""


def _bounds(items: list[tuple[int, str]], network: Network) -> tuple[int, int]:
    first, last = int(network.network_address), int(network.broadcast_address)
    return bisect_left(items, first, key=_address), bisect_right(items, last, key=_address)


def _address(item: tuple[int, str]) -> int:
    return item[0]


def _holds(network: Network, number: int) -> bool:
    return int(network.network_address) <= number <= int(network.broadcast_address)


class _NothingOutside:
    def within(self, network: Network) -> frozenset[int]:
        return frozenset()

    def of_family(self, version: int) -> frozenset[int]:
        return frozenset()


def unmatched_by_endpoints(view: View) -> Iterator[Note]:
    """With endpoints given: subjects, peers and named ports that no endpoint has, and CIDRs with addresses of pods."""
    if view.endpoints is None or not view.endpoints.endpoints:
        return
    known = _Known(view.endpoints)
    for document in view.documents:
        for index, rule in enumerate(document.rules):
            if _is_about_endpoints(rule.subject) and not known.select(rule.subject):
                message = f"no endpoint has the labels {rule.subject}"
                yield rule_note(codes.SUBJECT_NOBODY, document, index, message, "endpointSelector")
    for item in view.items:
        yield from _peers(item, known)
        yield from _ports(item, known)


def _is_about_endpoints(chosen: Selector) -> bool:
    return not any(term.source in (RESERVED, CIDR) for term in chosen.terms)


def _peers(item: Item, known: _Known) -> Iterator[Note]:
    key = "fromEndpoints" if item.entry.direction is Direction.INGRESS else "toEndpoints"
    for index, peer in enumerate(item.entry.peers or ()):
        if isinstance(peer, Selector):
            if _is_about_endpoints(peer) and not known.select(peer):
                yield note(codes.PEER_NOBODY, item, f"no endpoint has the labels {peer}", key, index)
        elif isinstance(peer, CidrBlock) and not item.entry.deny and peer.network.prefixlen:
            name = known.inside(peer)
            if name:
                yield note(codes.CIDR_OF_PODS, item, f"{peer_words(peer)} does not mean endpoints such as {name}")


def _ports(item: Item, known: _Known) -> Iterator[Note]:
    named = [
        (number, index, spec)
        for number, port_rule in enumerate(item.entry.port_rules or ())
        for index, spec in enumerate(port_rule.ports)
        if spec.name
    ]
    if not named:
        return
    if item.entry.direction is Direction.INGRESS:
        there = known.ports_of(known.select(item.rule.subject))
    else:
        there = known.every_port
    for number, index, spec in named:
        if not any((protocol, spec.name) in there for protocol in spec.protocols):
            whose = "that the rule is about " if item.entry.direction is Direction.INGRESS else ""
            message = f'no endpoint {whose}has a port "{spec.name}"'
            yield note(codes.PORT_NOBODY, item, message, "toPorts", number, "ports", index)
