"""Ten minutes of names that nobody has asked for before, each with an address of its own: does memory grow?

The settings are the default ones, so that the bounds of names and addresses are reached within seconds, and every later
answer pushes something out.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from ipaddress import IPv6Network
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import processes
from benchmarks.dns import dnsperf, server
from benchmarks.dns.names import TTL_S
from benchmarks.failure import BenchmarkError
from benchmarks.machine import Processors
from benchmarks.report import Report, Row
from benchmarks.topology import Topology, only_one, topology

NAME = "dns-soak"
SECONDS, QUICK_SECONDS = 600, 60
SLICE_S = 30
RATE = 3_000
"""New names per second."""
PORT = 53
_TELLING = ("limits.", "names.", "dns.")
NOTES = (
    f"{RATE:,} names per second that nobody has asked for before; each opens an address of its own for {TTL_S} s.",
    "One worker, default settings: the bounds of names and addresses are reached in the first seconds.",
    "SERVFAIL: an address could not be opened in time (tofqdns-proxy-response-max-delay), or there was no room.",
    "Resident memory at the end of each half minute; names and addresses: what the agent knows then.",
)


def run(quick: bool) -> Report:
    processors = Processors.choose()
    slices = (QUICK_SECONDS if quick else SECONDS) // SLICE_S
    with only_one(), ExitStack() as stack:
        policies = Path(stack.enter_context(TemporaryDirectory(prefix="penstock-bench-")))
        (policies / "client.yaml").write_text(json.dumps(_policy()), encoding="utf-8")
        place = stack.enter_context(topology(NAME, processors, policies, {"workers": 1}))
        server.serve(place, [PORT])
        agent = place.lab.agent_pid
        if agent is None:
            raise BenchmarkError("penstock has ended")
        [worker] = (int(found["pid"]) for found in place.lab.agent.status()["proxy"]["workers"])
        processes.pin(processes.tree(agent), processors.proxy)
        rows = [_slice(place, worker, agent, number) for number in range(slices)]
        counters = place.lab.agent.status()["counters"]
    told = [f"{name}: {count:,}" for name, count in sorted(counters.items()) if name.startswith(_TELLING)]
    return Report(NAME, rows, {}, (*NOTES, f"Counters: {', '.join(told) or 'none'}."))


def _slice(place: Topology, worker: int, agent: int, number: int) -> Row:
    questions = place.folder / "questions"
    first = int(IPv6Network(server.FRESH_NETWORK).network_address) + (number * SLICE_S * RATE << 4)
    with questions.open("w", encoding="ascii") as file:
        for offset in range(SLICE_S * RATE):
            text = f"{first + (offset << 4):032x}"
            groups = "-".join(text[at : at + 4] for at in range(0, 32, 4))
            file.write(f"n-{groups}.{server.FRESH_ZONE} AAAA\n")
    started = time.monotonic()
    printed = dnsperf.ask(
        place, place.server_address, PORT, questions, *dnsperf.load(SLICE_S, RATE), patience_s=2 * SLICE_S
    )
    found = dnsperf.figures(printed, tolerate=RATE)
    failed = dnsperf.codes(printed)["SERVFAIL"]
    minutes = (number + 1) * SLICE_S / 60
    print(f"  {minutes:.1f} min", file=sys.stderr, flush=True)
    known = place.lab.agent.client.get("/v1/fqdn/cache")
    return Row(
        "penstock",
        f"{minutes:.1f}-min",
        {
            "queries_per_s": found.answered / (time.monotonic() - started),
            "p50_us": found.p50_us,
            "p99_us": found.p99_us,
            "lost_count": found.lost,
            "servfail_count": failed,
            "worker_mib": processes.resident_mib([worker]),
            "agent_mib": processes.resident_mib([agent]),
            "names_count": len({item["fqdn"] for item in known}),
        },
    )


def _policy() -> dict[str, object]:
    ports = [{"port": str(PORT), "protocol": protocol} for protocol in ("UDP", "TCP")]
    pattern = [{"matchPattern": f"*.{server.FRESH_ZONE}"}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "client", "namespace": "bench"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "client"}},
            "egress": [
                {
                    "toEndpoints": [{"matchLabels": {"app": "server"}}],
                    "toPorts": [{"ports": ports, "rules": {"dns": pattern}}],
                },
                {"toFQDNs": pattern, "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]},
            ],
        },
    }
