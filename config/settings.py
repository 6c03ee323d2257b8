"""Settings of the daemon: what there is, with defaults and reasons; `setting_sources.py` reads them.

Names with dashes are those of files, flags and (in capitals) of environment variables; they are Cilium's where Cilium
has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from config.listening import checked_address
from config.setting_sources import SettingsRefused, collect

Network = IPv4Network | IPv6Network

PROTECTED = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/127",
            "::ffff:0:0/96",
            "fe80::/10",
            "ff00::/8",
        ),
    )
)
"""Never a server that a name should open: unspecified, loopback, link-local, multicast, reserved, IPv4 in disguise."""

__all__ = ["PROTECTED", "Limits", "Settings", "SettingsRefused", "load_settings"]


def _networks(value: object) -> object:
    """`10.96.0.0/12,fd96::/108` as it comes from a flag or the environment, or a list of such texts."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list):
        return value
    return tuple(ip_network(word.strip()) if isinstance(word, str) else word for word in words if word)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Limits(_Section):
    """Everything an outsider can grow has a bound. The numbers follow Envoy's where it has them."""

    max_header_bytes: int = Field(default=61440, ge=1024, le=1 << 20, description="bytes of one request head")
    max_request_line: int = Field(default=16384, ge=256, le=1 << 20, description="bytes of one request line")
    max_headers: int = Field(default=100, ge=1, le=10000, description="header fields of one message")
    http2_max_concurrent_streams: int = Field(default=1024, ge=1, le=1 << 20, description="streams of one connection")
    http2_max_header_block: int = Field(default=65536, ge=1024, le=1 << 20, description="bytes of one header block")
    http2_max_control_frames: int = Field(default=1000, ge=10, description="HTTP/2 frames that carry nothing, at once")
    http2_max_empty_frames: int = Field(default=1, ge=0, description="DATA frames without data in a row")
    http2_max_reset_streams: int = Field(
        default=500, ge=1, description="streams after which a connection that resets half of them is ended"
    )
    max_client_hello: int = Field(default=16384, ge=512, le=65536, description="bytes of the start of a TLS connection")
    kafka_max_request: int = Field(
        default=104857600, ge=65536, le=(1 << 31) - 1, description="bytes of a Kafka request"
    )
    kafka_max_buffer: int = Field(
        default=16 << 20, ge=1 << 20, le=1 << 30, description="bytes of a Kafka message that is held until it is whole"
    )
    kafka_max_pending: int = Field(default=256, ge=1, le=65536, description="unanswered Kafka requests of a connection")
    kafka_max_topic_ids: int = Field(
        default=65536, ge=16, le=1 << 24, description="topic ids known of one Kafka server"
    )
    dns_max_pending: int = Field(default=16384, ge=16, le=1 << 20, description="unanswered DNS queries of one worker")
    dns_max_pending_per_endpoint: int = Field(
        default=4096, ge=1, le=1 << 20, description="unanswered DNS queries of one endpoint in one worker"
    )
    dns_max_pipelined: int = Field(
        default=128, ge=1, le=65535, description="unanswered queries of one DNS connection over TCP"
    )
    dns_timeout_s: float = Field(default=4.0, gt=0, le=60, description="for a DNS server's answer; then SERVFAIL")
    dns_max_names: int = Field(default=10000, ge=16, le=1 << 20, description="DNS names known of one endpoint")
    dns_max_addresses: int = Field(
        default=16384, ge=16, le=1 << 20, description="addresses that names have opened for one endpoint"
    )
    max_connections: int = Field(default=10000, ge=1, description="proxied connections of one worker")
    flood_penalty_s: float = Field(
        default=10.0, ge=0, description="that a client of many floods gets no new connections; 0 = never"
    )
    header_timeout_s: float = Field(default=10.0, gt=0, description="from the first byte of a head to its last")
    stream_idle_timeout_s: float = Field(default=300.0, gt=0, description="silence inside a request")
    client_idle_timeout_s: float = Field(default=3600.0, gt=0, description="silence between requests")
    connect_timeout_s: float = Field(default=2.0, gt=0, description="for the connection to the server")
    drain_timeout_s: float = Field(default=30.0, ge=0, description="that live connections have on shutdown")
    max_relays: int = Field(
        default=64, ge=0, description="large bodies of one worker that pass within the kernel at once"
    )
    buffer_high_water: int = Field(default=65536, ge=4096, description="bytes waiting in one way of a connection")


