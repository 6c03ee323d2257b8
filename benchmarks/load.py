"""What every load generator has in common: it is told what to ask for, and says what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.topology import Topology

GRACE_S = 15
"""How much longer than asked a load generator may take."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a load generator."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float


class Load(Protocol):
    """What the client asks for, and how. `refused`: the policy denies it."""

    @property
    def refused(self) -> bool: ...

    def run(self, place: Topology, host: str, port: int, seconds: int) -> str:
        """Load one subject from the client. Returns what the program prints; the work of reading it comes later."""
        ...

    def figures(self, place: Topology, printed: str, seconds: int) -> Measured:
        """The figures of the last run. Answers that are not the expected ones are a BenchmarkError."""
        ...
