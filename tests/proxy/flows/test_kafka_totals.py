"""What workers count, added up."""

from __future__ import annotations

from proxy.flows.from_workers import MAX_COUNTERS
from proxy.flows.kafka_totals import MAX_SERIES, KafkaTotals
from proxy.flows.wire import BUCKETS_MS, OTHER_TOPIC, Batch, KafkaCount
from tests.proxy.flows.samples import Node, batch

BUCKETS = len(BUCKETS_MS) + 1


def count(topic: str = "orders", key: int = 0, code: int = 0, direction: int = 0, number: int = 2) -> KafkaCount:
    return KafkaCount(topic, key, code, direction, number, 100, [number] + [0] * (BUCKETS - 1))


def test_counts_of_all_workers_add_up() -> None:
    node = Node()
    node.workers.add(batch(kafka_counts=[count(), count(code=29)]))
    node.workers.add(batch(worker=1, kafka_counts=[count(number=3)]))
    totals = node.workers.kafka
    assert totals.requests == {("orders", 0, 0, 0): 5, ("orders", 0, 29, 0): 2}
    durations = totals.durations["orders", 0, 0]
    assert (durations.sum_ns, durations.buckets) == (300, [7] + [0] * (BUCKETS - 1))


def test_unanswered_requests_have_no_duration() -> None:
    totals = KafkaTotals()
    totals.add([KafkaCount("orders", 0, 0, 1, 4, 0, [0] * BUCKETS)])
    assert totals.requests == {("orders", 0, 0, 1): 4}
    assert totals.durations == {}


def test_a_lying_worker_cannot_fill_the_agent() -> None:
    totals = KafkaTotals()
    totals.add(count(f"topic-{number}") for number in range(MAX_SERIES + 10))
    totals.add(count(key=key, code=key, direction=key) for key in range(200, 400))
    totals.add([KafkaCount("short", 0, 0, 0, 1, 1, [])])
    assert len(totals.requests) == MAX_SERIES + 2
    assert totals.requests[OTHER_TOPIC, 0, 0, 0] == 20
    assert totals.requests[OTHER_TOPIC, -1, -1, -1] == 400


def test_names_of_counters_are_bounded() -> None:
    node = Node()
    counters = {f"made.up-{number}": 1 for number in range(MAX_COUNTERS + 10)}
    node.workers.add(Batch(0, [], [], [], [], 0, counters))
    assert len(node.workers.totals) == MAX_COUNTERS
