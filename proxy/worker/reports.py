"""Collects what a worker has to tell and turns it into batches.

Refused exchanges are kept before allowed ones; what exceeds a batch is counted, not kept. Counters are exact.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from parsers.http.judging import Exchange
from parsers.http2.conversation import Complaint
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.worker.judges import Note

MAX_EXCHANGES_PER_BATCH = 256
"""At fifty batches a second: 12,800 exchanges a second and worker can be observed."""

MAX_FAILURES_PER_BATCH = 1024


class Reporting(Protocol):
    """The tag of an exchange: a connection that can be told about."""

    is_reported: bool

    @property
    def id(self) -> int: ...

    def describe(self) -> wire.Connection: ...


class Reports:
    """One worker's outbox. Times are wall-clock ns: monotonic + `clock_offset_ns`."""

    def __init__(
        self, worker: int, exchanges: list[Exchange], complaints: list[Complaint], clock_offset_ns: int
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._worker = worker
        self._exchanges = exchanges
        self._complaints = complaints
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
        self._lost += batch.lost + len(batch.exchanges) + len(batch.failures)
        self.counters.update(batch.counters)
        self._connections = batch.connections + self._connections
        self._closed = batch.closed + self._closed

    def take(self) -> wire.Batch | None:
        """Everything since the last call, or None if there is nothing."""
        exchanges = self._take_exchanges()
        self._take_complaints()
        self._closed += [connection.id for connection in self._ended if connection.is_reported]
        self._ended.clear()
        if not (exchanges or self._failures or self._closed or self._lost or self.counters or self._connections):
            return None
        batch = wire.Batch(
            self._worker,
            self._connections,
            self._closed,
            exchanges,
            self._failures,
            self._lost,
            dict(+self.counters),
        )
        self._connections, self._closed, self._failures, self._lost = [], [], [], 0
        self.counters.clear()
        return batch

    def _take_exchanges(self) -> list[wire.Exchange]:
        done = self._exchanges
        if not done:
            return []
        refused: list[Exchange] = []
        allowed: list[Exchange] = []
        for exchange in done:
            (allowed if exchange.judged.ruling.permit else refused).append(exchange)
        self.counters["requests.allowed"] += len(allowed)
        self.counters["requests.refused"] += len(refused)
        room = MAX_EXCHANGES_PER_BATCH
        kept = refused[:room] + allowed[max(0, len(allowed) - max(0, room - len(refused))) :]
        self._lost += len(done) - len(kept)
        done.clear()
        return [self._record(exchange) for exchange in kept]

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

    def _tell(self, connection: Reporting) -> None:
        if not connection.is_reported:
            connection.is_reported = True
            self._connections.append(connection.describe())
