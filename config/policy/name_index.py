"""Many DNS names and globs against one name, at the cost of its labels and not of how many there are.

Names stand in a table, and so do the globs `*`, `*.REST` and `**.REST`, by what they end with. Only other globs, such
as `api-*.REST`, need RE2: all of them in one program.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import re2

from config.policy.dns_names import pattern_regex
from config.policy.patterns import options

_ORDINARY = re.compile(r"(?:[-a-z0-9_]+\.)*[-a-z0-9_]+\Z")
"""Lower-case names of which every character can stand for a star. Globs match no others, but for the root."""

_STARS = re.compile(r"\*+\Z")
_SUFFIX = re.compile(r"(\*+)\.([-a-z0-9_.]+)\Z")

Places = tuple[int, ...]
_NOWHERE: Places = ()


class NameIndex:
    """Selectors by their place in the list. Each is a name (canonical), or a glob if the name is empty; the empty name
    without a glob is the root.
    """

    __slots__ = ("_anything", "_deep", "_names", "_places", "_set", "_single")

    def __init__(self, selectors: Iterable[tuple[str, str]]) -> None:
        names: defaultdict[str, list[int]] = defaultdict(list)
        single: defaultdict[str, list[int]] = defaultdict(list)
        deep: defaultdict[str, list[int]] = defaultdict(list)
        others: defaultdict[str, list[int]] = defaultdict(list)
        anything: list[int] = []
        for place, (name, pattern) in enumerate(selectors):
            if name or not pattern:
                names[name].append(place)
                continue
            text = pattern.strip().lower().removesuffix(".")
            ending = _SUFFIX.match(text)
            if "*" not in text:
                names[text].append(place)
            elif _STARS.match(text):
                anything.append(place)
            elif ending is not None:
                (single if ending[1] == "*" else deep)[ending[2]].append(place)
            else:
                others[pattern_regex(pattern)].append(place)
        self._names, self._single, self._deep = _frozen(names), _frozen(single), _frozen(deep)
        self._anything = tuple(anything)
        self._places = list(map(tuple, others.values()))
        self._set = _set_of(others)

    def match(self, name: str) -> Iterator[int]:
        """Places of the selectors that the canonical name satisfies, in no order."""
        yield from self._names.get(name, _NOWHERE)
        if not _ORDINARY.match(name):
            if not name:
                yield from self._anything
            return
        yield from self._anything
        if self._single or self._deep:
            _, _, rest = name.partition(".")
            if rest:
                yield from self._single.get(rest, _NOWHERE)
            while rest:
                yield from self._deep.get(rest, _NOWHERE)
                _, _, rest = rest.partition(".")
        if self._set is not None:
            for index in self._set.Match(f"{name}.".encode()) or ():
                yield from self._places[index]


def _frozen(table: dict[str, list[int]]) -> dict[str, Places]:
    return {text: tuple(places) for text, places in table.items()}


def _set_of(patterns: Iterable[str]) -> re2.Set | None:
    """All patterns in one program. It says "no match" when it runs out of memory: harmless, as rules only allow."""
    found = list(patterns)
    if not found:
        return None
    made = re2.Set.FullMatchSet(options())
    for pattern in found:
        made.Add(pattern.encode())
    made.Compile()
    return made
