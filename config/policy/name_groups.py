"""Names that open addresses: what one entry's `toFQDNs` select is a group, and has an identity.

A lookup changes neither policies nor identities. It only says that an address, for the endpoint that asked, also
belongs to the groups that the name is in (map `names`); the rules of these groups stand in the endpoint's policy
already.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache

from config.identity import FIRST_NAMED, LAST_NAMED, Numbering
from config.labels import FQDN, WORLD, label
from config.policy.name_index import NameIndex
from config.policy.resolved import DirectionPolicy, FqdnPeer, NameGroup, Snapshot

MAX_TOLD = 16
"""Selectors that an identity's labels tell."""

_MEMO = 4096

Selectors = frozenset[FqdnPeer]


class NameGroups:
    """The groups of the documents in force."""

    def __init__(self) -> None:
        self._uses: Counter[Selectors] = Counter()
        self._numbering = Numbering(FIRST_NAMED, LAST_NAMED, "fqdn")

    def update(self, added: Iterable[Selectors], removed: Iterable[Selectors]) -> set[Selectors]:
        """Groups that stay, but under another identity."""
        before = set(self._numbering.numbers)
        self._uses.subtract(removed)
        self._uses.update(added)
        for selectors in [group for group, uses in self._uses.items() if uses <= 0]:
            del self._uses[selectors]
        wanted = {_text(group): group for group in self._uses}
        moved = self._numbering.update(wanted.keys() - before, before - wanted.keys())
        return {wanted[text] for text in moved}

    def group(self, selectors: Selectors) -> NameGroup:
        return NameGroup(self._numbering.numbers[_text(selectors)], selectors)

    def having(self, peer: FqdnPeer) -> frozenset[int]:
        """The identities of all groups in which a selector is."""
        return frozenset(self.group(selectors).identity for selectors in self._uses if peer in selectors)

    @property
    def labels(self) -> Mapping[int, frozenset[str]]:
        """Identity → labels."""
        return {self.group(selectors).identity: _labels(selectors) for selectors in self._uses}


def _text(selectors: Selectors) -> str:
    return "\0".join(sorted(f"{peer.name} {peer.pattern}" for peer in selectors))


def _labels(selectors: Selectors) -> frozenset[str]:
    told = sorted(map(str, selectors))[:MAX_TOLD]
    return frozenset((f"{WORLD}=", *(label(FQDN, text) for text in told)))


class NameMatcher:
    """Which groups of one endpoint's egress rules a name is in."""

    def __init__(self, groups: Iterable[NameGroup]) -> None:
        owners: defaultdict[FqdnPeer, set[int]] = defaultdict(set)
        for group in groups:
            for peer in group.selectors:
                owners[peer].add(group.identity)
        self.all: frozenset[int] = frozenset[int]().union(*owners.values())
        self._owners = list(owners.values())
        self._index = NameIndex((peer.name, peer.pattern) for peer in owners)
        self._known: dict[str, tuple[int, ...]] = {}

    def groups(self, name: str) -> tuple[int, ...]:
        """Identities, sorted. `name` is canonical."""
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= _MEMO:
                self._known.clear()
            matching = {number for place in self._index.match(name) for number in self._owners[place]}
            found = self._known[name] = tuple(sorted(matching))
        return found


def name_matcher(policy: DirectionPolicy) -> NameMatcher:
    """Of a policy, once for all endpoints that share it."""
    return _matcher(tuple(dict.fromkeys(rule.names for rule in policy.rules if rule.names is not None)))


def name_selectors(snapshot: Snapshot) -> frozenset[FqdnPeer]:
    """All that any endpoint's rules name."""
    distinct = {id(policy): policy for policy in snapshot.policies.values()}  # endpoints share them
    rules = (rule for policy in distinct.values() for rule in policy.egress.rules)
    return frozenset(peer for rule in rules if rule.names is not None for peer in rule.names.selectors)


@lru_cache(maxsize=1024)
def _matcher(groups: tuple[NameGroup, ...]) -> NameMatcher:
    return NameMatcher(groups)
