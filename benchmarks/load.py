"""wrk, and what it has measured."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.failure import BenchmarkError
from benchmarks.topology import CLIENT, HERE, Topology

_GRACE_S = 15


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask for: a path, by so many connections at once, each with one request in flight.

    `distinct`: every request carries a header value of its own. `refused`: the policy denies it.
    """

    path: str
    connections: int
    distinct: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of wrk."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float


def run_wrk(place: Topology, host: str, port: int, load: Load, seconds: int) -> Measured:
    """Load one subject from the client. Answers that are not the expected ones are an error, not a figure."""
    url = f"http://{host}:{port}{load.path}"
    argv = ["wrk", "--threads", "1", "--connections", str(load.connections), "--duration", f"{seconds}s"]
    argv += ["--script", str(HERE / "wrk.lua"), url, "--", "distinct" if load.distinct else "same"]
    out = place.run(CLIENT, argv, place.processors.load, seconds + _GRACE_S)
    return _measured(json.loads(out.strip().splitlines()[-1]), url, load)


def _measured(figures: dict[str, int], url: str, load: Load) -> Measured:
    requests, refused, failed = figures["requests"], figures["refused"], figures["failed"]
    if not requests:
        raise BenchmarkError(f"{url} answered no request")
    if failed:
        raise BenchmarkError(f"{url}: {failed} of {requests} requests ended without an answer")
    if refused != (requests if load.refused else 0):
        raise BenchmarkError(f"{url}: {refused} of {requests} requests were refused; the policy says {load.refused=}")
    return Measured(requests, figures["duration_us"] / 1e6, figures["p50_us"], figures["p99_us"])
