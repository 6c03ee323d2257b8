"""The ways from client to broker: a listener of the broker each, so that one broker and one agent serve them all.

The policy of each port is the same but for its Kafka rules. A port without any is the direct way: the programs in the
kernel judge, and the proxy sees nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PRODUCED = "produced"
FORBIDDEN = "forbidden"
KIB, LARGE = 1024, 100 * 1024
"""Sizes of records."""
MANY = 1_000


def filled(size: int) -> str:
    """The topic that is there to be consumed."""
    return f"filled-{size}"


Rule = dict[str, str]
OUR_RULES: tuple[Rule, ...] = (
    {"role": "produce", "topic": PRODUCED},
    {"role": "consume", "topic": filled(KIB)},
    {"role": "consume", "topic": filled(LARGE)},
)


def _among_others(count: int) -> tuple[Rule, ...]:
    """So many rules, ours last."""
    roles = ("produce", "consume")
    others = ({"role": roles[number % 2], "topic": f"other-{number}"} for number in range(count - len(OUR_RULES)))
    return (*others, *OUR_RULES)


@dataclass(frozen=True, slots=True)
class Mode:
    name: str
    port: int
    rules: tuple[Rule, ...] = ()


DIRECT = Mode("direct", 9092)
PENSTOCK = Mode("penstock", 9093, OUR_RULES)
PENSTOCK_MANY = Mode(f"penstock-{MANY}", 9094, _among_others(MANY))
MODES = (DIRECT, PENSTOCK, PENSTOCK_MANY)


def policy(modes: tuple[Mode, ...]) -> dict[str, Any]:
    """The client may reach the broker by each of them."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "server", "namespace": "bench"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "server"}},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": "client"}}],
                    "toPorts": [_to_port(mode) for mode in modes],
                }
            ],
        },
    }


def _to_port(mode: Mode) -> dict[str, Any]:
    port = {"ports": [{"port": str(mode.port), "protocol": "TCP"}]}
    return {**port, "rules": {"kafka": list(mode.rules)}} if mode.rules else port
