"""Numbers for Prometheus, over HTTP at `/metrics`. Names and labels are Hubble's where Hubble has the same number.

Nothing is computed until somebody asks: what workers have counted is copied then, and written out in a thread, so that
the agent can go on. Whoever reaches the address may read; all they can cost is one answer at a time and a bounded
number of connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from config.listening import split_address
from proxy.api.listen import ListenError
from proxy.flows.dns_totals import QueryKey, RecordKey, ResponseKey
from proxy.flows.durations import Durations
from proxy.flows.from_workers import WorkerFlows
from proxy.flows.kafka_records import api_name
from proxy.flows.kafka_totals import DurationKey, RequestKey
from proxy.flows.reasons import POLICY_DENIED, rcode_words, reason_words
from proxy.flows.ring import FlowRing, RingStatus
from proxy.flows.wire import BUCKETS_MS, MAX_COUNTED_ADDRESSES, DnsOutcome

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64
_SHUTDOWN_S: Final = 1.0
_KEEPALIVE_S: Final = 75.0

_REPORTERS: Final = {0: "server", 1: "client"}
"""Direction that decided → whose side of a connection that is, in Hubble's words."""

_BOUNDS: Final = (*(str(bound / 1000) for bound in BUCKETS_MS), "+Inf")


@dataclass(frozen=True, slots=True)
class _Family:
    """Counters whose names begin alike. `label` tells them apart; `fixed` is what they have in common."""

    name: str
    help: str
    label: str
    fixed: tuple[tuple[str, str], ...] = ()


_REQUESTS: Final = ("penstock_requests", "Requests that were judged, by outcome (allowed, refused)", "outcome")
_FAMILIES: Final = {
    "requests": _Family(*_REQUESTS, (("protocol", "http"),)),
    "kafka": _Family(*_REQUESTS, (("protocol", "kafka"),)),
    "queries": _Family(*_REQUESTS, (("protocol", "dns"),)),
    "dns": _Family("penstock_dns_events", "What went wrong with DNS queries and answers", "event"),
    "names": _Family("penstock_server_names", "TLS connections judged by the name their client asks for", "verdict"),
    "failures": _Family("penstock_failures", "Connections that ended for a reason of their own", "verdict"),
    "limits": _Family("penstock_limits_reached", "Times that a bound was reached", "limit"),
    "refused": _Family("penstock_connections_refused", "Connections that the proxy did not take", "reason"),
}
_OTHER: Final = _Family("penstock_counter", "Everything else that workers count", "name")


_DNS_ERRORS: Final = {
    DnsOutcome.SERVED: "allow",
    DnsOutcome.DENIED: "denied",
    DnsOutcome.TIMEOUT: "timeout",
    DnsOutcome.FAILED: "proxyErr",
    DnsOutcome.ERROR: "proxyErr",
}
_DNS_RULES: Final = {DnsOutcome.DENIED: "denied", DnsOutcome.ERROR: "parse_errors"}
"""What became of queries that were not forwarded."""

_Seconds = tuple[int, tuple[int, ...]]
"""Sum in ns, buckets."""


class NameStatus(Protocol):
    """What the store of names tells of itself; numbers of endpoints → how many each has."""

    @property
    def active_names(self) -> Mapping[int, int]: ...
    @property
    def active_ips(self) -> Mapping[int, int]: ...
    @property
    def alive_zombie_connections(self) -> Mapping[int, int]: ...
    @property
    def gc_deletions_total(self) -> int: ...


