"""How long things took, in the buckets of a Prometheus histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.flows.wire import BUCKETS_MS

BUCKETS: Final = len(BUCKETS_MS) + 1
BOUNDS_NS: Final = tuple(bound * 1_000_000 for bound in BUCKETS_MS)


@dataclass(slots=True)
class Durations:
    """`buckets` as in `KafkaCount`."""

    sum_ns: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, sum_ns: int, buckets: Sequence[int]) -> None:
        """As many buckets as here."""
        self.sum_ns += sum_ns
        for index, more in enumerate(buckets):
            self.buckets[index] += more
