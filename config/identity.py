"""Numbers for identities: reserved ones, pods, nodes with labels, prefixes of CIDR rules, groups of DNS names.

Numbers come from a hash of what they stand for, with the next free number on a collision, taken in sorted order. So
they do not depend on the order of files, nodes with the same list agree, restarts keep them (tables in the kernel and
connections refer to them), and one more pod or prefix does not renumber the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType

from config.labels import RESERVED, WORLD_IPV4, WORLD_IPV6, sorted_labels


class Reserved(IntEnum):
    """Identities with a fixed meaning. WORLD_IPV4 and WORLD_IPV6 are the addresses that nothing else covers."""

    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10


FIRST_POD, LAST_POD = 256, 65535
"""Cluster-wide identities have 16 bits; the numbers below 256 are reserved."""

FIRST_CIDR, LAST_CIDR = 1 << 24, (3 << 23) - 1
FIRST_NAMED, LAST_NAMED = 3 << 23, (1 << 25) - 1
FIRST_NODE, LAST_NODE = 1 << 25, (3 << 24) - 1
"""Identities that only this node knows: prefixes, groups of DNS names, nodes with labels."""

_NAMES: Mapping[Reserved, str] = {
    Reserved.HOST: "host",
    Reserved.WORLD: "world",
    Reserved.UNMANAGED: "unmanaged",
    Reserved.HEALTH: "health",
    Reserved.INIT: "init",
    Reserved.REMOTE_NODE: "remote-node",
    Reserved.KUBE_APISERVER: "kube-apiserver",
    Reserved.INGRESS: "ingress",
}

RESERVED_LABELS: Mapping[int, frozenset[str]] = MappingProxyType(
    {
        **{int(number): frozenset((f"{RESERVED}:{name}=",)) for number, name in _NAMES.items()},
        int(Reserved.WORLD_IPV4): frozenset((f"{WORLD_IPV4}=",)),
        int(Reserved.WORLD_IPV6): frozenset((f"{WORLD_IPV6}=",)),
    }
)

WORLD_IDENTITIES = frozenset((int(Reserved.WORLD), int(Reserved.WORLD_IPV4), int(Reserved.WORLD_IPV6)))


def is_outside(identity: int) -> bool:
    """Not of the cluster: the world, and prefixes of rules. Only such addresses can be opened by DNS names."""
    return identity in WORLD_IDENTITIES or FIRST_CIDR <= identity <= LAST_CIDR


class NumbersExhausted(ValueError):
    """More things than numbers."""


def assign_numbers(names: Iterable[str], first: int, last: int, salt: str) -> dict[str, int]:
    """A number in first..last for each name; `salt` keeps kinds of numbers apart."""
    numbering = Numbering(first, last, salt)
    numbering.update(names, ())
    return numbering.numbers


class Numbering:
    """The numbers of names that come and go; always those that `assign_numbers` gives the same names at once."""

    def __init__(self, first: int, last: int, salt: str) -> None:
        self.numbers: dict[str, int] = {}
        self._first, self._room = first, last - first + 1
        self._salt = salt
        self._wished: dict[str, int] = {}
        self._taken: set[int] = set()

    def update(self, added: Iterable[str], removed: Iterable[str]) -> set[str]:
        """Names that stay, but with another number. Raises NumbersExhausted."""
        settled = True
        for name in removed:
            settled &= self._remove(name)
        missing = sorted(name for name in set(added) if name not in self.numbers)
        if len(self.numbers) + len(missing) > self._room:
            wanted = len(self.numbers) + len(missing)
            raise NumbersExhausted(f"{wanted} {self._salt} numbers wanted, there are {self._room}")
        for name in missing:
            settled &= self._add(name)
        return set() if settled else self._assign_all(set(missing))

    def _add(self, name: str) -> bool:
        """False if another name is in the way, so that it matters which of the two comes first."""
        digest = hashlib.blake2b(name.encode(), digest_size=8, person=self._salt.encode()[:16]).digest()
        number = self._wished[name] = self._first + int.from_bytes(digest, "big") % self._room
        self.numbers[name] = number
        free = number not in self._taken
        self._taken.add(number)
        return free

    def _remove(self, name: str) -> bool:
        """False if another name may have been pushed on by this one."""
        number = self.numbers.pop(name)
        self._taken.discard(number)
        return self._wished.pop(name) == number and self._next(number) not in self._taken

    def _next(self, number: int) -> int:
        return self._first + (number + 1 - self._first) % self._room

    def _assign_all(self, new: set[str]) -> set[str]:
        before, self.numbers, self._taken = self.numbers, {}, set()
        for name in sorted(self._wished):
            number = self._wished[name]
            while number in self._taken:
                number = self._next(number)
            self._taken.add(number)
            self.numbers[name] = number
        return {name for name, number in self.numbers.items() if name not in new and before[name] != number}


def assign_pods(label_sets: Iterable[frozenset[str]]) -> dict[frozenset[str], int]:
    """One identity per distinct set of labels."""
    texts = {"\0".join(sorted_labels(labels)): labels for labels in label_sets}
    numbers = assign_numbers(texts, FIRST_POD, LAST_POD, "pod")
    return {texts[text]: number for text, number in numbers.items()}


def assign_nodes(label_sets: Iterable[frozenset[str]]) -> dict[frozenset[str], int]:
    """One identity per distinct set of labels of other nodes; nodes without labels are `remote-node`."""
    plain = RESERVED_LABELS[int(Reserved.REMOTE_NODE)]
    texts = {"\0".join(sorted_labels(labels)): labels for labels in label_sets if labels != plain}
    numbers = assign_numbers(texts, FIRST_NODE, LAST_NODE, "node")
    return {plain: int(Reserved.REMOTE_NODE)} | {texts[text]: number for text, number in numbers.items()}
