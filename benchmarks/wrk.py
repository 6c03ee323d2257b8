"""wrk loads with HTTP/1.1 (wrk.lua makes it print its figures as JSON)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.failure import BenchmarkError
from benchmarks.load import GRACE_S, Measured
from benchmarks.topology import CLIENT, HERE, Topology


@dataclass(frozen=True, slots=True)
class Wrk:
    """A path, asked for by so many connections at once, each with one request in flight.

    `distinct`: every request carries a header value of its own. `once`: every request is made on a new connection.
    """

    path: str
    connections: int
    distinct: bool = False
    once: bool = False
    refused: bool = False

    def run(self, place: Topology, host: str, port: int, seconds: int) -> str:
        argv = ["wrk", "--threads", "1", "--connections", str(self.connections), "--duration", f"{seconds}s"]
        if self.once:
            argv += ["--header", "Connection: close"]
        argv += ["--script", str(HERE / "wrk.lua"), f"http://{host}:{port}{self.path}"]
        argv += ["--", "distinct" if self.distinct else "same"]
        before = _opened(place)
        printed = place.run(CLIENT, argv, place.processors.load, seconds + GRACE_S)
        return f"{_opened(place) - before}\n{printed}"

    def figures(self, place: Topology, printed: str, seconds: int) -> Measured:
        opened, *_, last = printed.strip().splitlines()
        found: dict[str, int] = json.loads(last)
        requests, refused, failed = found["requests"], found["refused"], found["failed"]
        if not requests:
            raise BenchmarkError("no request was answered")
        if failed:
            raise BenchmarkError(f"{failed} of {requests} requests ended without an answer")
        if refused != (requests if self.refused else 0):
            wanted = "all" if self.refused else "none"
            raise BenchmarkError(f"{refused} of {requests} requests were refused; the policy says {wanted}")
        if self.once and int(opened) < requests:
            raise BenchmarkError(f"{requests} requests were made on {opened} connections")
        return Measured(requests, found["duration_us"] / 1e6, found["p50_us"], found["p99_us"])


def _opened(place: Topology) -> int:
    """The connections that the client has opened so far."""
    lines = place.lab.exec(CLIENT, ["cat", "/proc/net/snmp"]).stdout.splitlines()
    names, counts = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(counts[names.index("ActiveOpens")])
