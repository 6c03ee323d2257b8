"""No proxy: the client asks the server itself, and nothing judges. The ceiling."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks.rules import PORT, Rules
from benchmarks.subjects import Running
from benchmarks.topology import Topology


class NoProxy:
    name = "none"
    judges = False

    def about(self) -> str:
        return "no proxy and no policy: the client's packets are routed to the server"

    def start(self, plain: Topology, rules: Rules, folder: Path, stack: ExitStack) -> Running:
        return Running(plain, plain.server_address, PORT, None, None)
