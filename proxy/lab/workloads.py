"""What runs in the pods: started all at once, then waited for until every declared port is open."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.lab import dns, inside, processes
from proxy.lab.agent import tail
from proxy.lab.errors import LabError
from proxy.lab.plan import Plan
from proxy.lab.state import LabState

WORLD_RUN = ("run", "exec python -m proxy.lab.echo --port 80 --port 8080 --pod world")
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Workload:
    """A program in a pod, `node` or `world`, and the TCP ports it should open."""

    ref: str
    run: str
    child: subprocess.Popen[bytes]
    log: Path
    ports: frozenset[int]


def start_all(plan: Plan, state: LabState, dns_ttl_s: int) -> Iterator[Workload]:
    """Cluster DNS, the outside world, and everything the manifests' annotations say."""
    (state.directory / "logs").mkdir(exist_ok=True)
    state.dns_hosts.write_text("\n".join(dns.host_lines(plan)) + "\n", encoding="utf-8")
    yield _start(state, plan.dns.ref, "run", dns.server_command(state.dns_hosts, dns_ttl_s), {53})
    world = dict([WORLD_RUN, *plan.manifests.world_runs])
    for name, command in world.items():
        ports = {80, 8080} if (name, command) == WORLD_RUN else set()
        yield _start(state, "world", name, ["sh", "-c", command], ports)
    for pod in plan.pods:
        ports = {port.port for port in pod.spec.ports if port.protocol == "TCP"}
        for name, command in pod.spec.runs:
            yield _start(state, pod.ref, name, ["sh", "-c", command], ports)
            ports = set()  # waited for once, whichever of the pod's programs opens them


def _start(state: LabState, ref: str, run: str, argv: list[str], ports: Iterable[int]) -> Workload:
    log_path = state.log_file(ref, run)
    with log_path.open("ab") as log:
        child = inside.spawn(state.place(ref), argv, log)
    processes.record(state.directory, child.pid, f"{ref} {run}")
    return Workload(ref, run, child, log_path, frozenset(ports))


def wait_open(workloads: Iterable[Workload], deadline_s: float = 30.0) -> None:
    """Until every port is open. A program that ended before that is an error with the end of its log."""
    deadline = time.monotonic() + deadline_s
    for workload in workloads:
        while missing := workload.ports - open_ports(workload.child.pid):
            code = workload.child.poll()
            if code is not None:
                raise LabError(f"{workload.run!r} in {workload.ref} ended with exit code {code}", tail(workload.log))
            if time.monotonic() > deadline:
                shown = ", ".join(map(str, sorted(missing)))
                raise LabError(f"nothing listens on port {shown} in {workload.ref}", tail(workload.log))
            time.sleep(0.02)


def open_ports(pid: int) -> set[int]:
    """TCP ports somebody listens on in the network namespace of `pid`."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found
