"""What a worker is told once, at its start."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from parsers.http.judging import Denial
from parsers.limits import DnsLimits, Http1Limits, Http2Limits, KafkaLimits
from parsers.tls.client_hello import TlsLimits


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The proxy's bounds; each is a setting of the same name.

    Not `config.settings.Limits` itself: a worker that unpickled that would have to load pydantic and all settings.
    """

    max_connections: int
    max_header_bytes: int
    max_request_line: int
    max_headers: int
    http2_max_concurrent_streams: int
    http2_max_header_block: int
    http2_max_control_frames: int
    http2_max_empty_frames: int
    http2_max_reset_streams: int
    max_client_hello: int
    kafka_max_request: int
    kafka_max_buffer: int
    kafka_max_pending: int
    kafka_max_topic_ids: int
    dns_max_pending: int
    dns_max_pending_per_endpoint: int
    dns_max_pipelined: int
    dns_timeout_s: float
    dns_max_addresses: int
    buffer_high_water: int
    max_relays: int
    flood_penalty_s: float
    header_timeout_s: float
    stream_idle_timeout_s: float
    client_idle_timeout_s: float
    connect_timeout_s: float
    drain_timeout_s: float

    def http1(self) -> Http1Limits:
        return Http1Limits(
            head_bytes=self.max_header_bytes,
            request_line_bytes=self.max_request_line,
            header_count=self.max_headers,
        )

    def http2(self) -> Http2Limits:
        return Http2Limits(
            concurrent_streams=self.http2_max_concurrent_streams,
            header_block_bytes=self.http2_max_header_block,
            header_list_bytes=self.max_header_bytes,
            header_count=self.max_headers,
            control_frames=self.http2_max_control_frames,
            empty_frames=self.http2_max_empty_frames,
            reset_streams=self.http2_max_reset_streams,
        )

    def tls(self) -> TlsLimits:
        return TlsLimits(hello_bytes=self.max_client_hello)

    def kafka(self) -> KafkaLimits:
        return KafkaLimits(
            request_bytes=self.kafka_max_request,
            buffered_bytes=self.kafka_max_buffer,
            pending_requests=self.kafka_max_pending,
            topic_ids=self.kafka_max_topic_ids,
        )

    def dns(self) -> DnsLimits:
        return DnsLimits(pending_queries=self.dns_max_pipelined, timeout_ns=int(self.dns_timeout_s * 1e9))


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a client gets for a refused request (`http-deny-response`, `http-403-msg`, `http-denied-by-header`)."""

    denial: Denial = Denial.ANSWER
    body: bytes = b"Access denied\r\n"
    tell_why: bool = False


@dataclass(frozen=True, slots=True)
class NameOptions:
    """Of DNS names (`tofqdns-*`). `refuse_rcode`: what a refused query is answered with. `bind_tls`, `bind_host`: what
    reaches an address by a name must ask for such a name.
    """

    refuse_rcode: int = 5
    min_ttl: int = 0
    max_delay_s: float = 0.1
    addresses_per_name: int = 1000
    addresses_per_endpoint: int = 16384
    protected: tuple[IPv4Network | IPv6Network, ...] = ()
    bind_tls: bool = True
    bind_host: bool = False


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    index: int
    limits: WorkerLimits
    refusals: Refusals
    names: NameOptions = NameOptions()
    cap_kafka_versions: bool = False
