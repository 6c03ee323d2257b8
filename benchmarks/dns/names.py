"""The names that are asked for, as a zone and as files of questions for dnsperf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

ZONE = "bench"
COUNT = 10_000
"""So many that answers are no longer fresh when they come again; a worker remembers questions and answers."""
V6_EVERY = 7
TTL_S = 60
_V4, _V6 = int(IPv4Address("198.18.0.0")), int(IPv6Address("2001:db8::"))

CLOSED = [f"n{number:05}.closed.{ZONE}" for number in range(COUNT)]
"""No toFQDNs entry selects these."""
OPEN = [f"n{number:05}.open.{ZONE}" for number in range(COUNT)]
"""An entry selects these: their answers open addresses."""
OPEN_PATTERN = f"*.open.{ZONE}"
FORBIDDEN = f"forbidden.{ZONE}"
"""It exists, and no rule permits it."""


def spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, from all over."""
    return [names[number * len(names) // count] for number in range(count)]


def write_zone(path: Path) -> None:
    lines = [
        f"$ORIGIN {ZONE}.",
        f"$TTL {TTL_S}",
        "@ SOA ns admin 1 3600 600 86400 60",
        "@ NS ns",
        "ns A 192.0.2.1",
        "forbidden A 192.0.2.2",
        *_records(),
    ]
    path.write_text("\n".join([*lines, ""]), encoding="ascii")


def _records() -> Iterator[str]:
    for number, name in enumerate((*CLOSED, *OPEN)):
        yield f"{name}. A {IPv4Address(_V4 + number)}"
        if number % V6_EVERY == 0:
            yield f"{name}. AAAA {IPv6Address(_V6 + number)}"


def write_questions(path: Path, names: Sequence[str]) -> None:
    """dnsperf's input: a name and a type a line. Names that have an IPv6 address are asked for that."""
    kinds = dict.fromkeys([*CLOSED, *OPEN][::V6_EVERY], "AAAA")
    path.write_text("".join(f"{name} {kinds.get(name, 'A')}\n" for name in names), encoding="ascii")
