"""Numbers for Prometheus, over HTTP at `/metrics`. Names and labels are Hubble's where Hubble has the same number.

Nothing is computed until somebody asks: what workers have counted is copied then, and written out in a thread, so that
the agent can go on. Whoever reaches the address may read; all they can cost is one answer at a time and a bounded
number of connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from config.listening import split_address
from proxy.api.listen import ListenError
from proxy.flows.from_workers import WorkerFlows
from proxy.flows.kafka_records import api_name
from proxy.flows.kafka_totals import DurationKey, RequestKey
from proxy.flows.ring import FlowRing, RingStatus
from proxy.flows.wire import KAFKA_BUCKETS_MS

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64
_SHUTDOWN_S: Final = 1.0
_KEEPALIVE_S: Final = 75.0

_REPORTERS: Final = {0: "server", 1: "client"}
"""Direction that decided → whose side of a connection that is, in Hubble's words."""

_BOUNDS: Final = (*(str(bound / 1000) for bound in KAFKA_BUCKETS_MS), "+Inf")


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
    "names": _Family("penstock_server_names", "TLS connections judged by the name their client asks for", "verdict"),
    "failures": _Family("penstock_failures", "Connections that ended for a reason of their own", "verdict"),
    "limits": _Family("penstock_limits_reached", "Times that a bound was reached", "limit"),
    "refused": _Family("penstock_connections_refused", "Connections that the proxy did not take", "reason"),
}
_OTHER: Final = _Family("penstock_counter", "Everything else that workers count", "name")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A copy of what there is to tell at one moment."""

    counters: Mapping[str, int]
    ring: RingStatus
    kafka_requests: Mapping[RequestKey, int]
    kafka_durations: Mapping[DurationKey, tuple[int, tuple[int, ...]]]


def read(workers: WorkerFlows, ring: FlowRing) -> Numbers:
    durations = {key: (item.sum_ns, tuple(item.buckets)) for key, item in workers.kafka.durations.items()}
    return Numbers(dict(workers.totals), ring.status(), dict(workers.kafka.requests), durations)


class NumbersCollector(Collector):
    """Numbers as metric families."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        yield _kafka_requests(self._numbers.kafka_requests)
        yield _kafka_durations(self._numbers.kafka_durations)
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
    for (topic, key, direction), (sum_ns, buckets) in durations.items():
        cumulative = list(zip(_BOUNDS, map(float, accumulate(buckets)), strict=True))
        family.add_metric((topic, _api_key(key), _reporter(direction)), cumulative, sum_ns / 1e9)
    return family


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
    """Listens on `address` between `start` and `stop`; with an empty one there is no server."""

    def __init__(self, address: str, workers: WorkerFlows, ring: FlowRing) -> None:
        self._address = address
        self._workers = workers
        self._ring = ring
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
            registry.register(NumbersCollector(read(self._workers, self._ring)))
            body = await asyncio.to_thread(encode, registry)
        return web.Response(body=body, headers={"Content-Type": content_type})


class _Turned(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
