"""Label selectors, and an index that answers them for all identities at once.

A selector is a conjunction of terms. The index keeps, for each key and each key=value, the identities that have it, so
a selector costs a few set operations however many identities there are, and each distinct selector is answered once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from config.labels import ANY, CIDR, parse_cidr_key, parse_label, split_key
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


_Ids = frozenset[int]
_NOBODY: _Ids = frozenset()


class SelectorIndex:
    """Identities by label. `within` gives the identities of prefixes inside a prefix, for `cidr:` keys."""

    def __init__(self, identities: Mapping[int, frozenset[str]], within: Callable[[Network], _Ids]) -> None:
        self._everybody = frozenset(identities)
        self._within = within
        self._answers: dict[Selector, _Ids] = {}
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
        answer = self._answers.get(chosen)
        if answer is None:
            answer = self._answers[chosen] = self._select(chosen)
        return answer

    def _select(self, chosen: Selector) -> _Ids:
        found: _Ids | None = None
        without: _Ids = _NOBODY
        for term in chosen.terms:
            matching = self._matching(term)
            if term.operator in (Operator.NOT_IN, Operator.DOES_NOT_EXIST):
                without |= matching
            else:
                found = matching if found is None else found & matching
        return (self._everybody if found is None else found) - without

    def _matching(self, term: Term) -> _Ids:
        """Who has the key (with one of the values)."""
        by_value = term.operator in (Operator.IN, Operator.NOT_IN)
        if term.source == CIDR:
            network = parse_cidr_key(term.key)
            # Labels of prefixes have no value.
            return _NOBODY if network is None or (by_value and "" not in term.values) else self._within(network)
        if by_value:
            parts = (self._with_value.get((term.source, term.key, value), _NOBODY) for value in term.values)
            return _NOBODY.union(*parts)
        return self._with_key.get((term.source, term.key), _NOBODY)
