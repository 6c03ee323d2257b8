"""Runs probes in a lab: real curl, `proxy.lab.kafka_probe`, `proxy.lab.lookup` or `proxy.lab.dial` inside the pods.

Every probe has local ports of its own, so that the agent's flow records of exactly this connection can be found.
Probes that should end in silence only wait: those run all at once. Those that should be answered run one after the
other, so that their latencies say something.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from proxy.lab.errors import LabError
from proxy.lab.lab import Lab
from proxy.lab.plan import DNS_POD
from proxy.lab.probes import Probe

CONNECT_TIMEOUT_S = 1.5
TOTAL_TIMEOUT_S = 5.0
_FIRST_PORT = 20_000  # below the kernel's ephemeral range, so nobody else has these
_PORTS_EACH = 8
_PARALLEL_SILENCE = 16

# Exit codes of curl(1) → what a probe file calls it.
_CURL = {6: "unresolved", 7: "refused", 28: "timeout", 52: "reset", 56: "reset"}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a probe. `latency_ms` is without name resolution, None where nothing came."""

    probe: Probe
    seen: str
    ports: range
    latency_ms: float | None = None
    detail: str = ""

    @property
    def is_expected(self) -> bool:
        return self.seen == self.probe.expect


class Prober:
    """Runs probes; `done` is told each result as it comes."""

    def __init__(self, lab: Lab, done: Callable[[Result], None] = lambda result: None) -> None:
        self._lab = lab
        self._done = done

    def run(self, probes: Sequence[Probe]) -> list[Result]:
        """Results in the order of the probes."""
        futures: list[Future[Result]] = []
        with ThreadPoolExecutor(_PARALLEL_SILENCE) as silent, ThreadPoolExecutor(1) as answered:
            for index, probe in enumerate(probes):
                first = _FIRST_PORT + index * _PORTS_EACH
                pool = silent if probe.expect == "timeout" else answered
                futures.append(pool.submit(self._one, probe, range(first, first + _PORTS_EACH)))
            return [future.result() for future in futures]

    def _one(self, probe: Probe, ports: range) -> Result:
        target = probe.resolved(self._address)
        result = self._runner(probe)(probe, target, ports)
        self._done(result)
        return result

    def _runner(self, probe: Probe) -> Callable[[Probe, str, range], Result]:
        if probe.is_kafka:
            return self._kafka
        return {"TCP": self._dial, "LOOKUP": self._lookup}.get(probe.method, self._curl)

    def _address(self, name: str, ip: int) -> str:
        """The address that {NAMESPACE/POD} or {world/HOST} stands for."""
        folder, _, host = name.partition("/")
        if folder == "world" and host in self._lab.state.hosts:
            return next(text for text in self._lab.state.hosts[host] if (":" in text) == (ip == 6))
        pod = self._lab.pod(name)
        return pod.v6 if ip == 6 else pod.v4

    def _curl(self, probe: Probe, url: str, ports: range) -> Result:
        command = curl_command(probe, url, ports)
        done = self._lab.exec(probe.source, command)
        try:
            facts = json.loads(done.stdout)
        except ValueError:
            raise LabError(f"curl in {probe.source} failed with exit code {done.returncode}", done.stderr) from None
        if done.returncode != 0:
            seen = _CURL.get(done.returncode, f"curl exit {done.returncode}")
            return Result(probe, seen, ports, detail=str(facts.get("errormsg") or ""))
        latency = (facts["time_total"] - facts["time_namelookup"]) * 1000
        return Result(probe, str(facts["http_code"]), ports, latency)

    def _dial(self, probe: Probe, target: str, ports: range) -> Result:
        host, _, port = target.rpartition(":")
        command = [sys.executable, "-m", "proxy.lab.dial", host.strip("[]"), port]
        command += ["--ip", str(probe.ip), "--timeout", str(CONNECT_TIMEOUT_S), "--local-ports", _span(ports)]
        facts = self._told(probe, command)
        connected = facts["outcome"] == "connected"
        return Result(probe, facts["outcome"], ports, facts["time_connect"] * 1000 if connected else None)

    def _kafka(self, probe: Probe, url: str, ports: range) -> Result:
        facts = self._told(probe, kafka_command(probe, url, ports))
        answered = facts["outcome"].startswith("kafka ")
        latency = facts["time_total"] * 1000 if answered else None
        return Result(probe, facts["outcome"], ports, latency, facts["detail"])

    def _lookup(self, probe: Probe, target: str, ports: range) -> Result:
        command = lookup_command(target, self._address(DNS_POD, probe.ip), ports)
        facts = self._told(probe, command)
        outcome: str = facts["outcome"]
        if outcome == "answers" and probe.expect != outcome:
            wanted = probe.expect in [f"answers {address}" for address in facts["addresses"]]
            outcome = probe.expect if wanted else f"answers {', '.join(facts['addresses'])}"
        latency = None if outcome == "timeout" else facts["time_total"] * 1000
        return Result(probe, outcome, ports, latency, facts["detail"])

    def _told(self, probe: Probe, command: Sequence[str]) -> dict[str, Any]:
        """What a prober of ours says, one JSON object."""
        done = self._lab.exec(probe.source, command)
        try:
            facts: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise LabError(f"the probe {probe.name!r} failed", done.stderr) from None
        return facts


def curl_command(probe: Probe, url: str, ports: range) -> list[str]:
    """--path-as-is and --globoff: what is written is what is sent."""
    command = ["curl", "--silent", "--show-error", "--path-as-is", "--globoff", f"-{probe.ip}", "--output", "/dev/null"]
    command += ["--connect-timeout", str(CONNECT_TIMEOUT_S), "--max-time", str(TOTAL_TIMEOUT_S)]
    command += ["--local-port", _span(ports), "--write-out", "%{json}", "--request", probe.method]
    if probe.data:
        command += ["--header", "content-type: application/json", "--data", probe.data]
    return [*command, url]


def kafka_command(probe: Probe, url: str, ports: range) -> list[str]:
    place, _, topic = url.removeprefix("kafka://").partition("/")
    host, _, port = place.rpartition(":")
    command = [sys.executable, "-m", "proxy.lab.kafka_probe", probe.method.lower(), host.strip("[]"), port, topic]
    command += ["--ip", str(probe.ip), "--connect-timeout", str(CONNECT_TIMEOUT_S), "--timeout", str(TOTAL_TIMEOUT_S)]
    return [*command, "--local-ports", _span(ports), "--value", probe.data]


def lookup_command(target: str, server: str, ports: range) -> list[str]:
    """`server` is asked if the target names none."""
    asked, _, named = target.partition(" @")
    words = asked.split()
    tcp = ["--tcp"] if words[0] == "tcp" else []
    command = [sys.executable, "-m", "proxy.lab.lookup", *words[len(tcp) :], "--server", named.strip("[]") or server]
    return [*command, *tcp, "--timeout", str(TOTAL_TIMEOUT_S), "--local-ports", _span(ports)]


def _span(ports: range) -> str:
    return f"{ports[0]}-{ports[-1]}"
