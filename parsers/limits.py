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
    """Heads remembered with their ruling, per policy."""

    memo_head_bytes: int = 4096
    """Longer heads are judged anew each time."""
