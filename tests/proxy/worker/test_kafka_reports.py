"""What a worker tells of Kafka requests."""

from __future__ import annotations

from struct import pack

from config.policy.resolved import Direction
from parsers.facts import KafkaRequest
from parsers.http.judging import Exchange
from parsers.kafka.judging import KafkaExchange, KafkaRuling
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.worker.judges import Note
from proxy.worker.kafka_reports import (
    MAX_TOLD_LENGTH,
    MAX_TOLD_TOPICS,
    MAX_TOPICS,
    MAX_UNCONFIRMED_TOPICS,
    KafkaCounts,
    told_code,
)
from proxy.worker.reports import MAX_EXCHANGES_PER_BATCH, Reports
from tests.proxy.worker.test_reports import Connection, judged

MS = 1_000_000
HEARTBEAT = 12
REBALANCE = 27


def made(
    connection: Connection | None = None,
    permit: bool = True,
    topics: tuple[str, ...] | None = ("orders",),
    *,
    key: int = 0,
    version: int = 3,
    answered: int = 8 * MS,
    error: int = 0,
    reply: bytes = b"",
    verdict: Verdict | None = None,
    client_id: str = "c",
) -> KafkaExchange:
    verdict = verdict or (Verdict.FORWARDED if permit else Verdict.DROPPED)
    note = Note(verdict, Direction.EGRESS, 7, 3, "" if permit else "because")
    request = KafkaRequest(key, version, client_id, topics)
    ruling = KafkaRuling(permit, note)
    return KafkaExchange(connection or Connection(1), request, 5, ruling, 5 * MS, answered, error, reply)


def taken(*exchanges: KafkaExchange, http: list[Exchange] | None = None) -> wire.Batch:
    batch = Reports(4, http or [], [], 1000, kafka=list(exchanges)).take()
    assert batch is not None
    return batch


def test_records_and_the_connection_they_belong_to() -> None:
    connection = Connection(9)
    batch = taken(made(connection), made(connection, permit=False, error=29))
    assert [c.id for c in batch.connections] == [9]
    assert batch.counters == {"kafka.allowed": 1, "kafka.refused": 1}
    start = 5 * MS + 1000
    assert batch.kafka == [
        wire.KafkaExchange(9, start, 2, 1, 0, 3, 5, "c", ["orders"], 0, 29, True, 3 * MS, 7, 3, "because"),
        wire.KafkaExchange(9, start, 1, 1, 0, 3, 5, "c", ["orders"], 0, 0, True, 3 * MS, 7, 3, ""),
    ]
    assert wire.DECODER.decode(wire.ENCODER.encode(batch)) == batch


def test_everything_is_taken_once() -> None:
    told = [made()]
    outbox = Reports(4, [], [], 0, kafka=told)
    assert outbox.take() is not None
    assert told == []
    assert outbox.take() is None


def test_error_codes() -> None:
    heartbeat = pack(">ih", 0, REBALANCE)
    assert told_code(made(key=HEARTBEAT, version=1, topics=None, reply=heartbeat)) == REBALANCE
    assert told_code(made(key=HEARTBEAT, version=1, topics=None)) == 0
    assert told_code(made(permit=False, error=29)) == 29
    assert told_code(made(answered=0)) == 0
    assert told_code(made(permit=False, answered=0)) == 29
    assert told_code(made(permit=False, answered=0, verdict=Verdict.ERROR)) == -1


def test_what_is_not_answered_has_neither_code_nor_latency() -> None:
    (record,) = taken(made(permit=False, answered=0)).kafka
    assert (record.answered, record.error_code, record.latency_ns) == (False, 0, 0)


def test_what_clients_choose_is_cut() -> None:
    topics = tuple(f"{number}-{'x' * 300}" for number in range(MAX_TOLD_TOPICS + 5))
    (record,) = taken(made(topics=topics, client_id="y" * 30000)).kafka
    assert (len(record.topics), record.more) == (MAX_TOLD_TOPICS, 5)
    assert {len(text) for text in (*record.topics, record.client_id)} == {MAX_TOLD_LENGTH + 1}


