"""What passes between the Kafka filter and whoever judges: rulings, exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from parsers.facts import KafkaRequest


@dataclass(frozen=True, slots=True)
class KafkaRuling:
    """What a judge says of a request. `note` is the judge's own, handed through to the exchange record."""

    permit: bool
    note: object = None


class KafkaJudge(Protocol):
    """Decides on requests."""

    def rule_kafka(self, request: KafkaRequest) -> KafkaRuling: ...

    def refuse_kafka(self, request: KafkaRequest, reason: str) -> KafkaRuling:
        """The ruling on what no rule gets to see: unknown topics, sessions, versions."""
        ...


@dataclass(slots=True, eq=False)
class KafkaExchange:
    """One judged request and its answer. Times are the caller's, in ns.

    `answered` 0: there was no answer, and `error` means nothing. `reply` holds the beginning of the server's answer
    behind its header, from which `parsers.kafka.errors` tells the error code; empty where `error` is known.
    """

    tag: object
    request: KafkaRequest
    correlation_id: int
    ruling: KafkaRuling
    started: int
    answered: int = 0
    error: int = 0
    reply: bytes = b""
