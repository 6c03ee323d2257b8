"""Collects what a worker has to tell and turns it into batches.

Refused exchanges are kept before allowed ones; what exceeds a batch is counted, not kept. Counters are exact.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol, TypeVar

from parsers.http.judging import Exchange
from parsers.http2.conversation import Complaint
from parsers.kafka.judging import KafkaExchange
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.worker import kafka_reports
from proxy.worker.judges import Note

MAX_EXCHANGES_PER_BATCH = 256
"""At fifty batches a second: 12,800 exchanges a second and worker can be observed, those of Kafka among them."""

MAX_FAILURES_PER_BATCH = 1024


class Reporting(Protocol):
    """The tag of an exchange: a connection that can be told about."""

    is_reported: bool

    @property
    def id(self) -> int: ...

    def describe(self) -> wire.Connection: ...


_E = TypeVar("_E", Exchange, KafkaExchange)


class Reports:
    """One worker's outbox. Times are wall-clock ns: monotonic + `clock_offset_ns`.

    The lists are those that filters put into; what is in them is taken out.
    """

    def __init__(
        self,
        worker: int,
        exchanges: list[Exchange],
        complaints: list[Complaint],
        clock_offset_ns: int,
        *,
        kafka: list[KafkaExchange] | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._worker = worker
        self._exchanges = exchanges
        self._complaints = complaints
        self._kafka: list[KafkaExchange] = [] if kafka is None else kafka
        self._kafka_counts = kafka_reports.KafkaCounts()
        self._offset = clock_offset_ns
        self._failures: list[wire.Failure] = []
        self._connections: list[wire.Connection] = []
        self._ended: list[Reporting] = []
        self._closed: list[int] = []
        self._lost = 0

    def failure(
        self, connection: Reporting, now: int, verdict: Verdict, direction: int, reason: str, detail: str = ""
    ) -> None:
        """A connection, or a part of it, that ended for a reason of its own."""
        self.counters[f"failures.{verdict.name.lower()}"] += 1
        self._keep(connection, wire.Failure(connection.id, now + self._offset, int(verdict), direction, reason, detail))

    def judged_name(self, connection: Reporting, now: int, note: Note, said: str) -> None:
        """A TLS connection has been judged by the name that its client asks for."""
        self.counters[f"names.{note.verdict.name.lower()}"] += 1
        told = (int(note.verdict), int(note.direction), said, note.reason, note.rule, note.revision)
        self._keep(connection, wire.Failure(connection.id, now + self._offset, *told))

    def _keep(self, connection: Reporting, record: wire.Failure) -> None:
        if len(self._failures) >= MAX_FAILURES_PER_BATCH:
            self._lost += 1
            return
        self._tell(connection)
        self._failures.append(record)

    def limit(self, name: str) -> None:
        """A bound was reached."""
        if name:
            self.counters[f"limits.{name}"] += 1

    def closed(self, connection: Reporting) -> None:
        """No record will refer to this connection any more, but for those not taken yet."""
        self._ended.append(connection)

    def lose(self, batch: wire.Batch) -> None:
        """A batch that could not be sent: its records are lost, its counters and connections are not."""
        self._lost += batch.lost + len(batch.exchanges) + len(batch.kafka) + len(batch.failures)
        self.counters.update(batch.counters)
        self._kafka_counts.restore(batch.kafka_counts)
        self._connections = batch.connections + self._connections
        self._closed = batch.closed + self._closed

    def take(self) -> wire.Batch | None:
        """Everything since the last call, or None if there is nothing."""
        exchanges, kafka = self._take_exchanges()
        self._take_complaints()
        self._closed += [connection.id for connection in self._ended if connection.is_reported]
        self._ended.clear()
        # Whatever is counted has a counter as well.
        records = exchanges or kafka or self._failures
        if not (records or self._closed or self._lost or self.counters or self._connections):
            return None
        batch = wire.Batch(
            self._worker,
            self._connections,
            self._closed,
            exchanges,
            self._failures,
            self._lost,
            dict(+self.counters),
            kafka,
            self._kafka_counts.take(),
        )
        self._connections, self._closed, self._failures, self._lost = [], [], [], 0
        self.counters.clear()
        return batch

    def _take_exchanges(self) -> tuple[list[wire.Exchange], list[wire.KafkaExchange]]:
        if not (self._exchanges or self._kafka):
            return [], []
        http_refused = [e for e in self._exchanges if not e.judged.ruling.permit]
        http_allowed = [e for e in self._exchanges if e.judged.ruling.permit] if http_refused else self._exchanges
        kafka_refused = [e for e in self._kafka if not e.ruling.permit]
        kafka_allowed = [e for e in self._kafka if e.ruling.permit] if kafka_refused else self._kafka
        self._count("requests", len(http_allowed), len(http_refused))
        self._count("kafka", len(kafka_allowed), len(kafka_refused))
        codes = self._count_kafka()
        http_room, kafka_room = _shares(MAX_EXCHANGES_PER_BATCH, len(http_refused), len(kafka_refused))
        http, kafka = http_refused[:http_room], kafka_refused[:kafka_room]
        rest = MAX_EXCHANGES_PER_BATCH - len(http) - len(kafka)
        http_room, kafka_room = _shares(rest, len(http_allowed), len(kafka_allowed))
        http += _newest(http_allowed, http_room)
        kafka += _newest(kafka_allowed, kafka_room)
        self._lost += len(self._exchanges) + len(self._kafka) - len(http) - len(kafka)
        self._exchanges.clear()
        self._kafka.clear()
        return [self._record(e) for e in http], [self._kafka_record(e, codes[id(e)]) for e in kafka]

    def _count(self, kind: str, allowed: int, refused: int) -> None:
        self.counters[f"{kind}.allowed"] += allowed
        self.counters[f"{kind}.refused"] += refused

    def _count_kafka(self) -> dict[int, int]:
        """Also the error code of each exchange, by its identity: what is found once need not be looked for again."""
        codes: dict[int, int] = {}
        for exchange in self._kafka:
            code = codes[id(exchange)] = kafka_reports.told_code(exchange)
            self._kafka_counts.add(exchange, code)
        return codes

    def _take_complaints(self) -> None:
        for complaint in self._complaints:
            connection: Reporting = complaint.tag  # type: ignore[assignment]  # as in `_record`
            self.limit(complaint.limit)
            self.failure(connection, complaint.time, Verdict.ERROR, 0, complaint.reason, "stream reset")
        self._complaints.clear()

    def _record(self, exchange: Exchange) -> wire.Exchange:
        connection: Reporting = exchange.tag  # type: ignore[assignment]  # the worker tags its filters with connections
        self._tell(connection)
        facts = exchange.judged.facts
        note = exchange.judged.ruling.note
        assert isinstance(note, Note)
        return wire.Exchange(
            connection.id,
            exchange.started + self._offset,
            int(note.verdict),
            int(note.direction),
            facts.method,
            facts.path,
            facts.host,
            exchange.judged.version,
            exchange.status,
            exchange.answered - exchange.started,
            note.rule,
            note.revision,
            note.reason,
        )

    def _kafka_record(self, exchange: KafkaExchange, code: int) -> wire.KafkaExchange:
        connection: Reporting = exchange.tag  # type: ignore[assignment]  # as in `_record`
        self._tell(connection)
        return kafka_reports.record(exchange, connection.id, self._offset, code)

    def _tell(self, connection: Reporting) -> None:
        if not connection.is_reported:
            connection.is_reported = True
            self._connections.append(connection.describe())


def _shares(room: int, first: int, second: int) -> tuple[int, int]:
    """How many of each fit: neither can take more than half from the other."""
    half = room // 2
    of_first = min(first, max(half, room - second))
    return of_first, min(second, room - of_first)


def _newest(exchanges: list[_E], count: int) -> list[_E]:
    """A copy."""
    return exchanges[len(exchanges) - count :]
