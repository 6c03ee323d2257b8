"""Rules of one endpoint → rows of the kernel's `policy` map.

The kernel looks a packet up twice, under the peer's identity and under 0 (any), takes the longest prefix of each, and
lets the stronger of the two verdicts decide. A longest-prefix match sees one row, so every row carries the strongest
verdict of all rules that cover it: deny > redirect > allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from config.policy.resolved import Direction, DirectionPolicy, EndpointPolicy, PortRange, Protocol, Rule

ANY_IDENTITY = 0
_PORT_BITS = 16


class EntryVerdict(IntEnum):
    """Stronger verdicts have larger numbers."""

    ALLOW = 1
    REDIRECT = 2
    DENY = 3


@dataclass(frozen=True, slots=True)
class EntryKey:
    """`protocol` 0 is any, and goes with no port; `prefix_bits` of `port` count, 0 for any port."""

    identity: int
    direction: Direction
    protocol: int
    port: int
    prefix_bits: int


@dataclass(frozen=True, slots=True)
class EntryValue:
    verdict: EntryVerdict
    rule_id: int


def policy_entries(policy: EndpointPolicy) -> dict[EntryKey, EntryValue]:
    """Flattened rows of both directions. Directions that are not enforced have none."""
    rows: dict[EntryKey, EntryValue] = {}
    for direction in Direction:
        section = policy.direction(direction)
        if section.enforced:
            rows.update(_flattened(_raw(section, direction)))
    return rows


def _raw(section: DirectionPolicy, direction: Direction) -> dict[EntryKey, EntryValue]:
    rows: dict[EntryKey, EntryValue] = {}
    for rule in section.rules:
        value = EntryValue(_verdict(rule), rule.origin.id)
        identities = (ANY_IDENTITY,) if rule.identities is None else sorted(rule.identities)
        ranges = (PortRange(Protocol.ANY),) if rule.ports is None else rule.ports
        prefixes = [prefix for ports in ranges for prefix in _prefixes(ports)]
        for identity in identities:
            for protocol, port, bits in prefixes:
                key = EntryKey(identity, direction, protocol, port, bits)
                rows[key] = _stronger(rows.get(key), value)
    return rows


def _verdict(rule: Rule) -> EntryVerdict:
    if rule.deny:
        return EntryVerdict.DENY
    return EntryVerdict.ALLOW if rule.l7 is None else EntryVerdict.REDIRECT


def _stronger(one: EntryValue | None, other: EntryValue) -> EntryValue:
    """Of equal verdicts the rule with the lower id is named."""
    if one is None:
        return other
    return max(one, other, key=lambda value: (value.verdict, -value.rule_id))


def _prefixes(ports: PortRange) -> Iterator[tuple[int, int, int]]:
    """(protocol, port, bits): the fewest port prefixes that cover the range exactly."""
    first = ports.first
    while first <= ports.last:
        size = first & -first if first else 1 << _PORT_BITS
        while first + size - 1 > ports.last:
            size >>= 1
        yield ports.protocol, first, _PORT_BITS - size.bit_length() + 1
        first += size


def _flattened(rows: dict[EntryKey, EntryValue]) -> dict[EntryKey, EntryValue]:
    result: dict[EntryKey, EntryValue] = {}
    for key, value in rows.items():
        for wider in _covering(key):
            if wider in rows:
                value = _stronger(value, rows[wider])
        result[key] = value
    return result


def _covering(key: EntryKey) -> Iterator[EntryKey]:
    """Every key of the same identity whose packets include those of `key`."""
    for bits in range(key.prefix_bits):
        mask = (0xFFFF << (_PORT_BITS - bits)) & 0xFFFF
        yield EntryKey(key.identity, key.direction, key.protocol, key.port & mask, bits)
    yield EntryKey(key.identity, key.direction, Protocol.ANY, 0, 0)
