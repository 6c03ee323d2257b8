"""Rules of one endpoint → rows of the kernel's `policy` map.

The kernel looks a packet up twice, under the peer's identity and under 0 (any), takes the longest prefix of each, and
lets the stronger of the two verdicts decide. A longest-prefix match sees one row, so every row carries the strongest
verdict of all rules that cover it: deny > redirect > allow > none. A deny rule that is only tried out brings no
verdict; every row that it covers names it, and one that nothing else covers has the verdict none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from config.policy.resolved import Direction, DirectionPolicy, EndpointPolicy, PortRange, Protocol, Rule

ANY_IDENTITY = 0
_PORT_BITS = 16


class EntryVerdict(IntEnum):
    """Stronger verdicts have larger numbers. NONE: default deny decides, as if there were no row."""

    NONE = 0
    ALLOW = 1
    REDIRECT = 2
    DENY = 3


class EntryKey(NamedTuple):
    """`protocol` 0 is any, and goes with no port; `prefix_bits` of `port` count, 0 for any port."""

    identity: int
    direction: Direction
    protocol: int
    port: int
    prefix_bits: int


class EntryValue(NamedTuple):
    """`audited`: id of the deny rule that is only tried out and would refuse, 0 if there is none."""

    verdict: EntryVerdict
    rule_id: int
    audited: int = 0


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
        value = _value(rule)
        identities = (ANY_IDENTITY,) if rule.identities is None else sorted(rule.identities)
        ranges = (PortRange(Protocol.ANY),) if rule.ports is None else rule.ports
        prefixes = [prefix for ports in ranges for prefix in _prefixes(ports)]
        for identity in identities:
            for protocol, port, bits in prefixes:
                key = EntryKey(identity, direction, protocol, port, bits)
                known = rows.get(key)
                rows[key] = value if known is None else _both(known, value)
    return rows


def _value(rule: Rule) -> EntryValue:
    number = rule.origin.id
    if rule.deny:
        return EntryValue(EntryVerdict.NONE, 0, number) if rule.audit else EntryValue(EntryVerdict.DENY, number)
    return EntryValue(EntryVerdict.ALLOW if rule.l7 is None else EntryVerdict.REDIRECT, number)


def _both(one: EntryValue, other: EntryValue) -> EntryValue:
    """The stronger verdict; of equal ones the rule with the lower id is named."""
    strongest = max(one, other, key=lambda value: (value.verdict, -value.rule_id))
    audited = min(one.audited, other.audited) or max(one.audited, other.audited)
    return strongest if strongest.audited == audited else strongest._replace(audited=audited)


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
    lengths = sorted({key.prefix_bits for key in rows if key.protocol})
    for key, value in rows.items():
        for wider in _covering(key, lengths):
            if wider in rows:
                value = _both(value, rows[wider])
        result[key] = value
    return result


def _covering(key: EntryKey, lengths: Iterable[int]) -> Iterator[EntryKey]:
    """Keys of the same identity whose packets include those of `key`, of the prefix lengths that there are."""
    for bits in lengths:
        if bits >= key.prefix_bits:
            break
        mask = (0xFFFF << (_PORT_BITS - bits)) & 0xFFFF
        yield EntryKey(key.identity, key.direction, key.protocol, key.port & mask, bits)
    yield EntryKey(key.identity, key.direction, Protocol.ANY, 0, 0)
