"""What a worker tells, and what it gives up when there is too much."""

from __future__ import annotations

from dataclasses import dataclass

from config.policy.resolved import Direction
from parsers.http.judging import Exchange, Ruling
from parsers.http1.judging import Http1Shared, JudgedHead
from parsers.http1.request import parse_request_untrusted
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.worker.judges import Note
from proxy.worker.reports import MAX_EXCHANGES_PER_BATCH, MAX_FAILURES_PER_BATCH, Reports


@dataclass(eq=False)
class Connection:
    id: int
    is_reported: bool = False

    def describe(self) -> wire.Connection:
        return wire.Connection(self.id, "192.0.2.1", 40000, "192.0.2.2", 80, 1, 2, 256, 257)


def judged(permit: bool) -> JudgedHead:
    raw = b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"
    shared = Http1Shared()
    verdict = Verdict.FORWARDED if permit else Verdict.DROPPED
    note = Note(verdict, Direction.INGRESS, 7, 3, "" if permit else "because")
    return JudgedHead(parse_request_untrusted(raw, shared.limits), raw, Ruling(permit, note))


def reports() -> tuple[Reports, Http1Shared]:
    shared = Http1Shared()
    return Reports(4, shared.exchanges, [], 1000), shared


def test_exchanges_and_the_connection_they_belong_to() -> None:
    outbox, shared = reports()
    connection = Connection(9)
    shared.exchanges += [Exchange(connection, judged(True), 5, 8, 200), Exchange(connection, judged(False), 7, 7, 403)]
    batch = outbox.take()
    assert batch is not None
    assert batch.worker == 4
    assert [c.id for c in batch.connections] == [9]
    assert [(e.time_ns, e.status, e.latency_ns, e.verdict, e.rule, e.reason) for e in batch.exchanges] == [
        (1007, 403, 0, Verdict.DROPPED, 7, "because"),
        (1005, 200, 3, Verdict.FORWARDED, 7, ""),
    ]
    assert batch.counters == {"requests.allowed": 1, "requests.refused": 1}
    assert outbox.take() is None
    outbox.closed(connection)
    again = outbox.take()
    assert again is not None
    assert (again.closed, again.connections) == ([9], [])


def test_a_batch_survives_the_wire() -> None:
    outbox, shared = reports()
    shared.exchanges.append(Exchange(Connection(1), judged(True), 5, 8, 200))
    batch = outbox.take()
    assert batch is not None
    assert wire.DECODER.decode(wire.ENCODER.encode(batch)) == batch


def test_refused_exchanges_are_kept_before_allowed_ones() -> None:
    outbox, shared = reports()
    connection = Connection(1)
    shared.exchanges += [Exchange(connection, judged(False), n, n, 403) for n in range(10)]
    shared.exchanges += [Exchange(connection, judged(True), n, n, 200) for n in range(MAX_EXCHANGES_PER_BATCH)]
    batch = outbox.take()
    assert batch is not None
    assert len(batch.exchanges) == MAX_EXCHANGES_PER_BATCH
    assert sum(e.status == 403 for e in batch.exchanges) == 10
    assert batch.lost == 10
    assert batch.counters["requests.allowed"] == MAX_EXCHANGES_PER_BATCH


def test_a_batch_that_could_not_be_sent_loses_records_but_no_counts() -> None:
    outbox, shared = reports()
    shared.exchanges.append(Exchange(Connection(1), judged(True), 5, 8, 200))
    first = outbox.take()
    assert first is not None
    outbox.lose(first)
    second = outbox.take()
    assert second is not None
    assert (second.lost, second.exchanges, len(second.connections)) == (1, [], 1)
    assert second.counters == {"requests.allowed": 1}


def test_failures_are_bounded() -> None:
    outbox, _ = reports()
    connection = Connection(1)
    for _ in range(MAX_FAILURES_PER_BATCH + 5):
        outbox.failure(connection, 1, Verdict.ERROR, Direction.INGRESS, "r")
    batch = outbox.take()
    assert batch is not None
    assert (len(batch.failures), batch.lost) == (MAX_FAILURES_PER_BATCH, 5)
    assert batch.counters == {"failures.error": MAX_FAILURES_PER_BATCH + 5}
