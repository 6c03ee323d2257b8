"""What a worker tells of DNS: a record of each query that is kept, exact counts of all, and what answers taught.

Tens of thousands of queries a second pass here. Most answers of one moment are alike, so what one counts for is found
once for all that have the same bytes; only those that are recorded are described.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from parsers.dns.described import Described, describe, record_types
from parsers.dns.judging import DnsExchange
from parsers.dns.message import HEADER
from parsers.dns.types import MNEMONICS
from proxy.flows import wire
from proxy.flows.dns_totals import TYPE_NAMES, UNKNOWN_TYPE
from proxy.flows.durations import BOUNDS_NS, BUCKETS
from proxy.flows.model import Verdict
from proxy.flows.wire import DnsOutcome
from proxy.worker.judges import Note

MAX_LEARNT: Final = 4096
"""Answers that a batch can hand on: 200,000 a second."""

MAX_LEARNT_ADDRESSES: Final = 65536
"""Addresses of all answers that a batch hands on."""

_NO_ID: Final = bytes(2)
_BODY_HEADER: Final = HEADER - len(_NO_ID)
_MEMO: Final = 4096
"""Answers that are remembered with what they say."""

_MEMO_BYTES: Final = 1024
"""Longer ones are taken apart each time."""

_ADDRESS_TYPES: Final = frozenset(("A", "AAAA"))

# What `IntEnum` costs when it is hashed would be half of what counting costs.
_SERVED, _FAILED, _TIMEOUT, _DENIED, _ERROR = map(int, DnsOutcome)

_Key = tuple[str, int, int, int]


def record(exchange: DnsExchange, connection: int, offset_ns: int) -> wire.DnsExchange:
    """`offset_ns`: from the worker's clock to wall-clock time."""
    query, note = exchange.query, exchange.ruling.note
    assert isinstance(note, Note)
    told = _described(exchange.answer) if exchange.answer else None
    return wire.DnsExchange(
        connection,
        exchange.started + offset_ns,
        int(note.verdict),
        int(note.direction),
        query.name,
        query.query_type,
        exchange.rcode,
        list(told.addresses) if told else [],
        told.ttl if told else 0,
        list(told.cnames) if told else [],
        list(told.types) if told else [],
        exchange.rcode >= 0,
        exchange.answered - exchange.started if exchange.answered else 0,
        note.rule,
        note.revision,
        note.reason,
    )


def _described(answer: bytes) -> Described:
    """Answers that are alike are taken apart once."""
    return _remembered(answer) if len(answer) <= _MEMO_BYTES else describe(_NO_ID + answer)


@lru_cache(maxsize=_MEMO)
def _remembered(answer: bytes) -> Described:
    return describe(_NO_ID + answer)


@dataclass(slots=True)
class _Row:
    count: int = 0
    latency_ns: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    records: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Alike:
    """Exchanges with the same answer, and how many there were since the last batch. `row`: where they are counted."""

    key: _Key
    types: tuple[str, ...]
    row: _Row | None = None
    count: int = 0


class DnsCounts:
    """Counts between two batches. What the proxy answered itself `timeout_ns` after the query, or later, is what no
    server answered; 0: there is no such time."""

    def __init__(self, timeout_ns: int = 0) -> None:
        self._timeout_ns = timeout_ns
        self._rows: dict[_Key, _Row] = {}
        self._alike: dict[bytes | tuple[str, int, int, bytes], _Alike] = {}
        self._used: list[_Alike] = []

    def add(self, exchange: DnsExchange) -> None:
        answer, answered = exchange.answer, exchange.answered
        latency = answered - exchange.started if answered else 0
        outcome = _SERVED if answer else self._outcome(exchange, latency)
        # An answer begins with its code, and behind its header there is the question.
        kind = answer if len(answer) > _BODY_HEADER else (exchange.query.query_type, outcome, exchange.rcode, answer)
        alike = self._alike.get(kind)
        if alike is None:
            alike = self._first(exchange, outcome)
            if len(answer) <= _MEMO_BYTES:
                if len(self._alike) >= _MEMO:
                    self._alike.clear()
                self._alike[kind] = alike
        row = alike.row
        if row is None:
            row = alike.row = self._row(alike.key)
            self._used.append(alike)
        alike.count += 1
        row.count += 1
        if answered:
            row.latency_ns += latency
            row.buckets[bisect_left(BOUNDS_NS, latency)] += 1

    def _outcome(self, exchange: DnsExchange, latency: int) -> int:
        """Of a query without a server's answer."""
        if not exchange.ruling.permit:
            note = exchange.ruling.note
            assert isinstance(note, Note)
            return _DENIED if note.verdict is Verdict.DROPPED else _ERROR
        is_late = self._timeout_ns and latency >= self._timeout_ns
        return _TIMEOUT if is_late or exchange.rcode < 0 else _FAILED

    def _first(self, exchange: DnsExchange, outcome: int) -> _Alike:
        numbers = record_types(_NO_ID + exchange.answer) if exchange.answer else ()
        types = tuple(MNEMONICS.get(number, UNKNOWN_TYPE) for number in numbers)
        addresses = sum(name in _ADDRESS_TYPES for name in types)
        asked = exchange.query.query_type
        key = (
            asked if asked in TYPE_NAMES else UNKNOWN_TYPE,
            outcome,
            exchange.rcode,
            min(addresses, wire.MAX_COUNTED_ADDRESSES),
        )
        return _Alike(key, types)

    def take(self) -> list[wire.DnsCount]:
        for alike in self._used:
            if alike.row is not None:
                for name in alike.types:
                    alike.row.records[name] += alike.count
            alike.row, alike.count = None, 0
        taken = [
            wire.DnsCount(*key, row.count, row.latency_ns, row.buckets, dict(row.records))
            for key, row in self._rows.items()
        ]
        self._rows.clear()
        self._used.clear()
        return taken

    def restore(self, counts: Iterable[wire.DnsCount]) -> None:
        """What was taken and could not be sent."""
        for count in counts:
            row = self._row((count.query_type, count.outcome, count.rcode, count.addresses))
            row.count += count.count
            row.latency_ns += count.latency_ns
            row.buckets = [mine + more for mine, more in zip(row.buckets, count.buckets, strict=True)]
            row.records.update(count.records)

    def _row(self, key: _Key) -> _Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row()
        return row


class Lessons:
    """What answers told endpoints about names between two batches. Answers that say the same are one lesson."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, tuple[bytes, ...]], tuple[int, int]] = {}
        self._addresses = 0

    def __len__(self) -> int:
        return len(self._known)

    def add(self, endpoint: int, name: str, addresses: Sequence[bytes], ttl: int, time_ns: int) -> bool:
        """False: there is no room for it."""
        key = (endpoint, name, tuple(addresses))
        known = self._known.get(key)
        if known is not None:
            before, then = known
            if time_ns + ttl * 1_000_000_000 > then + before * 1_000_000_000:
                self._known[key] = (ttl, time_ns)
            return True
        if len(self._known) >= MAX_LEARNT or self._addresses + len(addresses) > MAX_LEARNT_ADDRESSES:
            return False
        self._known[key] = (ttl, time_ns)
        self._addresses += len(addresses)
        return True

    def take(self) -> list[wire.Learnt]:
        taken = [
            wire.Learnt(endpoint, name, list(addresses), ttl, time_ns)
            for (endpoint, name, addresses), (ttl, time_ns) in self._known.items()
        ]
        self._known.clear()
        self._addresses = 0
        return taken
