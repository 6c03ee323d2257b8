"""What a worker tells the agent: batches of facts, msgpack-encoded arrays.

A worker reads hostile bytes, so the agent decodes with a fixed schema and never unpickles. One `Batch` is sent
every flush interval; a worker that produces more than a batch may hold drops the oldest and counts them in `lost`:
observing never slows traffic. Counters are exact whatever is lost.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

BUCKETS_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
"""Upper bounds of the buckets of counts: Prometheus' usual ones, which Hubble has too."""

OTHER_TOPIC: Final = "other"
"""The topic under which requests are counted when there are too many topics to tell apart."""

MAX_COUNTED_ADDRESSES: Final = 32
"""`DnsCount` tells answers with fewer addresses apart; this number stands for all that have more."""


class Connection(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A redirected connection, told once, before the first exchange that refers to it.

    Addresses are text; endpoints are 0 where that side is not on this node. `protocol` is TCP (6) or UDP (17). What
    belongs together in UDP is a query and its answer: they come in the batch that tells of the connection, and no
    later one refers to it.
    """

    id: int
    client: str
    client_port: int
    server: str
    server_port: int
    source_endpoint: int
    destination_endpoint: int
    source_identity: int
    destination_identity: int
    protocol: int = 6


class Exchange(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One HTTP request and, where there was one, the head of its response.

    `verdict` is a `proxy.flows.model.Verdict` number. `direction` is the one that decided (0 ingress, 1 egress).
    `status` 0: the connection ended before a response. `rule` is the origin id of the deciding rule, 0 = none
    (default deny, or no enforcement). `reason` says why a request was refused, in words; empty otherwise.
    """

    connection: int
    time_ns: int
    verdict: int
    direction: int
    method: bytes
    target: bytes
    host: bytes
    version: str
    status: int
    latency_ns: int
    rule: int
    revision: int
    reason: str


class DnsExchange(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One DNS query and, if it was `answered`, what the client got.

    `verdict`, `direction`, `rule`, `revision`, `reason` are as in `Exchange`. `name` has no final dot, and is empty for
    the root; so have `cnames`. `rcode` -1: the client got nothing. `addresses`, 4 or 16 bytes each, `cnames` and
    `types`, those of its records, are the first ones of the answer; `ttl` is in seconds.
    """

    connection: int
    time_ns: int
    verdict: int
    direction: int
    name: str
    query_type: str
    rcode: int
    addresses: list[bytes]
    ttl: int
    cnames: list[str]
    types: list[str]
    answered: bool
    latency_ns: int
    rule: int
    revision: int
    reason: str


class DnsOutcome(IntEnum):
    """How a query ended. SERVED: the server's answer went to the client. FAILED: the proxy had to answer in its place.
    TIMEOUT: there was no answer. DENIED: policy refused it. ERROR: no rule got to see it."""

    SERVED = 0
    FAILED = 1
    TIMEOUT = 2
    DENIED = 3
    ERROR = 4


class DnsCount(msgspec.Struct, array_like=True, frozen=True):
    """How many queries of a type ended in one way since the last batch, and how long they took.

    `outcome` is a `DnsOutcome`. `addresses` of the server's answer, 0 without one. `rcode` -1: no answer. `latency_ns`
    and `buckets` are as in `KafkaCount`. `records` counts the records of the answers, all together, by their types.
    """

    query_type: str
    outcome: int
    rcode: int
    addresses: int
    count: int
    latency_ns: int
    buckets: list[int]
    records: dict[str, int]


class Learnt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an answer told an endpoint about a name: addresses of 4 or 16 bytes each, for `ttl` seconds."""

    endpoint: int
    name: str
    addresses: list[bytes]
    ttl: int
    time_ns: int


class KafkaExchange(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One Kafka request and, if it was `answered`, what the answer said.

    `verdict`, `direction`, `rule`, `revision`, `reason` are as in `Exchange`. `topics` are the first ones that the
    request names, `more` says how many it names besides. `error_code` is Kafka's; it means nothing without an answer.
    """

    connection: int
    time_ns: int
    verdict: int
    direction: int
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str
    topics: list[str]
    more: int
    error_code: int
    answered: bool
    latency_ns: int
    rule: int
    revision: int
    reason: str


class KafkaCount(msgspec.Struct, array_like=True, frozen=True):
    """How many requests of one kind named a topic since the last batch, and how long their answers took.

    `api_key` -1: no kind of request known here. `buckets` count the answered requests whose time is within each bound
    of `BUCKETS_MS` but not within the one before, and last those that took longer; `latency_ns` is the sum.
    """

    topic: str
    api_key: int
    error_code: int
    direction: int
    count: int
    latency_ns: int
    buckets: list[int]


class Failure(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What there is to tell of a connection itself: why it ended, or the server name that it was judged by.

    `revision` 0: no policy had a say in it.
    """

    connection: int
    time_ns: int
    verdict: int
    direction: int
    reason: str
    detail: str
    rule: int = 0
    revision: int = 0


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """Counters and counts are deltas since the last batch; counters have names like `requests.refused`."""

    worker: int
    connections: list[Connection]
    closed: list[int]
    exchanges: list[Exchange]
    failures: list[Failure]
    lost: int
    counters: dict[str, int]
    kafka: list[KafkaExchange] = msgspec.field(default_factory=list)
    kafka_counts: list[KafkaCount] = msgspec.field(default_factory=list)
    dns: list[DnsExchange] = msgspec.field(default_factory=list)
    dns_counts: list[DnsCount] = msgspec.field(default_factory=list)
    learnt: list[Learnt] = msgspec.field(default_factory=list)


ENCODER = msgspec.msgpack.Encoder()
DECODER = msgspec.msgpack.Decoder(Batch)
