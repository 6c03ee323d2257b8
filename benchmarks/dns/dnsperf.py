"""dnsperf, which tells of every answer what it was and when it came: percentiles are computed from that.

Printing it costs it a tenth of its rate, for every subject alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failure import BenchmarkError
from benchmarks.load import GRACE_S
from benchmarks.topology import CLIENT, Topology

PROGRAM = "dnsperf"
CLIENTS, OUTSTANDING, TIMEOUT_S = 8, 100, 1
_ANSWER = re.compile(r"^> ([A-Z][A-Z0-9]+) \S+ \S+ (\d+\.\d+)$", re.MULTILINE)
"""`> NOERROR n00000.closed.bench A 0.000110`. What is not answered is `> T …`."""
_SAID = 500


@dataclass(frozen=True, slots=True)
class Measured:
    """`answered` questions in so many seconds; `lost`: not answered in time."""

    answered: int
    lost: int
    seconds: float
    p50_us: float
    p99_us: float


def ask(place: Topology, host: str, port: int, questions: Path, *options: str, patience_s: float = 0) -> str:
    """What it prints. It goes by way of a file: nobody is to read along meanwhile."""
    printed = questions.with_suffix(".printed")
    argv = [PROGRAM, "-s", host, "-p", str(port), "-d", str(questions), "-t", str(TIMEOUT_S), "-v", "-W", *options]
    shell = ["sh", "-c", 'exec "$@" >"$0"', str(printed), *argv]
    place.run(CLIENT, shell, place.processors.load, patience_s + GRACE_S)
    text = printed.read_text(encoding="ascii", errors="replace")
    printed.unlink()
    return text


def load(seconds: int, rate: int | None) -> Sequence[str]:
    """Options for a load at so many questions per second, or as many as are answered."""
    limit = ["-Q", str(rate)] if rate is not None else []
    return ["-c", str(CLIENTS), "-q", str(OUTSTANDING), "-l", str(seconds), *limit]


def codes(printed: str) -> Counter[str]:
    """How often each response code was the answer."""
    return Counter(code for code, _ in _ANSWER.findall(printed))


def figures(printed: str, *, tolerate: int = 0) -> Measured:
    """BenchmarkError if anything but NOERROR was answered, more often than is tolerated."""
    found = _ANSWER.findall(printed)
    others = Counter(code for code, _ in found if code != "NOERROR")
    if others.total() > tolerate:
        told = ", ".join(f"{count} {code}" for code, count in others.items())
        raise BenchmarkError(f"{told} among {len(found)} answers")
    if not found:
        raise BenchmarkError(f"no question was answered: {printed[-_SAID:].strip()}")
    latencies = sorted(float(seconds) for _, seconds in found)
    return Measured(
        answered=len(found),
        lost=int(_one(r"Queries lost: +(\d+)", printed)),
        seconds=float(_one(r"Run time \(s\): +([\d.]+)", printed)),
        p50_us=1e6 * latencies[len(latencies) // 2],
        p99_us=1e6 * latencies[len(latencies) * 99 // 100],
    )


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise BenchmarkError(f"dnsperf printed {text[-_SAID:].strip()!r}")
    return found[1]
