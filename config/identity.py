"""Numbers for identities: reserved ones, pods (by their labels) and prefixes of CIDR rules.

Numbers come from a hash of what they stand for, with the next free number on a collision, taken in sorted order. So
they do not depend on the order of files, nodes with the same list agree, restarts keep them (tables in the kernel and
connections refer to them), and one more pod or prefix does not renumber the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType

from config.labels import RESERVED, WORLD_IPV4, WORLD_IPV6, cidr_labels, sorted_labels
from config.policy.resolved import Network


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

FIRST_CIDR, LAST_CIDR = 1 << 24, (1 << 25) - 1
"""Identities that only this node knows."""

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


class NumbersExhausted(ValueError):
    """More things than numbers."""


def assign_numbers(names: Iterable[str], first: int, last: int, salt: str) -> dict[str, int]:
    """A number in first..last for each name; `salt` keeps kinds of numbers apart."""
    room = last - first + 1
    wanted = sorted(set(names))
    if len(wanted) > room:
        raise NumbersExhausted(f"{len(wanted)} {salt} numbers wanted, there are {room}")
    numbers: dict[str, int] = {}
    taken: set[int] = set()
    for name in wanted:
        digest = hashlib.blake2b(name.encode(), digest_size=8, person=salt.encode()[:16]).digest()
        number = first + int.from_bytes(digest, "big") % room
        while number in taken:
            number = first + (number + 1 - first) % room
        taken.add(number)
        numbers[name] = number
    return numbers


def assign_pods(label_sets: Iterable[frozenset[str]]) -> dict[frozenset[str], int]:
    """One identity per distinct set of labels."""
    texts = {"\0".join(sorted_labels(labels)): labels for labels in label_sets}
    numbers = assign_numbers(texts, FIRST_POD, LAST_POD, "pod")
    return {texts[text]: number for text, number in numbers.items()}


def assign_cidrs(prefixes: Iterable[Network]) -> dict[Network, int]:
    """One identity per distinct prefix."""
    texts = {str(prefix): prefix for prefix in prefixes}
    numbers = assign_numbers(texts, FIRST_CIDR, LAST_CIDR, "cidr")
    return {texts[text]: number for text, number in numbers.items()}


def labels_of(pods: Mapping[frozenset[str], int], cidrs: Mapping[Network, int]) -> dict[int, frozenset[str]]:
    """Number → labels, for all identities there are."""
    known = dict(RESERVED_LABELS)
    known.update((number, labels) for labels, number in pods.items())
    known.update((number, cidr_labels(prefix)) for prefix, number in cidrs.items())
    return known
