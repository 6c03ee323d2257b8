"""Unary gRPC calls through one worker: HTTP/2 requests with a message each way and a status at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.h2load import GRPC_MESSAGE, H2Load
from benchmarks.http2 import SUBJECTS, TOOLS, nghttpd
from benchmarks.report import Report
from benchmarks.rules import CALL_API
from benchmarks.side_by_side import Benchmark, Case, measure

GET = "/bench.Api/Items.Get"
DELETE = "/bench.Api/Items.Delete"
LOADS = {
    "grpc-1x1": H2Load(GET, 1, 1, len(GRPC_MESSAGE), grpc=True),
    "grpc-4x16": H2Load(GET, 4, 16, len(GRPC_MESSAGE), grpc=True),
    "grpc-4x16-denied": H2Load(DELETE, 4, 16, 0, grpc=True, refused=True),
}
CASES = {name: Case(load, CALL_API) for name, load in LOADS.items()}
NOTES = (
    "A refused call gets a gRPC status in an answer without a message, or HTTP's 403, which means the same to clients.",
)


def run(quick: bool) -> Report:
    return measure(Benchmark("grpc", SUBJECTS, CASES, origin, TOOLS, NOTES), quick)


def origin(folder: Path) -> Sequence[str]:
    """nghttpd with one file: it answers POST as well, and it tells types by what follows the last dot of a name."""
    types = folder / "types"
    types.write_text("application/grpc Get\n", encoding="ascii")
    trailers = ("--trailer", "grpc-status: 0", "--no-content-length", "--mime-types-file", str(types))
    return nghttpd(folder, {GET: GRPC_MESSAGE}, *trailers)
