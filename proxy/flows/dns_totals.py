"""What workers count of DNS queries, added up for as long as the agent runs, told apart as Hubble does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from parsers.dns.types import MNEMONICS as TYPE_MNEMONICS
from proxy.flows.durations import BUCKETS, Durations
from proxy.flows.reasons import RCODES
from proxy.flows.wire import MAX_COUNTED_ADDRESSES, DnsCount, DnsOutcome

UNKNOWN_TYPE: Final = "Unknown"
"""All that have no name: clients choose types, and there are 65,536."""

TYPE_NAMES: Final = frozenset((*TYPE_MNEMONICS.values(), UNKNOWN_TYPE))

MAX_SERIES: Final = 8192
"""Combinations told apart. Only a worker that lies comes near; beyond this, new ones are of an unknown type."""

_UNKNOWN_RCODE: Final = -1
_OUTCOMES: Final = {int(outcome): outcome for outcome in DnsOutcome}

QueryKey = tuple[str, bool]
"""Type, and whether policy refused it."""

ResponseKey = tuple[str, int, int]
"""Type, code (-1: one that is not known here), addresses."""

RecordKey = tuple[str, str]
"""Type of the record, type of the query."""


class DnsTotals:
    """`queries` and `responses` are what clients sent and got; `records` those in servers' answers."""

    def __init__(self) -> None:
        self.queries: Counter[QueryKey] = Counter()
        self.responses: Counter[ResponseKey] = Counter()
        self.records: Counter[RecordKey] = Counter()
        self.outcomes: Counter[DnsOutcome] = Counter()
        self.durations: dict[DnsOutcome, Durations] = {}

    def add(self, counts: Iterable[DnsCount]) -> None:
        for count in counts:
            if len(count.buckets) == BUCKETS:
                self._add(count, _OUTCOMES.get(count.outcome, DnsOutcome.ERROR))

    def _add(self, count: DnsCount, outcome: DnsOutcome) -> None:
        asked = _known(count.query_type)
        self.outcomes[outcome] += count.count
        self.queries[asked, outcome is DnsOutcome.DENIED] += count.count
        if any(count.buckets):
            self.durations.setdefault(outcome, Durations()).add(count.latency_ns, count.buckets)
        if count.rcode >= 0:
            code = count.rcode if count.rcode in RCODES else _UNKNOWN_RCODE
            key = (asked, code, max(0, min(count.addresses, MAX_COUNTED_ADDRESSES)))
            if key not in self.responses and len(self.responses) >= MAX_SERIES:
                key = (UNKNOWN_TYPE, _UNKNOWN_RCODE, 0)
            self.responses[key] += count.count
        for kind, number in count.records.items():
            self.records[_known(kind), asked] += number


def _known(kind: str) -> str:
    return kind if kind in TYPE_NAMES else UNKNOWN_TYPE
