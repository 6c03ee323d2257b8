"""What one Kafka request costs the worker: the filter with the judge of a connection, without sockets and flow records.

The request passes `KafkaFilter.client_data`, its answer `server_data`, as they do in a worker. Rules are those of a
policy, in few or among a thousand.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.failure import BenchmarkError
from benchmarks.report import Report, Row
from config.policy.kafka_apis import ROLES
from config.policy.resolved import (
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    KafkaRule,
    Origin,
    PortRange,
    Rule,
    Snapshot,
)
from parsers.kafka.codecs import build, encode_request_body, encode_response, is_flexible, warm
from parsers.kafka.filter import KafkaFilter
from parsers.kafka.requests import KafkaShared
from parsers.limits import KafkaLimits
from proxy.datapath import ConnectionFacts, Redirected
from proxy.worker.judges import JudgeTable, KafkaJudge
from proxy.worker.options import Refusals

NAME = "kafka-decisions"
PRODUCE, FETCH, METADATA, HEARTBEAT = 0, 1, 3, 12
PORT = 9092
BATCH = 100
"""Requests in flight: fewer than a worker lets wait."""
SECONDS, QUICK_SECONDS = 1.0, 0.1
MANY = 1_000
CHUNK = 64 * 1024
"""A worker reads no more at once."""
CLIENT, SERVER, CLIENT_ID, SERVER_ID = 1, 2, 300, 301
NOTES = (
    "Medians of batches of 100 requests in flight on one connection, one process; best: the fastest batch.",
    "request: KafkaFilter.client_data, from bytes to the ruling; answer: server_data. Flow records are made elsewhere.",
    "AxB: topics x partitions of each. produce-1x1-1m comes in pieces of 64 KiB, as a worker reads it.",
    "distinct: every request has a client id of its own, so that no ruling is remembered.",
)


@dataclass(frozen=True, slots=True)
class Case:
    """`request(number)` is a whole frame, `answer` the server's. `roles` and `topics`: the rules that permit it."""

    request: Callable[[int], bytes]
    answer: bytes
    role: str
    topics: tuple[str, ...]


@dataclass
class _Valve:
    """The connection around the filter. Nothing is to be held here: that would be another measurement."""

    sent: list[bytes] = field(default_factory=list)

    def hold_client(self) -> None:
        raise BenchmarkError("the filter held the client")

    def release_client(self) -> None: ...

    def hold_server(self) -> None:
        raise BenchmarkError("the filter held the server")

    def release_server(self) -> None: ...

    def send_to_server(self, data: bytes) -> None:
        self.sent.append(data)

    def wake_at(self, when: int) -> None: ...


def run(quick: bool) -> Report:
    print("\n".join(f"  {line}" for line in machine.describe()) + "\n", flush=True)
    warm()
    rows = []
    for name, case in _cases().items():
        print(f"  {name}", file=sys.stderr, flush=True)
        for subject, count in (("few-rules", len(case.topics)), (f"{MANY}-rules", MANY)):
            judge = _judge(case, count)
            rows.append(Row(subject, name, _measure(case, judge, QUICK_SECONDS if quick else SECONDS)))
    return Report(NAME, rows, {}, NOTES)


def _measure(case: Case, judge: KafkaJudge, seconds: float) -> dict[str, float]:
    shared = KafkaShared(KafkaLimits())
    filter_ = KafkaFilter(judge, shared, ("10.0.0.2", PORT), None, _Valve())
    requests, answers = [], []
    end = time.monotonic() + seconds
    for first in _until(end):
        frames = [_pieces(case.request(first + number)) for number in range(BATCH)]
        asked, told = _batch(filter_, frames, case.answer)
        _check(filter_, shared)
        requests.append(asked / BATCH / 1e3)
        answers.append(told / BATCH / 1e3)
    return {
        "request_us": median(requests),
        "request_best_us": min(requests),
        "answer_us": median(answers),
        "answer_best_us": min(answers),
    }


def _until(end: float) -> Iterator[int]:
    """Numbers of the first request of each batch."""
    first = 0
    while not first or time.monotonic() < end:
        yield first
        first += BATCH


def _pieces(frame: bytes) -> list[bytes]:
    return [frame[at : at + CHUNK] for at in range(0, len(frame), CHUNK)]


def _batch(filter_: KafkaFilter, frames: Sequence[Sequence[bytes]], answer: bytes) -> tuple[int, int]:
    """Nanoseconds of all requests, and of all answers."""
    take, give = filter_.client_data, filter_.server_data
    start = time.perf_counter_ns()
    for frame in frames:
        for piece in frame:
            take(piece, start)
    between = time.perf_counter_ns()
    for _ in frames:
        give(answer, between)
    return between - start, time.perf_counter_ns() - between


def _check(filter_: KafkaFilter, shared: KafkaShared) -> None:
    """Everything was permitted, and answered by the server."""
    told = shared.exchanges
    if filter_.end is not None or filter_.answer or len(told) != BATCH or not all(one.ruling.permit for one in told):
        raise BenchmarkError(f"not every request was permitted: {filter_.failure or filter_.answer[:100]!r}")
    told.clear()


