"""What workers count of DNS, added up."""

from __future__ import annotations

from parsers.dns.types import MNEMONICS
from proxy.flows.dns_totals import MAX_SERIES, UNKNOWN_TYPE, DnsTotals
from proxy.flows.durations import BUCKETS
from proxy.flows.wire import MAX_COUNTED_ADDRESSES, DnsCount, DnsOutcome
from tests.proxy.flows.samples import Node, batch


def count(
    kind: str = "A",
    outcome: int = DnsOutcome.SERVED,
    rcode: int = 0,
    addresses: int = 2,
    number: int = 3,
    records: dict[str, int] | None = None,
) -> DnsCount:
    buckets = [number] + [0] * (BUCKETS - 1)
    return DnsCount(kind, int(outcome), rcode, addresses, number, 100, buckets, records or {})


def test_counts_of_all_workers_add_up() -> None:
    node = Node()
    node.workers.add(batch(dns_counts=[count(records={"CNAME": 3, "A": 6}), count("AAAA", rcode=3, addresses=0)]))
    node.workers.add(batch(worker=1, dns_counts=[count(number=2, records={"A": 4}), count(outcome=DnsOutcome.DENIED)]))
    totals = node.workers.dns
    assert totals.queries == {("A", False): 5, ("AAAA", False): 3, ("A", True): 3}
    assert totals.responses == {("A", 0, 2): 8, ("AAAA", 3, 0): 3}
    assert totals.records == {("CNAME", "A"): 3, ("A", "A"): 10}
    assert totals.outcomes == {DnsOutcome.SERVED: 8, DnsOutcome.DENIED: 3}
    served = totals.durations[DnsOutcome.SERVED]
    assert (served.sum_ns, served.buckets) == (300, [8] + [0] * (BUCKETS - 1))


def test_no_answer_no_response() -> None:
    totals = DnsTotals()
    totals.add([DnsCount("A", int(DnsOutcome.TIMEOUT), -1, 0, 4, 0, [0] * BUCKETS, {})])
    assert (totals.queries, totals.responses, totals.durations) == ({("A", False): 4}, {}, {})


def test_a_lying_worker_cannot_fill_the_agent() -> None:
    totals = DnsTotals()
    totals.add(count(f"TYPE{number}", records={f"TYPE{number}": 1}) for number in range(500))
    totals.add(count(outcome=number, addresses=number - 50) for number in range(1, 100))
    totals.add([DnsCount("A", 0, 0, 0, 1, 1, [], {})])
    assert totals.queries == {(UNKNOWN_TYPE, False): 1500, ("A", False): 3 * 98, ("A", True): 3}
    assert totals.records == {(UNKNOWN_TYPE, UNKNOWN_TYPE): 500}
    assert max(addresses for _, _, addresses in totals.responses) == MAX_COUNTED_ADDRESSES
    assert min(addresses for _, _, addresses in totals.responses) == 0


def test_codes_that_are_not_known_are_one() -> None:
    totals = DnsTotals()
    totals.add(count(rcode=code) for code in (12, 15, 1 << 40, 0))
    assert totals.responses == {("A", -1, 2): 9, ("A", 0, 2): 3}


def test_combinations_are_bounded() -> None:
    totals = DnsTotals()
    made = [(kind, code, n) for kind in MNEMONICS.values() for code in range(12) for n in range(MAX_COUNTED_ADDRESSES)]
    totals.add(count(kind, rcode=code, addresses=number) for kind, code, number in made)
    assert len(totals.responses) == MAX_SERIES + 1
    assert totals.responses[UNKNOWN_TYPE, -1, 0] == 3 * (len(made) - MAX_SERIES)
