"""The ways from client to server: a port of the server each, and which names are asked for there.

All of Penstock's are ports of one policy, behind one agent with one worker. They differ in the number of rules, and in
whether a `toFQDNs` entry selects the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.dns.names import CLOSED, COUNT, OPEN, OPEN_PATTERN, spread

HOT = 100
"""Names that are asked for again and again, if there are so many."""


@dataclass(frozen=True, slots=True)
class Way:
    """`names`: of these is asked, and where there are rules each is a rule's."""

    name: str
    port: int
    names: Sequence[str]
    penstock: bool = False

    @property
    def hot(self) -> Sequence[str]:
        return spread(self.names, min(HOT, len(self.names)))

    @property
    def distinct(self) -> Sequence[str]:
        """All, if they are many; else none."""
        return self.names if len(self.names) == COUNT else ()


DIRECT = Way("direct", 53, CLOSED)
DNSDIST = Way("dnsdist", 53, CLOSED)
OPENING = Way("penstock-open", 56, OPEN, penstock=True)
PENSTOCK = (
    *(Way(f"penstock-{n}", port, spread(CLOSED, n), penstock=True) for n, port in ((1, 53), (100, 54), (COUNT, 55))),
    OPENING,
)
WAYS = (DIRECT, DNSDIST, *PENSTOCK)
PORTS = tuple(sorted({way.port for way in WAYS}))


def policy() -> dict[str, Any]:
    """The client may ask the server, and go where the names of one way lead to."""
    server = [{"matchLabels": {"app": "server"}}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "client", "namespace": "bench"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "client"}},
            "egress": [
                {"toEndpoints": server, "toPorts": [_to_port(way) for way in PENSTOCK]},
                {
                    "toFQDNs": [{"matchPattern": OPEN_PATTERN}],
                    "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}],
                },
            ],
        },
    }


def _to_port(way: Way) -> dict[str, Any]:
    ports = [{"port": str(way.port), "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {"ports": ports, "rules": {"dns": [{"matchName": name} for name in way.names]}}
