"""Collects what a worker has to tell and turns it into batches.

Refused exchanges are kept before allowed ones; what exceeds a batch is counted, not kept. Counters are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from config.policy.resolved import Protocol as IpProtocol
from parsers.dns.judging import DnsExchange
from parsers.http.judging import Exchange
from parsers.http2.conversation import Complaint
from parsers.kafka.judging import KafkaExchange
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.worker import dns_reports, kafka_reports
from proxy.worker.judges import Note

MAX_EXCHANGES_PER_BATCH = 128
"""At fifty batches a second: 6,400 exchanges a second and worker can be observed, those of all protocols together."""

MAX_FAILURES_PER_BATCH = 1024


class Reporting(Protocol):
    """The tag of an exchange: a connection that can be told about.

    With UDP it is a query and its answer, of which nothing is told later than in the batch of their exchange.
    """

    is_reported: bool

    @property
    def id(self) -> int: ...

    def describe(self) -> wire.Connection: ...


_E = TypeVar("_E", Exchange, KafkaExchange, DnsExchange)


class Reports:
    """One worker's outbox. Times are wall-clock ns: monotonic + `clock_offset_ns`.

    The lists are those that filters put into; what is in them is taken out. `dns_timeout_s`: how long DNS servers have
    for their answers.
    """

    def __init__(
        self,
        worker: int,
        exchanges: list[Exchange],
        complaints: list[Complaint],
        clock_offset_ns: int,
        *,
        kafka: list[KafkaExchange] | None = None,
        dns: list[DnsExchange] | None = None,
        dns_timeout_s: float = 0.0,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._worker = worker
        self._exchanges = exchanges
        self._complaints = complaints
        self._kafka: list[KafkaExchange] = [] if kafka is None else kafka
        self._kafka_counts = kafka_reports.KafkaCounts()
        self._dns: list[DnsExchange] = [] if dns is None else dns
        self._dns_counts = dns_reports.DnsCounts(int(dns_timeout_s * 1e9))
        self._lessons = dns_reports.Lessons()
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

    def learnt(self, endpoint: int, name: str, addresses: Sequence[bytes], ttl: int, now: int) -> None:
        """An answer told the endpoint that `name` (lower case, no final dot) has these addresses, for `ttl` seconds."""
        self._learn(endpoint, name, addresses, ttl, now + self._offset)

    def _learn(self, endpoint: int, name: str, addresses: Sequence[bytes], ttl: int, time_ns: int) -> None:
        if not self._lessons.add(endpoint, name, addresses, ttl, time_ns):
            self.limit("learnt_names")

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
        self._lost += batch.lost + len(batch.exchanges) + len(batch.kafka) + len(batch.dns) + len(batch.failures)
        self.counters.update(batch.counters)
        self._kafka_counts.restore(batch.kafka_counts)
        self._dns_counts.restore(batch.dns_counts)
        for item in batch.learnt:
            self._learn(item.endpoint, item.name, item.addresses, item.ttl, item.time_ns)
        # What is UDP had no records but those that are lost.
        lasting = [told for told in batch.connections if told.protocol != IpProtocol.UDP]
        self._connections = lasting + self._connections
        self._closed = batch.closed + self._closed

    def take(self) -> wire.Batch | None:
        """Everything since the last call, or None if there is nothing."""
        exchanges, kafka, dns = self._take_exchanges()
        self._take_complaints()
        self._closed += [connection.id for connection in self._ended if connection.is_reported]
        self._ended.clear()
        # Whatever is recorded or counted has a counter as well.
        if not (self.counters or self._closed or self._lost or self._connections or self._lessons):
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
            dns,
            self._dns_counts.take(),
            self._lessons.take(),
        )
        self._connections, self._closed, self._failures, self._lost = [], [], [], 0
        self.counters.clear()
        return batch

    def _take_exchanges(self) -> tuple[list[wire.Exchange], list[wire.KafkaExchange], list[wire.DnsExchange]]:
        if not (self._exchanges or self._kafka or self._dns):
            return [], [], []
        http = _taken(self._exchanges, lambda exchange: exchange.judged.ruling.permit)
        kafka = _taken(self._kafka, lambda exchange: exchange.ruling.permit)
        dns = _taken(self._dns, lambda exchange: exchange.ruling.permit)
        for name, kind in (("requests", http), ("kafka", kafka), ("queries", dns)):
            self.counters[f"{name}.allowed"] += len(kind.allowed)
            self.counters[f"{name}.refused"] += len(kind.refused)
        codes = self._count_kafka()
        for exchange in self._dns:
            self._dns_counts.add(exchange)
        self._lost += _choose(http, kafka, dns)
        told = (
            [self._record(e) for e in http.chosen],
            [self._kafka_record(e, codes[id(e)]) for e in kafka.chosen],
            [self._dns_record(e) for e in dns.chosen],
        )
        self._exchanges.clear()
        self._kafka.clear()
        self._dns.clear()
        return told

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

    def _dns_record(self, exchange: DnsExchange) -> wire.DnsExchange:
        connection: Reporting = exchange.tag  # type: ignore[assignment]  # as in `_record`
        self._tell(connection)
        return dns_reports.record(exchange, connection.id, self._offset)

    def _tell(self, connection: Reporting) -> None:
        if not connection.is_reported:
            connection.is_reported = True
            self._connections.append(connection.describe())


@dataclass(slots=True)
class _Taken(Generic[_E]):
    """Exchanges of one protocol since the last batch, and those among them that this one tells."""

    refused: list[_E]
    allowed: list[_E]
    chosen: list[_E] = field(default_factory=list)


def _taken(exchanges: list[_E], permit: Callable[[_E], bool]) -> _Taken[_E]:
    refused = [exchange for exchange in exchanges if not permit(exchange)]
    return _Taken(refused, [exchange for exchange in exchanges if permit(exchange)] if refused else exchanges)


def _choose(*kinds: _Taken[Any]) -> int:
    """Refused exchanges before allowed ones, and of these the newest. Returns how many there is no room for."""
    refused = _shares(MAX_EXCHANGES_PER_BATCH, [len(kind.refused) for kind in kinds])
    rest = MAX_EXCHANGES_PER_BATCH - sum(refused)
    allowed = _shares(rest, [len(kind.allowed) for kind in kinds])
    lost = 0
    for kind, first, second in zip(kinds, refused, allowed, strict=True):
        kind.chosen = kind.refused[:first] + kind.allowed[len(kind.allowed) - second :]
        lost += len(kind.refused) + len(kind.allowed) - len(kind.chosen)
    return lost


def _shares(room: int, wanted: Sequence[int]) -> list[int]:
    """How many of each kind fit. None can take more than an equal share of what those that want less leave."""
    shares = [0] * len(wanted)
    left = len(wanted)
    for index in sorted(range(len(wanted)), key=wanted.__getitem__):
        shares[index] = min(wanted[index], room // left)
        room -= shares[index]
        left -= 1
    return shares
