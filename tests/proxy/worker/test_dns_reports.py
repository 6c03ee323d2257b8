"""What a worker tells of DNS queries, and of what their answers taught."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from struct import pack

import pytest

from config.policy.resolved import Direction
from parsers.dns.described import MAX_DESCRIBED
from parsers.dns.judging import DnsExchange, DnsRuling
from parsers.facts import DnsQuery
from parsers.http.judging import Exchange
from parsers.kafka.judging import KafkaExchange
from proxy.flows import wire
from proxy.flows.dns_totals import UNKNOWN_TYPE
from proxy.flows.durations import BUCKETS
from proxy.flows.model import Verdict
from proxy.flows.wire import DnsOutcome
from proxy.worker.dns_reports import MAX_LEARNT, MAX_LEARNT_ADDRESSES, DnsCounts
from proxy.worker.judges import Note
from proxy.worker.reports import MAX_EXCHANGES_PER_BATCH, Reports
from tests.proxy.worker.test_kafka_reports import made as made_kafka
from tests.proxy.worker.test_reports import Connection, judged

MS = 1_000_000
A, CNAME, AAAA, RRSIG, PRIVATE = 1, 5, 28, 46, 65280
NAME = b"\3api\4test\0"
POINTER = b"\xc0\x0c"


def rr(kind: int, data: bytes, ttl: int = 30, owner: bytes = POINTER) -> bytes:
    return owner + pack(">HHIH", kind, 1, ttl, len(data)) + data


def address(text: str, ttl: int = 30, owner: bytes = POINTER) -> bytes:
    packed = ip_address(text).packed
    return rr(A if len(packed) == 4 else AAAA, packed, ttl, owner)


def answer(*records: bytes, number: int = 7, rcode: int = 0, kind: int = A) -> bytes:
    question = NAME + pack(">HH", kind, 1)
    return pack(">HHHHHH", number, 0x8180 | rcode, 1, len(records), 0, 0) + question + b"".join(records)


PLAIN = answer(address("192.0.2.7"), address("192.0.2.8"))


@dataclass(eq=False)
class Datagrams:
    """The tag of one exchange over UDP."""

    id: int
    is_reported: bool = False

    def describe(self) -> wire.Connection:
        return wire.Connection(self.id, "192.0.2.1", 40000, "192.0.2.2", 53, 1, 0, 256, 257, 17)


def made(
    tag: Datagrams | Connection | None = None,
    permit: bool = True,
    reply: bytes = b"",
    *,
    name: str = "api.test",
    kind: str = "A",
    rcode: int | None = None,
    answered: int = 8 * MS,
    verdict: Verdict | None = None,
) -> DnsExchange:
    verdict = verdict or (Verdict.FORWARDED if permit else Verdict.DROPPED)
    note = Note(verdict, Direction.EGRESS, 7, 3, "" if permit else "because")
    code = rcode if rcode is not None else reply[3] & 15 if reply else 5
    query = DnsQuery(name, kind)
    return DnsExchange(tag or Datagrams(1), query, DnsRuling(permit, note), 5 * MS, answered, code, reply[2:])


def taken(
    *exchanges: DnsExchange, kafka: list[KafkaExchange] | None = None, http: list[Exchange] | None = None
) -> wire.Batch:
    batch = Reports(4, http or [], [], 1000, kafka=kafka, dns=list(exchanges), dns_timeout_s=4.0).take()
    assert batch is not None
    return batch


# -- records -----------------------------------------------------------------------------------------------------------


def test_records_and_what_they_belong_to() -> None:
    alias = answer(rr(CNAME, b"\1b" + POINTER, 20), address("192.0.2.7", 60, b"\xc0\x26"))
    batch = taken(made(Datagrams(9), reply=alias), made(Datagrams(10), permit=False))
    assert [(c.id, c.protocol) for c in batch.connections] == [(10, 17), (9, 17)]
    assert batch.counters == {"queries.allowed": 1, "queries.refused": 1}
    start, shown = 5 * MS + 1000, (7, 3, "because")
    assert batch.dns == [
        wire.DnsExchange(10, start, 2, 1, "api.test", "A", 5, [], 0, [], [], True, 3 * MS, *shown),
        wire.DnsExchange(
            9,
            start,
            1,
            1,
            "api.test",
            "A",
            0,
            [b"\xc0\0\2\7"],
            20,
            ["b.api.test"],
            ["CNAME", "A"],
            True,
            3 * MS,
            7,
            3,
            "",
        ),
    ]
    assert wire.DECODER.decode(wire.ENCODER.encode(batch)) == batch


def test_everything_is_taken_once() -> None:
    told = [made(reply=PLAIN)]
    outbox = Reports(4, [], [], 0, dns=told)
    assert outbox.take() is not None
    assert told == []
    assert outbox.take() is None


def test_what_is_not_answered_has_neither_code_nor_latency() -> None:
    (record,) = taken(made(answered=0, rcode=-1)).dns
    assert (record.answered, record.rcode, record.latency_ns) == (False, -1, 0)


def test_long_answers_are_cut() -> None:
    (record,) = taken(made(reply=answer(*(address(f"192.0.2.{n}") for n in range(200))))).dns
    assert (len(record.addresses), len(record.types)) == (MAX_DESCRIBED, MAX_DESCRIBED)


def test_a_connection_over_tcp_is_told_once() -> None:
    connection = Connection(3)
    outbox = Reports(4, [], [], 0, dns=[made(connection, reply=PLAIN), made(connection, reply=PLAIN)])
    batch = outbox.take()
    assert batch is not None
    assert ([c.id for c in batch.connections], len(batch.dns)) == ([3], 2)


# -- counts ------------------------------------------------------------------------------------------------------------


def counted(*exchanges: DnsExchange) -> dict[tuple[str, DnsOutcome, int, int], wire.DnsCount]:
    return {(c.query_type, DnsOutcome(c.outcome), c.rcode, c.addresses): c for c in taken(*exchanges).dns_counts}


def test_counts_by_type_code_and_addresses() -> None:
    counts = counted(
        made(reply=PLAIN),
        made(reply=answer(address("192.0.2.9"), address("192.0.2.8")), answered=5 * MS + 7 * MS),
        made(reply=answer(rr(CNAME, b"\1b" + POINTER), address("192.0.2.7"), rr(RRSIG, b"x"))),
        made(reply=answer(address("2001:db8::1"), kind=AAAA), kind="AAAA"),
        made(reply=answer(rcode=3)),
        made(reply=answer(rr(PRIVATE, b"x"), kind=PRIVATE), kind="TYPE65280"),
        made(permit=False),
        made(permit=False),
    )
    served, denied = DnsOutcome.SERVED, DnsOutcome.DENIED
    assert {key: (count.count, count.records) for key, count in counts.items()} == {
        ("A", served, 0, 2): (2, {"A": 4}),
        ("A", served, 0, 1): (1, {"CNAME": 1, "A": 1, "RRSIG": 1}),
        ("AAAA", served, 0, 1): (1, {"AAAA": 1}),
        ("A", served, 3, 0): (1, {}),
        (UNKNOWN_TYPE, served, 0, 0): (1, {UNKNOWN_TYPE: 1}),
        ("A", denied, 5, 0): (2, {}),
    }
    first = counts["A", served, 0, 2]
    assert (first.latency_ns, first.buckets) == (10 * MS, [1, 1] + [0] * (BUCKETS - 2))


def test_answers_that_differ_in_their_ids_are_alike() -> None:
    counts = counted(*(made(reply=answer(address("192.0.2.7"), number=number)) for number in range(5)))
    (count,) = counts.values()
    assert (count.count, count.records) == (5, {"A": 5})


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [
        (made(reply=PLAIN), DnsOutcome.SERVED),
        (made(reply=PLAIN, verdict=Verdict.AUDIT), DnsOutcome.SERVED),
        (made(reply=PLAIN, answered=9_000 * MS), DnsOutcome.SERVED),
        (made(rcode=2), DnsOutcome.FAILED),
        (made(rcode=2, answered=4_005 * MS), DnsOutcome.TIMEOUT),
        (made(rcode=-1, answered=0), DnsOutcome.TIMEOUT),
        (made(permit=False), DnsOutcome.DENIED),
        (made(permit=False, rcode=-1, answered=0), DnsOutcome.DENIED),
        (made(permit=False, verdict=Verdict.ERROR, rcode=1), DnsOutcome.ERROR),
    ],
)
def test_outcomes(exchange: DnsExchange, outcome: DnsOutcome) -> None:
    assert [count.outcome for count in taken(exchange).dns_counts] == [outcome]


def test_many_addresses_are_one_number() -> None:
    many = (address(f"192.0.2.{n}") for n in range(100))
    ((_, _, _, addresses),) = counted(made(reply=answer(*many)))
    assert addresses == wire.MAX_COUNTED_ADDRESSES


def test_counts_are_exact_when_records_are_not() -> None:
    batch = taken(*(made(reply=PLAIN) for _ in range(MAX_EXCHANGES_PER_BATCH + 50)))
    assert (len(batch.dns), batch.lost) == (MAX_EXCHANGES_PER_BATCH, 50)
    assert [(count.count, count.records) for count in batch.dns_counts] == [
        (MAX_EXCHANGES_PER_BATCH + 50, {"A": 2 * (MAX_EXCHANGES_PER_BATCH + 50)})
    ]
    assert batch.counters["queries.allowed"] == MAX_EXCHANGES_PER_BATCH + 50


def test_a_batch_that_could_not_be_sent_loses_no_counts() -> None:
    told = [made(reply=PLAIN), made(permit=False)]
    outbox = Reports(4, [], [], 0, dns=told)
    outbox.learnt(11, "api.test", [bytes(4)], 30, 5)
    first = outbox.take()
    assert first is not None
    outbox.lose(first)
    told.append(made(reply=PLAIN))
    second = outbox.take()
    assert second is not None
    assert (second.lost, len(second.dns), second.counters["queries.allowed"]) == (2, 1, 2)
    assert [(c.count, c.records, sum(c.buckets)) for c in second.dns_counts] == [(2, {"A": 4}, 2), (1, {}, 1)]
    assert second.learnt == first.learnt
    # What is gone with the records was told for them only.
    assert len(second.connections) == 1


def test_an_agent_that_reads_nothing_is_told_of_no_datagrams_later() -> None:
    told: list[DnsExchange] = []
    outbox = Reports(4, [], [], 0, dns=told)
    for number in range(100):
        told.append(made(Datagrams(number), reply=PLAIN))
        batch = outbox.take()
        assert batch is not None
        assert len(batch.connections) == 1
        outbox.lose(batch)


# -- a batch has room for all protocols --------------------------------------------------------------------------------


def test_protocols_share_a_batch() -> None:
    most = MAX_EXCHANGES_PER_BATCH
    http = [Exchange(Connection(1), judged(True), 1, 2, 200) for _ in range(most)]
    kafka = [made_kafka(Connection(2)) for _ in range(10)]
    dns = [made(reply=PLAIN) for _ in range(most)] + [made(permit=False) for _ in range(6)]
    batch = taken(*dns, kafka=kafka, http=http)
    share = (most - 10 - 6) // 2
    assert (len(batch.exchanges), len(batch.kafka), len(batch.dns)) == (share, 10, 6 + share)
    assert [record.rcode for record in batch.dns].count(5) == 6
    assert batch.lost == 2 * (most - share)


def test_refusals_share_it_first() -> None:
    http = [Exchange(Connection(1), judged(False), 1, 2, 403) for _ in range(20)]
    dns = [made(permit=False) for _ in range(1000)]
    batch = taken(*dns, http=http)
    assert (len(batch.exchanges), len(batch.dns)) == (20, MAX_EXCHANGES_PER_BATCH - 20)


# -- what is learnt ----------------------------------------------------------------------------------------------------


def outbox() -> Reports:
    return Reports(4, [], [], 1000)


def test_what_answers_taught() -> None:
    reports = outbox()
    reports.learnt(11, "api.test", [b"\xc0\0\2\7", bytes(16)], 30, 5)
    batch = reports.take()
    assert batch is not None
    assert batch.learnt == [wire.Learnt(11, "api.test", [b"\xc0\0\2\7", bytes(16)], 30, 1005)]
    assert wire.DECODER.decode(wire.ENCODER.encode(batch)) == batch
    assert reports.take() is None


def test_the_same_again_counts_for_as_long_as_it_lasts() -> None:
    reports, second = outbox(), 1_000_000_000
    for ttl, now in ((30, 5), (40, 6), (39, 7), (39, 2 * second)):
        reports.learnt(11, "api.test", [bytes(4)], ttl, now)
    reports.learnt(12, "api.test", [bytes(4)], 1, 8)
    reports.learnt(11, "api.test", [bytes(16)], 2, 9)
    batch = reports.take()
    assert batch is not None
    assert [(item.endpoint, item.ttl, item.time_ns) for item in batch.learnt] == [
        (11, 39, 2 * second + 1000),
        (12, 1, 1008),
        (11, 2, 1009),
    ]


def test_what_is_learnt_is_bounded() -> None:
    reports = outbox()
    for number in range(MAX_LEARNT + 5):
        reports.learnt(11, f"{number}.test", [bytes(4)], 30, 5)
    reports.learnt(11, "0.test", [bytes(4)], 60, 5)
    batch = reports.take()
    assert batch is not None
    assert (len(batch.learnt), batch.counters) == (MAX_LEARNT, {"limits.learnt_names": 5})
    assert batch.learnt[0].ttl == 60


def test_addresses_that_are_learnt_are_bounded() -> None:
    reports = outbox()
    for number in range(17):
        many = [pack(">HH", number, n) for n in range(4096)]
        reports.learnt(11, "many.test", many, 30, 5)
    batch = reports.take()
    assert batch is not None
    assert sum(len(item.addresses) for item in batch.learnt) == MAX_LEARNT_ADDRESSES
    assert batch.counters == {"limits.learnt_names": 1}


def test_counts_taken_twice() -> None:
    counts = DnsCounts()
    counts.add(made(reply=PLAIN))
    assert len(counts.take()) == 1
    assert counts.take() == []