@dataclass(frozen=True, slots=True)
class DnsNumbers:
    queries: Mapping[QueryKey, int]
    responses: Mapping[ResponseKey, int]
    records: Mapping[RecordKey, int]
    outcomes: Mapping[DnsOutcome, int]
    durations: Mapping[DnsOutcome, _Seconds]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A copy of what there is to tell at one moment."""

    counters: Mapping[str, int]
    ring: RingStatus
    kafka_requests: Mapping[RequestKey, int]
    kafka_durations: Mapping[DurationKey, _Seconds]
    dns: DnsNumbers
    names: NameStatus | None = None
    name_selectors: int | None = None


def read(workers: WorkerFlows, ring: FlowRing) -> Numbers:
    kafka, dns = workers.kafka, workers.dns
    return Numbers(
        dict(workers.totals),
        ring.status(),
        dict(kafka.requests),
        {key: _seconds(item) for key, item in kafka.durations.items()},
        DnsNumbers(
            dict(dns.queries),
            dict(dns.responses),
            dict(dns.records),
            dict(dns.outcomes),
            {key: _seconds(item) for key, item in dns.durations.items()},
        ),
    )


def _seconds(durations: Durations) -> _Seconds:
    return durations.sum_ns, tuple(durations.buckets)


class NumbersCollector(Collector):
    """Numbers as metric families."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        yield _kafka_requests(self._numbers.kafka_requests)
        yield _kafka_durations(self._numbers.kafka_durations)
        yield from _dns_messages(self._numbers.dns)
        yield from _dns_outcomes(self._numbers.dns)
        yield from _names(self._numbers)
        yield from _ring(self._numbers.ring)
        yield from _counters(self._numbers.counters)


def _kafka_requests(requests: Mapping[RequestKey, int]) -> Metric:
    labels = ("topic", "api_key", "error_code", "reporter")
    family = CounterMetricFamily("hubble_kafka_requests", "Kafka requests, counted for each topic named", labels=labels)
    for (topic, key, code, direction), count in requests.items():
        family.add_metric((topic, _api_key(key), str(code), _reporter(direction)), count)
    return family


def _kafka_durations(durations: Mapping[DurationKey, tuple[int, tuple[int, ...]]]) -> Metric:
    told = "Time from a Kafka request to its answer, for each topic named"
    family = HistogramMetricFamily(
        "hubble_kafka_request_duration_seconds", told, labels=("topic", "api_key", "reporter")
    )
    for (topic, key, direction), seconds in durations.items():
        _add_seconds(family, (topic, _api_key(key), _reporter(direction)), seconds)
    return family


def _add_seconds(family: HistogramMetricFamily, labels: tuple[str, ...], seconds: _Seconds) -> None:
    sum_ns, buckets = seconds
    family.add_metric(labels, list(zip(_BOUNDS, map(float, accumulate(buckets)), strict=True)), sum_ns / 1e9)


def _dns_messages(numbers: DnsNumbers) -> Iterator[Metric]:
    labels = ("rcode", "qtypes", "ips_returned")
    queries = CounterMetricFamily("hubble_dns_queries", "DNS queries", labels=labels)
    for (asked, is_denied), count in numbers.queries.items():
        queries.add_metric((reason_words(POLICY_DENIED) if is_denied else "", asked, "0"), count)
    responses = CounterMetricFamily("hubble_dns_responses", "Answers to DNS queries", labels=labels)
    for (asked, code, addresses), count in numbers.responses.items():
        told = str(addresses) if addresses < MAX_COUNTED_ADDRESSES else f"{MAX_COUNTED_ADDRESSES}+"
        responses.add_metric((rcode_words(code), asked, told), count)
    records = CounterMetricFamily("hubble_dns_response_types", "Records in answers", labels=("type", "qtypes"))
    for (kind, asked), count in numbers.records.items():
        records.add_metric((kind, asked), count)
    yield from (queries, responses, records)


def _dns_outcomes(numbers: DnsNumbers) -> Iterator[Metric]:
    rules = {"received": 0, "forwarded": 0, "denied": 0, "parse_errors": 0}
    for outcome, count in numbers.outcomes.items():
        rules["received"] += count
        rules[_DNS_RULES.get(outcome, "forwarded")] += count
    told = "Requests that the proxy received, and what became of them"
    family = CounterMetricFamily("cilium_policy_l7", told, labels=("rule", "proxy_type"))
    for rule, count in rules.items():
        family.add_metric((rule, "fqdn"), count)
    yield family
    yield _dns_durations(numbers.durations)


