"""h2load loads with HTTP/2 in clear text, spoken from the first byte on, and gRPC as it looks on the wire."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failure import BenchmarkError
from benchmarks.load import GRACE_S, Measured
from benchmarks.topology import CLIENT, Topology

GRPC_MESSAGE = b"\0\0\0\0\5hello"
"""A gRPC message of five bytes: not compressed, its length, itself."""
_ERRORED = re.compile(r"^requests: .* (\d+) errored, (\d+) timeout", re.MULTILINE)
_BODIES = re.compile(r"^traffic: .*\((\d+)\) data", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class H2Load:
    """A path, asked for by so many connections at once, each with so many streams in flight.

    `body` is how many bytes a permitted request is answered with. `grpc`: the request is a unary gRPC call.
    """

    path: str
    connections: int
    streams: int
    body: int
    grpc: bool = False
    refused: bool = False

    def run(self, place: Topology, host: str, port: int, seconds: int) -> str:
        log = _log(place)
        log.unlink(missing_ok=True)  # h2load appends
        argv = ["h2load", "--threads", "1", "--clients", str(self.connections), "--duration", str(seconds)]
        argv += ["--max-concurrent-streams", str(self.streams), "--log-file", str(log)]
        if self.grpc:
            message = place.folder / "grpc-message"
            message.write_bytes(GRPC_MESSAGE)
            argv += ["--data", str(message), "--header", "te: trailers", "--header", "content-type: application/grpc"]
        argv.append(f"http://{host}:{port}{self.path}")
        return place.run(CLIENT, argv, place.processors.load, seconds + GRACE_S)

    def figures(self, place: Topology, printed: str, seconds: int) -> Measured:
        """h2load prints no percentiles, so they come from its log, which has a line per request that has ended."""
        log = _log(place)
        lines = log.read_text(encoding="ascii").splitlines() if log.exists() else []
        answers = [line.split("\t") for line in lines]
        self._check(printed, Counter(int(answer[1]) for answer in answers))
        took = sorted(int(answer[2]) for answer in answers)
        return Measured(len(took), seconds, _percentile(took, 50), _percentile(took, 99))

    def _check(self, printed: str, statuses: Counter[int]) -> None:
        errored, bodies = _ERRORED.search(printed), _BODIES.search(printed)
        if not statuses or errored is None or bodies is None:
            raise BenchmarkError("no request was answered")
        if failed := int(errored[1]) + int(errored[2]) + statuses[-1]:
            raise BenchmarkError(f"{failed} requests ended without an answer")
        received = int(bodies[1])
        if self.refused and self.grpc and set(statuses) == {200} and not received:
            return  # a gRPC refusal may have its status at its end, which h2load does not show, and no message
        wanted = 403 if self.refused else 200
        if set(statuses) != {wanted}:
            found = ", ".join(f"{count} with {status}" for status, count in sorted(statuses.items()))
            raise BenchmarkError(f"expected answers with status {wanted}, got {found}")
        if not self.refused and received < statuses[wanted] * self.body:
            raise BenchmarkError(f"{statuses[wanted]} answers of {self.body} bytes each came with {received} in all")


def _log(place: Topology) -> Path:
    return place.folder / "h2load.log"


def _percentile(ordered: Sequence[int], percent: int) -> float:
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