class Settings(_Section):
    """One value for each setting; `sources` says where it came from."""

    state_dir: Path = Field(default=Path("/run/penstock"), description="sockets and files of the running daemon")
    bpf_root: Path = Field(default=Path("/sys/fs/bpf/penstock"), description="where programs and maps are pinned")
    policy_dir: Path | None = Field(default=None, description="folder of policy files")
    endpoints_file: Path | None = Field(default=None, description="which workloads there are")
    secrets_dir: Path | None = Field(default=None, description="folder of secrets that headerMatches name")
    workers: int = Field(default=0, ge=0, le=1024, description="proxy processes; 0 = one per core")
    enable_policy: Literal["default", "always", "never"] = Field(
        default="default", description="when a direction of an endpoint is enforced"
    )
    policy_audit_mode: bool = Field(default=False, description="report what would be refused, refuse nothing")
    allow_localhost: Literal["auto", "always", "policy"] = Field(
        default="auto", description="whether the node itself reaches every endpoint"
    )
    service_cidrs: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = Field(
        default=(), description="addresses of services, which this node translates: judged behind that"
    )
    deny_established: Literal["reset", "drop"] = Field(
        default="reset", description="what becomes of a TCP connection whose permission is withdrawn"
    )
    bpf_ct_global_max: int = Field(default=262144, ge=1024, le=1 << 26, description="flows known at a time")
    bpf_fragments_map_max: int = Field(default=8192, ge=1, le=1 << 20, description="datagrams in pieces at a time")
    bpf_policy_map_max: int = Field(default=131072, ge=256, le=1 << 24, description="policy rows of one endpoint")
    bpf_ipcache_max: int = Field(default=524288, ge=1024, le=1 << 26, description="prefixes with an identity")
    bpf_names_map_max: int = Field(
        default=262144, ge=1024, le=1 << 24, description="addresses that DNS names have opened, of all endpoints"
    )
    http_deny_response: Literal["403", "reset", "drop"] = Field(
        default="403", description="what a client gets for a refused request: an answer, a reset, or nothing"
    )
    http_denied_by_header: bool = Field(default=False, description="say why in a header x-denied-by of refusals")
    tofqdns_min_ttl: int = Field(default=0, ge=0, le=1 << 31, description="seconds that addresses stay at least")
    tofqdns_endpoint_max_ip_per_hostname: int = Field(
        default=1000, ge=1, le=1 << 20, description="addresses kept for one name of one endpoint"
    )
    tofqdns_max_deferred_connection_deletes: int = Field(
        default=10000, ge=0, le=1 << 20, description="expired addresses of one endpoint kept for live connections"
    )
    tofqdns_idle_connection_grace_period: float = Field(
        default=0.0, ge=0, description="seconds that an address outlives its last live connection"
    )
    tofqdns_dns_reject_response_code: Literal["refused", "nameError"] = Field(
        default="refused", description="what a refused DNS query is answered with"
    )
    tofqdns_proxy_response_max_delay: float = Field(
        default=0.1, gt=0, le=10, description="seconds that opening a name's addresses may take; then SERVFAIL"
    )
    tofqdns_protected_cidrs: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = Field(
        default=PROTECTED, description="addresses that no name opens, whatever a DNS server says"
    )
    tofqdns_bind_names: Literal["off", "tls", "all"] = Field(
        default="tls", description="whether TLS (or HTTP, too) behind toFQDNs must ask for a name that the rule has"
    )
    kafka_topic_ids: Literal["resolve", "cap"] = Field(
        default="resolve", description="Kafka topics by id: ask the server for their names, or offer no such versions"
    )
    http_403_msg: str = Field(default="Access denied\r\n", max_length=4096, description="body of a 403")
    node_name: str = Field(default="", description="name of this node in flow records; empty = the host name")
    hubble_event_buffer_capacity: int = Field(default=4095, ge=1, le=(1 << 20) - 1, description="flows kept")
    hubble_metrics_server: Annotated[str, AfterValidator(checked_address)] = Field(
        default="", description="address of the metrics for Prometheus, such as :9965; empty = none"
    )
    rescan_interval_s: float = Field(default=30.0, gt=0, description="policy files are looked at again after")
    log_format: Literal["text", "json"] = Field(default="text", description="form of the log")
    debug: bool = Field(default=False, description="log more")
    limits: Limits = Field(default_factory=Limits)

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sources(self) -> Mapping[str, str]:
        """Setting (with dashes) → where its value came from."""
        return self._sources


def load_settings(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    config_dir: Path | None = None,
    config_file: Path | None = None,
) -> Settings:
    """The settings in force: flags > environment > config_dir > config_file > defaults.

    `flags` of value None count as not given. Raises `SettingsRefused` with all that is wrong.
    """
    settings, sources = collect(Settings, Limits, flags, environ, config_dir, config_file)
    settings._sources = sources
    return settings
