"""Every bound of the parsers, with its precedent. Each is a setting; none can be switched off."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Http1Limits:
    """Bounds of one HTTP/1 connection, in bytes unless the name says otherwise."""

    head_bytes: int = 61440
    """A whole request or response head: 60 KiB as in Envoy (431)."""

    request_line_bytes: int = 16384
    """Method, target and version: twice nginx's 8 KiB line (414)."""

    header_count: int = 100
    """Envoy's default; HAProxy has 101."""

    chunk_line_bytes: int = 274
    """A chunk size (16 hex digits), 256 bytes of extensions, CRLF."""

    chunk_extension_bytes: int = 16384
    """All chunk extensions of one message: RFC 9112 §7.1.1 asks for a bound (CVE-2023-39326)."""

    trailer_bytes: int = 8192
    """The trailer section of one message."""

    pipelined_requests: int = 1024
    """Requests of one connection that still wait for their answer."""

    informational_responses: int = 16
    """1xx responses before the final one of a request."""

    discarded_body_bytes: int = 1 << 20
    """How much body of a refused request is read and thrown away to keep its connection usable."""

    memo_entries: int = 1024
    """Heads of responses that are remembered with what they say."""

    memo_head_bytes: int = 4096
    """Longer heads are judged anew each time."""


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Bounds of one HTTP/2 connection. Envoy's numbers where it has them."""

    concurrent_streams: int = 1024
    """Envoy since 1.36. Beyond it streams are refused; told to clients in SETTINGS."""

    header_block_bytes: int = 65536
    """A header block with its CONTINUATIONs, as it comes (CVE-2024-27316)."""

    continuation_frames: int = 64
    """CONTINUATIONs of one block."""

    header_list_bytes: int = 61440
    """A header list, unpacked and counted as RFC 9113 §6.5.2 does: 60 KiB (CVE-2016-6581)."""

    header_count: int = 100
    """Fields of one header list; all parts of a cookie are one."""

    control_frames: int = 1000
    """Frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown ones) in a burst (CVE-2019-9512 …).

    A fifth of it is there from the start; a hundred a second come back, and ten for each request or frame of data.
    """

    empty_frames: int = 1
    """DATA frames in a row without data and without an end (CVE-2019-9518)."""

    reset_streams: int = 500
    """So many streams are looked at before the share of resets counts (CVE-2023-44487)."""

    reset_percent: int = 50
    """Streams that their client resets, or that are reset for its mistakes (CVE-2025-8671), before they have lived."""

    reset_lifetime_ns: int = 1_000_000_000
    """What was reset later has lived."""

    informational_responses: int = 16
    """1xx responses before the final one of a request."""

    waiting_answer_bytes: int = 65536
    """Answers of ours that wait for the first words of the server."""

    body_credit: int = 16384
    """Flow-control credit of the client that is kept back for the bodies of refusals."""

    ended_streams: int = 256
    """Streams that have ended and are remembered, because frames for them may still be on their way."""

    memo_entries: int = 64
    """Header blocks remembered with their ruling, per connection."""

    memo_block_bytes: int = 1024
    """Longer blocks are judged anew each time."""


@dataclass(frozen=True, slots=True)
class KafkaLimits:
    """Bounds of one Kafka connection, in bytes unless the name says otherwise."""

    request_bytes: int = 104857600
    """One request: 100 MiB, a broker's own `socket.request.max.bytes`. More can only come as records of one topic."""

    buffered_bytes: int = 16 << 20
    """What of a request, or of an answer that is filtered, is held until it is complete."""

    streamed_bytes: int = 256 << 10
    """A larger Produce request of one topic goes on as it arrives; a smaller one in one piece, which servers like."""

    small_request_bytes: int = 1 << 20
    """One request other than Produce and Fetch: 1 MiB names tens of thousands of partitions."""

    held_bytes: int = 256 << 20
    """What all connections of a worker hold together of requests that are not whole and larger than 1 MiB."""

    answer_bytes: int = 1 << 30
    """One answer of the server; fetched records pass as they come."""

    pending_requests: int = 256
    """Requests that wait for their answer. Beyond it the client is not read until there are fewer."""

    waiting_answer_bytes: int = 4 << 20
    """Refusals that wait for earlier answers of the server. Beyond it the client is not read until there are fewer."""

    topic_ids: int = 65536
    """Topic ids remembered per server."""

    fetch_delay_ns: int = 500_000_000
    """How long a refused fetch waits at most for its answer, so that a client that asks on and on does not spin."""

    session_topics: int = 10000
    """Topics of one share session."""


@dataclass(frozen=True, slots=True)
class DnsLimits:
    """Bounds of one DNS connection over TCP. A message has at most 65,535 bytes, so there is never more of one."""

    pending_queries: int = 128
    """Queries that wait for their answer. Beyond it they fail (SERVFAIL)."""

    timeout_ns: int = 4_000_000_000
    """How long a server has for an answer; then SERVFAIL."""