def test_counts_by_topic_kind_and_code() -> None:
    batch = taken(
        made(topics=("a", "b")),
        made(topics=("a",), answered=5 * MS + 5 * MS),
        made(topics=("a",), answered=5 * MS + 60_000 * MS),
        made(topics=("a",), permit=False, error=29),
        made(topics=None, key=HEARTBEAT, answered=0),
        made(topics=(), key=3),
        made(topics=None, key=30000),
    )
    counts = {(c.topic, c.api_key, c.error_code): (c.count, c.latency_ns, c.buckets) for c in batch.kafka_counts}
    first, none, last = [1] + [0] * 11, [0] * 12, [0] * 11 + [1]
    assert counts == {
        ("a", 0, 0): (3, (3 + 5 + 60_000) * MS, [2, *last[1:]]),
        ("b", 0, 0): (1, 3 * MS, first),
        ("a", 0, 29): (1, 3 * MS, first),
        ("", HEARTBEAT, 0): (1, 0, none),
        ("", 3, 0): (1, 3 * MS, first),
        ("", -1, 0): (1, 3 * MS, first),
    }
    assert {count.direction for count in batch.kafka_counts} == {1}


def test_counts_are_exact_when_records_are_not() -> None:
    batch = taken(*(made() for _ in range(MAX_EXCHANGES_PER_BATCH + 50)))
    assert (len(batch.kafka), batch.lost) == (MAX_EXCHANGES_PER_BATCH, 50)
    assert [count.count for count in batch.kafka_counts] == [MAX_EXCHANGES_PER_BATCH + 50]
    assert batch.counters == {"kafka.allowed": MAX_EXCHANGES_PER_BATCH + 50}


def test_a_batch_that_could_not_be_sent_loses_no_counts() -> None:
    kafka = [made(), made()]
    outbox = Reports(4, [], [], 0, kafka=kafka)
    first = outbox.take()
    assert first is not None
    outbox.lose(first)
    kafka.append(made())
    second = outbox.take()
    assert second is not None
    assert (second.lost, len(second.kafka), second.counters) == (2, 1, {"kafka.allowed": 3})
    assert [(c.count, c.latency_ns, sum(c.buckets)) for c in second.kafka_counts] == [(3, 9 * MS, 3)]


def test_http_and_kafka_share_a_batch() -> None:
    connection = Connection(1)
    http = [Exchange(connection, judged(True), 1, 2, 200) for _ in range(MAX_EXCHANGES_PER_BATCH)]
    http += [Exchange(connection, judged(False), 1, 2, 403) for _ in range(6)]
    kafka = [made(connection) for _ in range(MAX_EXCHANGES_PER_BATCH)]
    kafka += [made(connection, permit=False, error=29) for _ in range(10)]
    batch = taken(*kafka, http=http)
    share = (MAX_EXCHANGES_PER_BATCH - 16) // 2
    assert (len(batch.exchanges), len(batch.kafka)) == (6 + share, 10 + share)
    assert sum(e.status == 403 for e in batch.exchanges) == 6
    assert sum(e.error_code == 29 for e in batch.kafka) == 10
    assert batch.lost == 2 * (MAX_EXCHANGES_PER_BATCH - share)


def test_few_of_one_kind_leave_the_room_to_the_other() -> None:
    kafka = [made() for _ in range(MAX_EXCHANGES_PER_BATCH)]
    batch = taken(*kafka, http=[Exchange(Connection(1), judged(True), 1, 2, 200)])
    assert (len(batch.exchanges), len(batch.kafka), batch.lost) == (1, MAX_EXCHANGES_PER_BATCH - 1, 1)


def topics_of(counts: KafkaCounts) -> dict[str, int]:
    return {count.topic: count.count for count in counts.take()}


def test_topics_that_do_not_exist_take_no_room_from_those_that_do() -> None:
    counts = KafkaCounts()
    for number in range(MAX_UNCONFIRMED_TOPICS + 7):
        counts.add(made(permit=False, topics=(f"made-up-{number}",)), 29)
    found = topics_of(counts)
    assert len(found) == MAX_UNCONFIRMED_TOPICS + 1
    assert found[wire.OTHER_TOPIC] == 7
    counts.add(made(topics=("orders",)), 0)
    assert topics_of(counts) == {"orders": 1}


def test_topics_are_bounded_for_as_long_as_the_worker_runs() -> None:
    counts = KafkaCounts()
    for number in range(MAX_TOPICS):
        counts.add(made(topics=(f"topic-{number}",)), 0)
    assert len(counts.take()) == MAX_TOPICS
    counts.add(made(topics=("one-more", "and-another", "topic-0")), 0)
    counts.add(made(topics=("x" * (MAX_TOLD_LENGTH + 1),)), 0)
    assert topics_of(counts) == {"topic-0": 1, wire.OTHER_TOPIC: 2}
