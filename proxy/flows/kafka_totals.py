"""What workers count of Kafka requests, added up for as long as the agent runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from config.policy.kafka_apis import API_NAMES
from parsers.kafka.errors import ERROR_NAMES
from proxy.flows.durations import BUCKETS, Durations
from proxy.flows.wire import OTHER_TOPIC, KafkaCount

MAX_SERIES: Final = 8192
"""Combinations told apart. Workers bound their topics; beyond this, whatever they say, new ones are `other`."""

_UNKNOWN: Final = -1

RequestKey = tuple[str, int, int, int]
"""Topic, API key, error code, direction. Numbers that are not known here are -1."""

DurationKey = tuple[str, int, int]
"""Topic, API key, direction."""


class KafkaTotals:
    """`requests` by all that is told apart; `durations` of those that were answered."""

    def __init__(self) -> None:
        self.requests: Counter[RequestKey] = Counter()
        self.durations: dict[DurationKey, Durations] = {}

    def add(self, counts: Iterable[KafkaCount]) -> None:
        for count in counts:
            if len(count.buckets) == BUCKETS:
                self._add(count)

    def _add(self, count: KafkaCount) -> None:
        key = count.api_key if 0 <= count.api_key < len(API_NAMES) else _UNKNOWN
        code = count.error_code if count.error_code in ERROR_NAMES else _UNKNOWN
        direction = count.direction if count.direction in (0, 1) else _UNKNOWN
        topic = count.topic
        if (topic, key, code, direction) not in self.requests and len(self.requests) >= MAX_SERIES:
            topic = OTHER_TOPIC
        self.requests[topic, key, code, direction] += count.count
        if any(count.buckets):
            self.durations.setdefault((topic, key, direction), Durations()).add(count.latency_ns, count.buckets)
