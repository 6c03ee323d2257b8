"""Rules that make one another pointless: rules are OR-ed, and deny wins over all of them."""

from __future__ import annotations

from collections.abc import Iterator

from config import codes
from config.policy.lint.covers import PortTable, distinct
from config.policy.lint.view import Item, Note, Part, Table, View, note
from config.policy.mismatch import peer_words
from config.policy.resolved import Direction, EndpointPolicy, L7Kind, Rule, Snapshot, kind_of
from config.policy.rules import Peer, PortSpec


def shadowed(view: View) -> Iterator[Note]:
    """L7 rules beside a rule that allows the same peers and port without any."""
    found: set[Item] = set()
    inspecting = [part for part in view.parts if part.l7 and part.item.refuses]
    for part in inspecting:
        said = _shadow(view, part)
        if said:
            found.add(part.item)
            yield note(codes.SHADOWED, part, said)
    if view.snapshot is not None:
        rest = [part.item for part in inspecting if part.item not in found]
        yield from _shadowed_exactly(rest, view.snapshot)


def _shadow(view: View, part: Part) -> str:
    """Who allows what the L7 rules of the part are about, for as many of its peers as possible."""
    peers = distinct(part.peers)
    by_peer = {peer: other for peer in peers if (other := _first_overlapping(view, part, peer)) is not None}
    if not by_peer:
        return ""
    peer, other = next(iter(by_peer.items()))
    about = f"for {peer_words(peer)} " if peer is not None and len(by_peer) < len(peers) else ""
    return f"{about}every request is allowed by {other.item.name}: these L7 rules have no effect"


def _first_overlapping(view: View, part: Part, peer: Peer | None) -> Part | None:
    for table in view.plain(part.item):
        for _, ports in table.covering(peer):
            for spec in part.ports or ():
                for other in ports.overlapping(spec):
                    return other
    return None


def _shadowed_exactly(items: list[Item], snapshot: Snapshot) -> Iterator[Note]:
    """Of these, those whose peers are all allowed by another rule on every endpoint that they are about."""
    by_place = {_place(item): item for item in items}
    void: dict[Item, Rule] = {}
    alive: set[Item] = set()
    policies = {id(policy): policy for policy in snapshot.policies.values()}
    for policy in policies.values():
        for item, other in _judged(policy, by_place):
            if other is None:
                alive.add(item)
            else:
                void.setdefault(item, other)
    for item, other in void.items():
        if item not in alive:
            origin = other.origin
            name = f"{origin.namespace}/{origin.name}" if origin.namespace else origin.name
            by = f"{name} {origin.rule} ({origin.file}:{origin.line})"
            message = f"on all endpoints that there are every request is allowed by {by}: its L7 rules have no effect"
            yield note(codes.SHADOWED, item, message)


def _judged(policy: EndpointPolicy, items: dict[tuple[str, str, str, str], Item]) -> Iterator[tuple[Item, Rule | None]]:
    """Each of `items` that is in force for these endpoints, and the rule that makes it void there."""
    for direction in Direction:
        rules = policy.direction(direction).rules
        table: PortTable[Rule] = PortTable()
        for rule in rules:
            if not rule.deny and rule.l7 is None and rule.origin.file:
                table.add(_specs(rule), rule)
        for rule in rules:
            origin = rule.origin
            item = items.get((origin.kind, origin.namespace, origin.name, origin.rule))
            if item is not None and rule.l7 and rule.identities != frozenset():
                yield item, _wider(rule, table)


def _wider(rule: Rule, plain: PortTable[Rule]) -> Rule | None:
    for spec in _specs(rule) or ():
        for other in plain.overlapping(spec):
            if other.identities is None or (rule.identities is not None and rule.identities <= other.identities):
                return other
    return None


def _specs(rule: Rule) -> tuple[PortSpec, ...] | None:
    if rule.ports is None:
        return None
    return tuple(PortSpec((ports.protocol,), ports.first, ports.last) for ports in rule.ports)


def _place(item: Item) -> tuple[str, str, str, str]:
    return (*item.document.key, item.entry.name)


def conflicting(view: View) -> Iterator[Note]:
    """L7 rules of two kinds for the same peers and port."""
    seen: set[Part] = set()
    for part in view.parts:
        if part.l7:
            seen.add(part)
            kind = kind_of(part.l7[0])
            other = _of_other_kind(view, part, kind, seen)
            if other is not None and other.l7:
                kinds = f"{kind} rules, but {other.item.name} has {kind_of(other.l7[0])} rules"
                yield note(codes.L7_CONFLICT, part, f"{kinds} for the same peers and port: neither would be enforced")


def _of_other_kind(view: View, part: Part, kind: L7Kind, seen: set[Part]) -> Part | None:
    """Of two with one subject the second tells of the first; one with a wider subject does not know the narrower."""
    subject = part.item.rule.subject
    for table in view.of_other_kinds(part.item, kind):
        known = (table.equal(peer) for peer in distinct(part.peers))
        others = (other for ports in known if ports for spec in part.ports or () for other in ports.overlapping(spec))
        found = next((other for other in others if other in seen or other.item.rule.subject != subject), None)
        if found is not None:
            return found
    return None


def denied(view: View) -> Iterator[Note]:
    """Allow rules of which deny rules leave nothing."""
    parts: dict[Item, list[Part]] = {}
    for part in view.parts:
        if not part.item.entry.deny and not part.item.selects_nobody and part.ports != ():
            parts.setdefault(part.item, []).append(part)
    for item, own in parts.items():
        tables = list(view.denying(item))
        found = [
            _denying(tables, peer, spec)
            for part in own
            for peer in distinct(part.peers)
            for spec in part.ports or (None,)
        ]
        if found[0] is not None and all(found):
            yield note(codes.ALLOW_DENIED, item, f"everything in it is denied by {found[0].item.name}")


def _denying(tables: list[Table], peer: Peer | None, spec: PortSpec | None) -> Part | None:
    covering = (other for table in tables for _, ports in table.covering(peer) for other in ports.covering(spec))
    return next(covering, None)


def repeated(view: View) -> Iterator[Note]:
    """Entries that say the same about the same endpoints."""
    first: dict[object, Item] = {}
    for item in view.items:
        if item.selects_nobody:
            continue
        entry, rule = item.entry, item.rule
        peers = frozenset(distinct(entry.peers))
        known = first.setdefault((rule.subject, rule.audit, entry.direction, entry.deny, peers, entry.port_rules), item)
        if known is not item:
            yield note(codes.ENTRY_TWICE, item, f"the same as {known.name}")