def _judge(case: Case, count: int) -> KafkaJudge:
    """Of a connection to a server with so many rules, those of the case last."""
    others = [(case.role, f"other-{number}") for number in range(count - len(case.topics))]
    ours = [(case.role, topic) for topic in case.topics]
    rules = tuple(KafkaRule(ROLES[role], topic=topic, role=role) for role, topic in (*others, *ours))
    origin = Origin(1, "CiliumNetworkPolicy", "bench", "server", "ingress[0]")
    ingress = DirectionPolicy(True, (Rule(origin, frozenset({CLIENT_ID}), (PortRange(6, PORT, PORT),), l7=rules),))
    server = Endpoint(SERVER, "bench", "server", frozenset(), SERVER_ID, (ip_address("10.0.0.2"),), "b")
    policies = {SERVER: EndpointPolicy(ingress, DirectionPolicy(False))}
    snapshot = Snapshot(1, {SERVER: server}, policies, origins={1: origin})
    facts = ConnectionFacts(0, SERVER, CLIENT_ID, SERVER_ID, Redirected.INGRESS, 1)
    judge = JudgeTable(snapshot, Refusals()).judge(facts, PORT)
    if not isinstance(judge, KafkaJudge):
        raise BenchmarkError(f"this is no Kafka connection: {judge}")
    return judge


def _cases() -> dict[str, Case]:
    ten = tuple(f"topic-{number}" for number in range(10))
    small, large = bytes(1024), bytes(1 << 20)
    heartbeat = _frame(HEARTBEAT, 4, group_id="g", generation_id=1, member_id="m")
    beat = _answer(HEARTBEAT, 4, error_code=0)
    return {
        "produce-1x1-1k": Case(_same(_produce(small)), _produced(), "produce", ten[:1]),
        "produce-1x1-1k-distinct": Case(
            lambda number: _produce(small, f"client-{number}"), _produced(), "produce", ten[:1]
        ),
        "produce-1x1-1m": Case(_same(_produce(large)), _produced(), "produce", ten[:1]),
        "fetch-1x1": Case(_same(_fetch(ten[:1], 1)), _fetched(ten[:1], 1), "consume", ten[:1]),
        "fetch-10x10": Case(_same(_fetch(ten, 10)), _fetched(ten, 10), "consume", ten),
        "metadata-1": Case(_same(_metadata(ten[:1])), _described(ten[:1]), "consume", ten[:1]),
        "metadata-10": Case(_same(_metadata(ten)), _described(ten), "consume", ten),
        "heartbeat": Case(_same(heartbeat), beat, "consume", ten[:1]),
    }


def _same(frame: bytes) -> Callable[[int], bytes]:
    return lambda _: frame


def _produce(records: bytes, client: str = "bench") -> bytes:
    topic = {"name": "topic-0", "partition_data": [{"index": 0, "records": records}]}
    return _frame(PRODUCE, 9, client, acks=1, timeout_ms=1000, topic_data=[topic])


def _produced() -> bytes:
    partition = {"index": 0, "error_code": 0, "base_offset": 1, "log_append_time_ms": -1, "log_start_offset": 0}
    return _answer(PRODUCE, 9, responses=[{"name": "topic-0", "partition_responses": [partition]}])


def _fetch(topics: Sequence[str], partitions: int) -> bytes:
    wanted = [{"partition": number, "fetch_offset": 3} for number in range(partitions)]
    named = [{"topic": topic, "partitions": wanted} for topic in topics]
    return _frame(FETCH, 11, max_wait_ms=300, session_id=0, session_epoch=-1, topics=named)


def _fetched(topics: Sequence[str], partitions: int) -> bytes:
    found = [
        {"partition_index": number, "error_code": 0, "high_watermark": 3, "records": bytes(100)}
        for number in range(partitions)
    ]
    return _answer(FETCH, 11, error_code=0, responses=[{"topic": topic, "partitions": found} for topic in topics])


def _metadata(topics: Sequence[str]) -> bytes:
    return _frame(METADATA, 9, topics=[{"name": topic} for topic in topics], allow_auto_topic_creation=False)


def _described(topics: Sequence[str]) -> bytes:
    partition = {"error_code": 0, "partition_index": 0, "leader_id": 1, "replica_nodes": [1], "isr_nodes": [1]}
    told = [{"error_code": 0, "name": topic, "is_internal": False, "partitions": [partition]} for topic in topics]
    brokers = [{"node_id": 1, "host": "broker", "port": PORT, "rack": None}]
    return _answer(METADATA, 9, brokers=brokers, cluster_id="c", controller_id=1, topics=told)


def _frame(key: int, version: int, client: str = "bench", **fields: Any) -> bytes:
    head = key.to_bytes(2, "big") + version.to_bytes(2, "big") + (1).to_bytes(4, "big")
    head += len(client).to_bytes(2, "big") + client.encode() + (b"\0" if is_flexible(key, version) else b"")
    body = encode_request_body(build("request", key, version, **fields))
    return (len(head) + len(body)).to_bytes(4, "big") + head + body


def _answer(key: int, version: int, **fields: Any) -> bytes:
    return encode_response(build("response", key, version, **fields), 1)