def _dns_durations(durations: Mapping[DnsOutcome, _Seconds]) -> Metric:
    sums: Counter[str] = Counter()
    buckets: dict[str, tuple[int, ...]] = {}
    for outcome, (sum_ns, more) in durations.items():
        error = _DNS_ERRORS[outcome]
        sums[error] += sum_ns
        buckets[error] = tuple(map(int.__add__, buckets[error], more)) if error in buckets else more
    labels = ("error", "protocol_l7", "scope")
    told = "Time from a request to its answer"
    family = HistogramMetricFamily("cilium_proxy_upstream_reply_seconds", told, labels=labels)
    for error, counted in buckets.items():
        _add_seconds(family, (error, "dns", "totalTime"), (sums[error], counted))
    return family


def _names(numbers: Numbers) -> Iterator[Metric]:
    if numbers.name_selectors is not None:
        yield GaugeMetricFamily("cilium_fqdn_selectors", "Selectors of DNS names in policies", numbers.name_selectors)
    status = numbers.names
    if status is None:
        return
    zombies = "Expired addresses that live connections keep open"
    for name, told, counts in (
        ("cilium_fqdn_active_names", "Names whose addresses an endpoint knows", status.active_names),
        ("cilium_fqdn_active_ips", "Addresses that an endpoint knows names of", status.active_ips),
        ("cilium_fqdn_alive_zombie_connections", zombies, status.alive_zombie_connections),
    ):
        family = GaugeMetricFamily(name, told, labels=("endpoint",))
        for endpoint, count in counts.items():
            family.add_metric((str(endpoint),), count)
        yield family
    yield CounterMetricFamily("cilium_fqdn_gc_deletions", "Names that expired", status.gc_deletions_total)


def _api_key(key: int) -> str:
    return api_name(key) if key >= 0 else "unknown"


def _reporter(direction: int) -> str:
    return _REPORTERS.get(direction, "unknown")


def _ring(status: RingStatus) -> Iterator[Metric]:
    yield CounterMetricFamily("penstock_flows", "Flow records that came in", status.seen)
    yield CounterMetricFamily("penstock_flows_lost", "Observations that are in no flow record", status.lost)


def _counters(counters: Mapping[str, int]) -> Iterable[Metric]:
    """Counters by names like `limits.max_connections`."""
    families: dict[str, CounterMetricFamily] = {}
    for name, count in sorted(counters.items()):
        if name == "connections":
            yield CounterMetricFamily("penstock_connections", "Connections that the proxy took", count)
            continue
        prefix, dot, rest = name.partition(".")
        known = _FAMILIES.get(prefix) if dot else None
        told, value = (known, rest) if known is not None else (_OTHER, name)
        family = families.get(told.name)
        if family is None:
            labels = (*(key for key, _ in told.fixed), told.label)
            family = families[told.name] = CounterMetricFamily(told.name, told.help, labels=labels)
        family.add_metric((*(text for _, text in told.fixed), value), count)
    yield from families.values()


class MetricsServer:
    """Listens on `address` between `start` and `stop`; with an empty one there is no server.

    `names` and `name_selectors` are asked for every answer: the status of the store of names, which is not changed
    afterwards, and how many selectors of names policies have.
    """

    def __init__(
        self,
        address: str,
        workers: WorkerFlows,
        ring: FlowRing,
        names: Callable[[], NameStatus] | None = None,
        name_selectors: Callable[[], int] | None = None,
    ) -> None:
        self._address = address
        self._workers = workers
        self._ring = ring
        self._names = names
        self._name_selectors = name_selectors
        self._one_at_a_time = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """ListenError when the address cannot be had."""
        if not self._address:
            return
        host, port = split_address(self._address)
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S, keepalive_timeout=_KEEPALIVE_S)
        await self._runner.setup()
        try:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(self._connection, host or None, port)
        except OSError as error:
            await self.stop()
            why = error.strerror or error
            raise ListenError(f"no metrics at hubble-metrics-server {self._address}: {why}") from None
        log.info("metrics at %s/metrics", self._address)

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server if self._runner is not None else None
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _Turned()
        return server()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        async with self._one_at_a_time:
            registry = CollectorRegistry()
            registry.register(NumbersCollector(self._numbers()))
            body = await asyncio.to_thread(encode, registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _numbers(self) -> Numbers:
        return replace(
            read(self._workers, self._ring),
            names=self._names() if self._names is not None else None,
            name_selectors=self._name_selectors() if self._name_selectors is not None else None,
        )


class _Turned(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
