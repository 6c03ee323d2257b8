"""Label selectors, and an index that answers them for all identities at once.

A selector is a conjunction of terms. The index keeps, for each key and each key=value, the identities that have it, so
a selector costs a few set operations however many identities there are, and each distinct selector is answered once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from config.labels import ANY, CIDR, RESERVED, parse_cidr_key, parse_label, split_key
from config.policy.resolved import Network


class Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """One condition on one key. Absence of the key satisfies NotIn and DoesNotExist."""

    source: str
    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = self.key if self.source == ANY else f"{self.source}:{self.key}"
        match self.operator:
            case Operator.EXISTS:
                return name
            case Operator.DOES_NOT_EXIST:
                return f"!{name}"
            case Operator.IN if len(self.values) == 1:
                return f"{name}={self.values[0]}"
        return f"{name} {'in' if self.operator is Operator.IN else 'notin'} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All terms must hold; no terms: everything. Terms are sorted, so equal selectors are equal objects."""

    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms) or "{}"


def equals(text: str, value: str) -> Term:
    """The term of one `matchLabels` item."""
    source, key = split_key(text)
    return Term(source, key, Operator.IN, (value,))


def exists(text: str) -> Term:
    source, key = split_key(text)
    return Term(source, key, Operator.EXISTS)


def selector(*terms: Term) -> Selector:
    return Selector(tuple(sorted(set(terms))))


def satisfies(chosen: Selector, labels: Iterable[tuple[str, str, str]]) -> bool:
    """Do these labels (source, key, value) satisfy all terms? For single objects; identities have the index."""
    known = list(labels)
    for term in chosen.terms:
        values = [value for source, key, value in known if term.source in (ANY, source) and term.key == key]
        by_value = term.operator in (Operator.IN, Operator.NOT_IN)
        found = any(value in term.values for value in values) if by_value else bool(values)
        if found is (term.operator in (Operator.NOT_IN, Operator.DOES_NOT_EXIST)):
            return False
    return True


_Ids = frozenset[int]
_NOBODY: _Ids = frozenset()


class Outside(Protocol):
    """Identities of what lies outside the cluster, which come and go with the rules that name prefixes."""

    def within(self, network: Network) -> _Ids: ...

    def of_family(self, version: int) -> _Ids: ...


_WORLDS: dict[str, tuple[int, ...]] = {"world": (4, 6), "world-ipv4": (4,), "world-ipv6": (6,)}
"""Keys of the reserved labels that identities outside carry, with the IP versions."""


class SelectorIndex:
    """Identities by label: those of `identities`, which are fixed, and those outside."""

    def __init__(self, identities: Mapping[int, frozenset[str]], outside: Outside) -> None:
        self._everybody = frozenset(identities)
        self._outside = outside
        self._answers: dict[Selector, _Ids] = {}
        self._unsettled: dict[Selector, _Ids] = {}
        with_key: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        with_value: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
        for number, labels in identities.items():
            for text in labels:
                source, key, value = parse_label(text)
                for seen_as in {source, ANY}:
                    with_key[seen_as, key].add(number)
                    with_value[seen_as, key, value].add(number)
        self._with_key = {key: frozenset(numbers) for key, numbers in with_key.items()}
        self._with_value = {key: frozenset(numbers) for key, numbers in with_value.items()}

    def select(self, chosen: Selector) -> _Ids:
        """The identities that satisfy all terms."""
        answers = self._answers if is_settled(chosen) else self._unsettled
        answer = answers.get(chosen)
        if answer is None:
            answer = answers[chosen] = self._select(chosen)
        return answer

    def outside_changed(self) -> None:
        """What is outside is not what it was: forget the answers that depend on it."""
        self._unsettled.clear()

    def _select(self, chosen: Selector) -> _Ids:
        found: _Ids | None = None
        without: _Ids = _NOBODY
        for term in chosen.terms:
            matching = self._matching(term)
            if term.operator in (Operator.NOT_IN, Operator.DOES_NOT_EXIST):
                without |= matching
            else:
                found = matching if found is None else found & matching
        if found is None:
            found = self._everybody | self._outside.of_family(4) | self._outside.of_family(6)
        return found - without

    def _matching(self, term: Term) -> _Ids:
        """Who has the key (with one of the values)."""
        by_value = term.operator in (Operator.IN, Operator.NOT_IN)
        if term.source == CIDR:
            network = parse_cidr_key(term.key)
            # Labels of prefixes have no value.
            return _NOBODY if network is None or (by_value and "" not in term.values) else self._outside.within(network)
        if by_value:
            parts = (self._with_value.get((term.source, term.key, value), _NOBODY) for value in term.values)
            found = _NOBODY.union(*parts)
        else:
            found = self._with_key.get((term.source, term.key), _NOBODY)
        if _is_world(term) and (not by_value or "" in term.values):
            return found.union(*(self._outside.of_family(version) for version in _WORLDS[term.key]))
        return found


@lru_cache(maxsize=65536)
def is_settled(chosen: Selector) -> bool:
    """Can the selector only ever select what carries labels of the cluster?"""
    return any(
        term.operator in (Operator.IN, Operator.EXISTS) and term.source != CIDR and not _is_world(term)
        for term in chosen.terms
    )


def _is_world(term: Term) -> bool:
    return term.source in (RESERVED, ANY) and term.key in _WORLDS
