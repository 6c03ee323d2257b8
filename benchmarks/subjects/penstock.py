"""Penstock as it is used: `penstock run` in a lab, redirect by eBPF, the client's own address kept, flow records on."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from benchmarks import processes
from benchmarks.failure import BenchmarkError
from benchmarks.rules import PORT, Rules
from benchmarks.subjects import Running
from benchmarks.topology import Topology, topology

WORKERS = 1


class Penstock:
    name = "penstock"
    judges = True

    def about(self) -> str:
        return (
            f"penstock {version('penstock')}, {WORKERS} worker and its agent: transparent (the client asks the "
            "server's address, the server sees the client's), every request a flow record"
        )

    def start(self, plain: Topology, rules: Rules, folder: Path, stack: ExitStack) -> Running:
        policies = folder / "bench-policies"
        policies.mkdir()
        (policies / "server.yaml").write_text(yaml.safe_dump(policy(rules)), encoding="utf-8")
        name = plain.lab.name.removeprefix("bench-") + "-own"
        place = stack.enter_context(topology(name, plain.processors, policies, {"workers": WORKERS}, plain.origin))
        agent = place.lab.agent_pid
        if agent is None:
            raise BenchmarkError("penstock has ended")
        [worker] = (int(found["pid"]) for found in place.lab.agent.status()["proxy"]["workers"])
        processes.pin(processes.tree(agent), plain.processors.proxy)
        return Running(place, place.server_address, PORT, agent, worker)


def policy(rules: Rules) -> dict[str, Any]:
    """The client may reach the server's port, with requests that one of `rules` matches."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "server", "namespace": "bench"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "server"}},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": "client"}}],
                    "toPorts": [
                        {
                            "ports": [{"port": str(PORT), "protocol": "TCP"}],
                            "rules": {"http": [{"method": rule.method, "path": rule.path} for rule in rules]},
                        }
                    ],
                }
            ],
        },
    }
