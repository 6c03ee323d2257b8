"""HTTP/2 in clear text through one worker: HTTP/2 on both sides of every proxy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.h2load import H2Load
from benchmarks.report import Report
from benchmarks.rules import PORT, READ_API
from benchmarks.side_by_side import Benchmark, Case, measure
from benchmarks.subjects import Subject
from benchmarks.subjects.envoy import Envoy
from benchmarks.subjects.haproxy import HAProxy
from benchmarks.subjects.none import NoProxy
from benchmarks.subjects.penstock import Penstock

SMALL = b"hello\n"
LARGE_BYTES = 1024 * 1024
ITEMS = "/api/v1/items"
LARGE = "/api/large"
LOADS = {
    "h2-1x1": H2Load(ITEMS, 1, 1, len(SMALL)),
    "h2-4x16": H2Load(ITEMS, 4, 16, len(SMALL)),
    "h2-4x16-denied": H2Load("/private", 4, 16, 0, refused=True),
    "h2-body-1mib": H2Load(LARGE, 4, 2, LARGE_BYTES),
}
CASES = {name: Case(load, READ_API) for name, load in LOADS.items()}
SUBJECTS: tuple[Subject, ...] = (NoProxy(), Penstock(), Envoy(http2=True), HAProxy(http2=True))
TOOLS = ("h2load", "nghttpd")


def run(quick: bool) -> Report:
    return measure(Benchmark("http2", SUBJECTS, CASES, origin, TOOLS), quick)


def origin(folder: Path) -> Sequence[str]:
    """nghttpd with a small file and a large one."""
    return nghttpd(folder, {ITEMS: SMALL, LARGE: b"x" * LARGE_BYTES})


def nghttpd(folder: Path, files: dict[str, bytes], *options: str, port: int = PORT) -> Sequence[str]:
    """The command that serves `files`, which are named by their paths in URLs."""
    for name, content in files.items():
        path = folder / "htdocs" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return ["nghttpd", "--no-tls", "--address", "0.0.0.0", "--htdocs", str(folder / "htdocs"), *options, str(port)]
