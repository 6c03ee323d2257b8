"""Policies by the thousand: what reading and compiling them costs, and how long a saved file takes to be in force.

Compiling is measured in a process of its own, with all endpoints on one node. What is in force is measured from
outside, on a real agent in a lab: a file is replaced, and a client on an open connection asks again and again until
the answer is another one. The other policies and endpoints are there, but not the traffic of their pods.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.failure import BenchmarkError
from benchmarks.policies import PODS_PER_NAMESPACE, endpoints, write_policies
from benchmarks.report import Report, Row
from proxy.lab import Lab
from proxy.lab.progress import Progress

NAME = "policy"
SIZES = (100, 1_000, 10_000)
QUICK_SIZES = (100, 1_000)
ENDPOINTS, CIDRS = 5_000, 50_000
CHANGES, QUICK_CHANGES = 30, 8
PATIENCE_S = 120.0
WORKLOADS = Path(__file__).with_name("policy_workloads.yaml")
NOTES = (
    f"{ENDPOINTS:,} endpoints and {CIDRS:,} prefixes in every case; a policy has one rule about two pods.",
    "read: YAML to rules; endpoints: their file; compile: rules to identities and policies of all endpoints; total:",
    "all three. memory: what the process grew by. one change: one policy's file read again and resolved (median, max).",
    "saved to in force: from the rename of a file to the first answer by the new rules on an open connection, over a",
    "real agent with one worker; it waits 25 ms for a burst of events to end. Median, slowest and fastest.",
)


def run(quick: bool) -> Report:
    sizes, changes = (QUICK_SIZES, QUICK_CHANGES) if quick else (SIZES, CHANGES)
    rows = []
    for count in sizes:
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
            folder = Path(name)
            write_policies(folder / "policies", count, ENDPOINTS // PODS_PER_NAMESPACE, CIDRS)
            figures = _compile(folder, changes)
            figures |= _in_force(folder, count, changes)
        rows.append(Row("penstock", f"{count}-policies", figures))
    first, last = rows[0].metrics, rows[-1].metrics
    growth = sizes[-1] / sizes[0]
    ratios = {
        f"{rows[-1].case} penstock/{rows[0].case} {key}": last[f"{key}_ms"] / first[f"{key}_ms"]
        for key in ("read", "compile")
    }
    return Report(
        NAME, rows, ratios, (*NOTES, f"Between the first and the last case there are {growth:.0f} x as many policies.")
    )


def _compile(folder: Path, changes: int) -> dict[str, float]:
    document = {"endpoints": endpoints(ENDPOINTS, local=True)}
    (folder / "endpoints.yaml").write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compiling", str(folder), str(changes)], capture_output=True, text=True
    )
    if done.returncode:
        raise BenchmarkError(f"compiling failed: {done.stderr.strip()[-500:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _in_force(folder: Path, count: int, changes: int) -> dict[str, float]:
    """Saved → in force, in ms."""
    target = folder / "policies" / "server.yaml"
    target.write_text(_policy("/open"), encoding="utf-8")
    policies = folder / "policies"
    with Lab.up(f"bench-p{count}", [WORKLOADS], policies=policies, settings={"workers": 1}, progress=Progress()) as lab:
        _add_endpoints(lab)
        with lab.socket("bench/client") as connection:
            connection.settimeout(PATIENCE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect((lab.pod("bench/server").v4, 80))
            times = [_toggle(connection, target, number) for number in range(changes)]
    return {"saved_to_in_force_ms": median(times), "fastest_ms": min(times), "slowest_ms": max(times)}


def _add_endpoints(lab: Lab) -> None:
    """Let the agent know thousands of endpoints on other nodes, and wait until it does."""
    path = lab.state.directory / "endpoints.yaml"
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["endpoints"] += endpoints(ENDPOINTS, local=False)
    path.write_text(json.dumps(document), encoding="utf-8")
    deadline = time.monotonic() + PATIENCE_S
    while lab.agent.status()["endpoints"]["total"] < ENDPOINTS:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"the agent did not know {ENDPOINTS} endpoints after {PATIENCE_S:.0f} s")
        time.sleep(0.2)


def _policy(path: str) -> str:
    return json.dumps(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "server", "namespace": "bench"},
            "spec": {
                "endpointSelector": {"matchLabels": {"app": "server"}},
                "ingress": [
                    {
                        "fromEndpoints": [{"matchLabels": {"app": "client"}}],
                        "toPorts": [
                            {"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"path": path}]}}
                        ],
                    }
                ],
            },
        }
    )


def _toggle(connection: socket.socket, target: Path, number: int) -> float:
    """Forbid the path, or allow it again, and ask until that is the answer."""
    wanted = 403 if number % 2 == 0 else 200
    saved = target.with_name(".server.yaml.new")
    saved.write_text(_policy("/closed" if wanted == 403 else "/open"), encoding="utf-8")
    if _status(connection) == wanted:
        raise BenchmarkError("the server answers already as it should after the change")
    started = time.perf_counter()
    os.replace(saved, target)
    while _status(connection) != wanted:
        if time.perf_counter() - started > PATIENCE_S:
            raise BenchmarkError(f"a change was not in force after {PATIENCE_S:.0f} s")
        time.sleep(0.0005)
    return (time.perf_counter() - started) * 1e3


def _status(connection: socket.socket) -> int:
    connection.sendall(b"GET /open HTTP/1.1\r\nhost: server\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            raise BenchmarkError("the connection ended")
        head += data
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    missing = length - len(head.partition(b"\r\n\r\n")[2])
    while missing > 0:
        missing -= len(connection.recv(65536))
    return int(head.split(b" ", 2)[1])
