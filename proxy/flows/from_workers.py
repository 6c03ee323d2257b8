"""Worker batches → flow records.

An agent may receive tens of thousands of exchanges a second and nobody may be looking, so a record is two references
and four numbers; URL, labels and JSON come into being when it is read. As in Hubble a refused request is two flows:
the DROPPED request, and the 403 that was FORWARDED to the client.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from config.policy.resolved import Direction, Protocol
from proxy.flows import summary
from proxy.flows.dns_records import DnsRecord
from proxy.flows.dns_totals import DnsTotals
from proxy.flows.enrich import Attribution, Enricher
from proxy.flows.kafka_records import KafkaRecord
from proxy.flows.kafka_totals import KafkaTotals
from proxy.flows.links import (
    ALLOWED,
    POLICY_DENIED_NAME,
    UNATTRIBUTED,
    ExchangeRecord,
    Link,
    exchange_flow,
    policies,
    traffic_direction,
)
from proxy.flows.model import L7, Endpoint, EventType, Flow, FlowType, Http, L7Type, LostSource, Verdict
from proxy.flows.reasons import POLICY_DENIED
from proxy.flows.ring import FlowRing, Record
from proxy.flows.wire import Batch, Connection, DnsExchange, Exchange, Failure, KafkaExchange, Learnt

MAX_CONNECTIONS: Final = 65536
"""Connections remembered per worker. A worker has a limit of its own; this one holds if it lies."""

MAX_COUNTERS: Final = 1024
"""Names of counters; workers have a few dozen."""

MAX_NAME: Final = 1024
"""Characters of a name that is learnt; 255 bytes need no more, however they are written."""

OnLearnt = Callable[[list[Learnt]], None]

_Judged = Exchange | KafkaExchange | DnsExchange

_VERDICTS: Final = {int(verdict): verdict for verdict in Verdict}


class HttpRecord(ExchangeRecord[Exchange], frozen=True, gc=False):
    """A request or its response."""

    def observation(self, uuid: str) -> Flow:
        return _http_flow(self, uuid)


class FailureRecord(msgspec.Struct, frozen=True, gc=False):
    """A connection that ended for a reason of its own."""

    verdict: int
    event_type: int
    failure: Failure
    link: Link
    attribution: Attribution

    @property
    def time_ns(self) -> int:
        return self.failure.time_ns

    def observation(self, uuid: str) -> Flow:
        failure, link = self.failure, self.link
        words = ": ".join(part for part in (failure.reason, failure.detail) if part)
        dropped = self.verdict == Verdict.DROPPED
        return Flow(
            time_ns=failure.time_ns,
            uuid=uuid,
            verdict=Verdict(self.verdict),
            drop_reason=POLICY_DENIED if dropped else 0,
            ip=link.ip(reply=False),
            l4=link.l4(reply=False),
            source=link.source,
            destination=link.destination,
            type=FlowType.L7,
            node_name=link.node_name,
            source_names=link.source_names,
            destination_names=link.destination_names,
            l7=L7(L7Type.REQUEST),
            event_type=EventType.L7,
            traffic_direction=traffic_direction(failure.direction),
            drop_reason_desc=POLICY_DENIED_NAME if dropped else "",
            is_reply=False,
            summary=words,
            deciding=self.attribution.deciding(words),
            policy_log=(words,),
            **policies(self.attribution, failure.direction, self.verdict),
        )


class WorkerFlows:
    """Takes the batches of all workers. `totals`, `kafka` and `dns` add up what they count, exact whatever is lost.

    `on_learnt` gets what DNS answers told pods, before the records of the same batch are made.
    """

    def __init__(self, ring: FlowRing, enricher: Enricher, on_learnt: OnLearnt | None = None) -> None:
        self._ring = ring
        self._enricher = enricher
        self._on_learnt = on_learnt
        self._links: dict[int, dict[int, Link]] = {}
        self._nowhere = Link(Connection(0, "", 0, "", 0, 0, 0, 0, 0), Endpoint(), Endpoint(), enricher.node_name)
        self.totals: Counter[str] = Counter()
        self.kafka = KafkaTotals()
        self.dns = DnsTotals()

    def add(self, batch: Batch) -> None:
        self._learn(batch.learnt)
        links = self._links.setdefault(batch.worker, {})
        for connection in batch.connections:
            links[connection.id] = self._link(connection)
        while len(links) > MAX_CONNECTIONS:
            del links[next(iter(links))]
        records: list[Record] = []
        for exchange in batch.exchanges:
            self._exchange(exchange, links.get(exchange.connection, self._nowhere), records)
        for request in batch.kafka:
            self._kafka(request, links.get(request.connection, self._nowhere), records)
        for query in batch.dns:
            self._dns(query, links.get(query.connection, self._nowhere), records)
        for failure in batch.failures:
            link = links.get(failure.connection, self._nowhere)
            verdict = _VERDICTS.get(failure.verdict, Verdict.ERROR)
            attribution = self._attribution(failure, link, verdict) if failure.revision else UNATTRIBUTED
            records.append(FailureRecord(verdict, EventType.L7, failure, link, attribution))
        self._ring.extend(records)
        for number in batch.closed:
            links.pop(number, None)
        for connection in batch.connections:
            if connection.protocol == Protocol.UDP:
                links.pop(connection.id, None)
        self._count(batch.counters)
        self.kafka.add(batch.kafka_counts)
        self.dns.add(batch.dns_counts)
        self._ring.lose(LostSource.OBSERVER_EVENTS_QUEUE, batch.lost, time.time_ns())

    def forget(self, worker: int) -> None:
        """A worker is gone, and its connections with it."""
        self._links.pop(worker, None)

    def connections(self, worker: int) -> int:
        """How many open connections the worker has told of."""
        return len(self._links.get(worker, ()))

    def _count(self, counters: Mapping[str, int]) -> None:
        totals = self.totals
        for name, more in counters.items():
            if name in totals or len(totals) < MAX_COUNTERS:
                totals[name] += more

    def _learn(self, learnt: list[Learnt]) -> None:
        if self._on_learnt is not None and learnt:
            sound = [item for item in learnt if _is_sound(item)]
            self._on_learnt(sound)

    def _link(self, connection: Connection) -> Link:
        side, names = self._enricher.side, self._enricher.names
        return Link(
            connection,
            side(connection.source_endpoint, connection.source_identity, connection.client),
            side(connection.destination_endpoint, connection.destination_identity, connection.server),
            self._enricher.node_name,
            names(connection.destination_endpoint, connection.client),
            names(connection.source_endpoint, connection.server),
        )

    def _exchange(self, exchange: Exchange, link: Link, records: list[Record]) -> None:
        verdict, attribution = self._decided(exchange, link)
        records.append(HttpRecord(verdict, EventType.L7, False, exchange, link, attribution))
        if exchange.status:
            records.append(HttpRecord(Verdict.FORWARDED, EventType.L7, True, exchange, link, attribution))

    def _kafka(self, exchange: KafkaExchange, link: Link, records: list[Record]) -> None:
        verdict, attribution = self._decided(exchange, link)
        records.append(KafkaRecord(verdict, EventType.L7, False, exchange, link, attribution))
        if exchange.answered:
            records.append(KafkaRecord(Verdict.FORWARDED, EventType.L7, True, exchange, link, attribution))

    def _dns(self, exchange: DnsExchange, link: Link, records: list[Record]) -> None:
        verdict, attribution = self._decided(exchange, link)
        records.append(DnsRecord(verdict, EventType.L7, False, exchange, link, attribution))
        if exchange.answered:
            records.append(DnsRecord(Verdict.FORWARDED, EventType.L7, True, exchange, link, attribution))

    def _decided(self, exchange: _Judged, link: Link) -> tuple[Verdict, Attribution]:
        verdict = _VERDICTS.get(exchange.verdict, Verdict.ERROR)
        # Bytes that do not parse never met a policy.
        if verdict is Verdict.ERROR:
            return verdict, UNATTRIBUTED
        return verdict, self._attribution(exchange, link, verdict)

    def _attribution(self, decided: _Judged | Failure, link: Link, verdict: Verdict) -> Attribution:
        egress = decided.direction == Direction.EGRESS
        return self._enricher.attribution(
            decided.rule,
            decided.revision,
            Direction.EGRESS if egress else Direction.INGRESS,
            link.facts.source_endpoint if egress else link.facts.destination_endpoint,
            denied=verdict not in ALLOWED,
        )


def _is_sound(learnt: Learnt) -> bool:
    return (
        learnt.endpoint > 0
        and learnt.ttl >= 0
        and len(learnt.name) <= MAX_NAME
        and all(len(address) in (4, 16) for address in learnt.addresses)
    )


def _http_flow(record: HttpRecord, uuid: str) -> Flow:
    exchange, reply = record.exchange, record.response
    http = _http(exchange, record.link, exchange.status if reply else 0)
    if reply:
        l7 = L7(L7Type.RESPONSE, exchange.latency_ns, "http", http)
        return exchange_flow(record, uuid, l7, summary.http_response(http, exchange.latency_ns))
    return exchange_flow(record, uuid, L7(L7Type.REQUEST, 0, "http", http), summary.http_request(http))


def _http(exchange: Exchange, link: Link, code: int) -> Http:
    version = exchange.version if "/" in exchange.version else f"HTTP/{exchange.version}"
    return Http(code, _text(exchange.method), _url(exchange, link), version)


def _url(exchange: Exchange, link: Link) -> str:
    """The absolute URL, whatever form the request's target had (RFC 9112 §3.2)."""
    target = _text(exchange.target)
    if "://" in target.partition("?")[0]:
        return target
    host = _text(exchange.host)
    if not host:
        host = summary.socket_text(link.facts.server, link.facts.server_port)
    if exchange.method == b"CONNECT":
        return f"http://{target or host}"
    return f"http://{host}{target}" if target.startswith("/") else f"http://{host}/{target}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
