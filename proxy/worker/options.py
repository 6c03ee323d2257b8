"""What a worker is told once, at its start."""

from __future__ import annotations

from dataclasses import dataclass

from parsers.limits import Http1Limits


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The proxy's bounds; each is a setting of the same name.

    Not `config.settings.Limits` itself: a worker that unpickled that would have to load pydantic and all settings.
    """

    max_connections: int
    max_header_bytes: int
    max_request_line: int
    max_headers: int
    buffer_high_water: int
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


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    index: int
    limits: WorkerLimits
