"""What is compared: each subject says the same policy in its own language and is asked through the same contract."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.rules import Rules
from benchmarks.topology import Topology


@dataclass(frozen=True, slots=True)
class Running:
    """A subject that runs: where its client is, what the client asks for, and the process to watch (None: none).

    `worker` is the process that carries the requests, where others only look after it.
    """

    place: Topology
    host: str
    port: int
    pid: int | None
    worker: int | None


class Subject(Protocol):
    """One subject. `about` says with version and mode what is measured; it raises BenchmarkError if it is missing.

    `judges`: it enforces the policy; cases of refused requests are not for subjects that do not.
    """

    @property
    def name(self) -> str: ...

    @property
    def judges(self) -> bool: ...

    def about(self) -> str: ...

    def start(self, plain: Topology, rules: Rules, folder: Path, stack: ExitStack) -> Running:
        """Start it on the node of `plain`, or on one of its own that ends with `stack`; `folder` is for its files."""
        ...
