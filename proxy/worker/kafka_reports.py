"""What a worker tells of Kafka requests: a record of each that is kept, and exact counts of all.

Clients choose the names of topics, so those that counts tell apart are bounded. Names that a server has confirmed have
room of their own: whoever asks for a thousand topics that do not exist takes none of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from config.policy.kafka_apis import API_NAMES
from parsers.facts import KafkaRequest
from parsers.kafka.errors import ERROR_NAMES, error_code
from parsers.kafka.judging import KafkaExchange
from parsers.kafka.splicing import TOPIC_AUTHORIZATION_FAILED
from proxy.flows import wire
from proxy.flows.durations import BOUNDS_NS
from proxy.flows.model import Verdict
from proxy.worker.judges import Note

MAX_TOLD_TOPICS: Final = 20
"""Topics that a record names; of the others it says how many they are."""

MAX_TOLD_LENGTH: Final = 249
"""Characters of a topic or a client id that a record tells. No topic of a Kafka server is longer."""

MAX_TOPICS: Final = 1000
"""Topics of answered requests that counts tell apart, for as long as the worker runs."""

MAX_UNCONFIRMED_TOPICS: Final = 250
"""The same for topics named only in requests that were refused, failed, or got no answer."""

UNKNOWN: Final = -1
"""A kind of request that is not known here; among error codes, Kafka's own for an unknown error."""


_Key = tuple[str, int, int, int]


def told_code(exchange: KafkaExchange) -> int:
    """The error code of the answer. What was refused and not answered counts as what the answer would have been."""
    if exchange.answered:
        request = exchange.request
        if exchange.error or not exchange.reply:
            return exchange.error
        return error_code(request.api_key, request.api_version, exchange.reply)
    if exchange.ruling.permit:
        return 0
    return TOPIC_AUTHORIZATION_FAILED if note_of(exchange).verdict is Verdict.DROPPED else UNKNOWN


def note_of(exchange: KafkaExchange) -> Note:
    note = exchange.ruling.note
    assert isinstance(note, Note)
    return note


def record(exchange: KafkaExchange, connection: int, offset_ns: int, code: int) -> wire.KafkaExchange:
    """`offset_ns`: from the worker's clock to wall-clock time."""
    request, note = exchange.request, note_of(exchange)
    topics = request.topics or ()
    return wire.KafkaExchange(
        connection,
        exchange.started + offset_ns,
        int(note.verdict),
        int(note.direction),
        request.api_key,
        request.api_version,
        exchange.correlation_id,
        _cut(request.client_id),
        [_cut(topic) for topic in topics[:MAX_TOLD_TOPICS]],
        max(0, len(topics) - MAX_TOLD_TOPICS),
        code if exchange.answered else 0,
        exchange.answered != 0,
        exchange.answered - exchange.started if exchange.answered else 0,
        note.rule,
        note.revision,
        note.reason,
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TOLD_LENGTH else f"{text[:MAX_TOLD_LENGTH]}…"


class KafkaCounts:
    """Counts between two batches. A request counts once for each topic that it names; without topics, for ``."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._unconfirmed: set[str] = set()
        self._counts: dict[_Key, list[int]] = {}
        # Most requests are like one before: what they count for is found once.
        self._alike: dict[tuple[object, ...], list[list[int]]] = {}

    def add(self, exchange: KafkaExchange, code: int) -> None:
        """`code`: as told by `told_code`."""
        request, answered = exchange.request, exchange.answered
        direction = int(note_of(exchange).direction)
        is_confirmed = exchange.ruling.permit and answered != 0 and code == 0
        kind = (request.topics, request.api_key, code, direction, is_confirmed)
        rows = self._alike.get(kind)
        if rows is None:
            rows = self._alike[kind] = self._rows(request, code, direction, is_confirmed)
        if not answered:
            for row in rows:
                row[0] += 1
            return
        latency = answered - exchange.started
        bucket = 2 + bisect_left(BOUNDS_NS, latency)
        for row in rows:
            row[0] += 1
            row[1] += latency
            row[bucket] += 1

    def _rows(self, request: KafkaRequest, code: int, direction: int, is_confirmed: bool) -> list[list[int]]:
        names = {self._label(topic, is_confirmed) for topic in request.topics or ("",)}
        key = request.api_key if 0 <= request.api_key < len(API_NAMES) else UNKNOWN
        told = code if code in ERROR_NAMES else UNKNOWN
        return [self._row((name, key, told, direction)) for name in names]

    def take(self) -> list[wire.KafkaCount]:
        taken = [wire.KafkaCount(*key, row[0], row[1], row[2:]) for key, row in self._counts.items()]
        self._counts.clear()
        self._alike.clear()
        return taken

    def restore(self, counts: Iterable[wire.KafkaCount]) -> None:
        """What was taken and could not be sent."""
        for count in counts:
            row = self._row((count.topic, count.api_key, count.error_code, count.direction))
            for index, more in enumerate((count.count, count.latency_ns, *count.buckets)):
                row[index] += more

    def _row(self, key: _Key) -> list[int]:
        """Count, sum of times, buckets."""
        row = self._counts.get(key)
        if row is None:
            row = self._counts[key] = [0] * (3 + len(BOUNDS_NS))
        return row

    def _label(self, topic: str, is_confirmed: bool) -> str:
        if not topic or topic in self._topics:
            return topic
        if len(topic) > MAX_TOLD_LENGTH:
            return wire.OTHER_TOPIC
        known, most = (self._topics, MAX_TOPICS) if is_confirmed else (self._unconfirmed, MAX_UNCONFIRMED_TOPICS)
        if topic not in known:
            if len(known) >= most:
                return wire.OTHER_TOPIC
            known.add(topic)
        return topic
