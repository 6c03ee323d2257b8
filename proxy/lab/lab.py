"""A whole lab: brought up, used, taken down.

The command line, the demo, the end-to-end tests and the benchmarks all go through here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from proxy.flows.model import Flow
from proxy.lab import dns, inside, linux, network, processes, workloads
from proxy.lab import state as lab_state
from proxy.lab.agent import READY_DEADLINE_S, Agent, write_endpoints
from proxy.lab.errors import LabError
from proxy.lab.manifests import read_manifests
from proxy.lab.model import OutsideHost
from proxy.lab.names import LABS_DIR, check_lab_name, existing_labs, existing_netns, netns_name, state_dir
from proxy.lab.plan import DNS_POD, Plan, PlannedPod, check_outside, make_plan
from proxy.lab.progress import Progress
from proxy.lab.state import LabState, PodState
from proxy.lab.sweep import sweep


class Lab:
    """One lab that is up. A context manager: leaving it takes the lab down."""

    def __init__(self, state: LabState, started: Sequence[workloads.Workload] = ()) -> None:
        self.state = state
        self.agents = {node: Agent(state, node) for node in state.nodes}
        self._started = list(started)
        self._children: list[subprocess.Popen[Any]] = []

    @classmethod
    def up(
        cls,
        name: str,
        manifests: Sequence[Path | str],
        *,
        policies: Path | str | Sequence[Path] | None = None,
        settings: Mapping[str, object] | None = None,
        progress: Progress | None = None,
        cluster_ips: bool = False,
        dns_ttl_s: int = dns.TTL_S,
    ) -> Lab:
        """Build the lab; with `policies` the agents enforce them when this returns. With `cluster_ips` services have
        addresses of their own, which the nodes translate. `dns_ttl_s`: of all answers of the cluster's DNS.

        `policies` is a folder, which the agent then watches, or files, which are copied into a folder of the lab.
        Whatever goes wrong on the way, nothing is left behind.
        """
        check_lab_name(name)
        _check_host()
        told = progress or Progress(quiet=True)
        folder, copied = _policy_folder(name, policies)
        read = read_manifests([Path(path) for path in manifests], translates=cluster_ips)
        for note in read.notes:
            told.note(note)
        with _naming():
            if state_dir(name).exists() or existing_netns(name):
                raise LabError(f"lab {name} exists already", f"take it down: penstock lab down {name}")
            taken = [lab_state.load(other).octet for other in existing_labs() if _has_state(other)]
            plan = make_plan(name, read, taken, translates=cluster_ips)
            state = lab_state.describe(plan, time.time(), folder)
            state.directory.mkdir(mode=0o755)
            lab_state.save(state)
        lab = cls(state)
        try:
            if copied:
                _copy(copied, state.directory / "policies")
            lab._build(plan, folder, settings, told, dns_ttl_s)
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def attach(cls, name: str) -> Lab:
        """The lab of that name, that some other process brought up."""
        return cls(lab_state.load(check_lab_name(name)))

    def _build(
        self,
        plan: Plan,
        policies: Path | None,
        settings: Mapping[str, object] | None,
        told: Progress,
        dns_ttl_s: int,
    ) -> None:
        with told.step(f"{len(plan.pods) + len(plan.nodes) + 1} network namespaces"):
            network.create_namespaces(plan)
        with told.step(f"links, addresses and routes in {plan.ranges.v4} and {plan.ranges.v6}"):
            network.connect(plan)
        with told.step("cluster DNS, the outside world and the pods' programs"):
            self._write_etc(plan)
            # A failure on the way leaves those so far.
            self._started.extend(workloads.start_all(plan, self.state, dns_ttl_s))
        if policies is not None:
            with told.step(f"the agent, with the policies of {policies}"):
                write_endpoints(plan, self.state.directory)
                self.start_agent(settings)
        with told.step("every declared port is open"):
            workloads.wait_open(self._started)

    def _write_etc(self, plan: Plan) -> None:
        places: dict[str, PlannedPod | None] = dict.fromkeys((*self.state.nodes, "world"))
        for ref, pod in {**places, **{pod.ref: pod for pod in plan.pods}}.items():
            folder = self.state.etc(ref)
            folder.mkdir(parents=True)
            for name, text in dns.etc_files(plan, pod).items():
                (folder / name).write_text(text, encoding="utf-8")

    @property
    def name(self) -> str:
        return self.state.name

    def pod(self, ref: str) -> PodState:
        """Addresses, interface and ports of NAMESPACE/POD."""
        self.state.place(ref)
        return self.state.pods[ref]

    def exec(self, pod: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a program in NAMESPACE/POD, `node` or `world` to its end; `options` as for `subprocess.run`.

        Output is captured as text and standard input is empty unless the options say otherwise.
        """
        defaults: dict[str, Any] = {"text": True}
        if "stdout" not in options and "stderr" not in options:
            defaults["capture_output"] = True
        if "input" not in options:
            defaults["stdin"] = subprocess.DEVNULL
        return inside.run(self.state.place(pod), argv, **{**defaults, **options})

    def popen(self, pod: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; it ends with the lab at the latest."""
        child = inside.popen(self.state.place(pod), argv, **options)
        self._children.append(child)
        return child

    def socket(self, pod: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of the pod in the hands of this process: sockets stay in the namespace they are made in."""
        place = self.state.place(pod)

        def work() -> socket.socket:
            linux.setns(place.netns)
            return socket.socket(family, kind)

        return linux.in_thread(work)

    def log(self, pod: str, run: str = "run") -> str:
        """What a program of a pod's annotations has written so far."""
        return self.state.log_file(pod, run).read_text(encoding="utf-8", errors="replace")

    def set_host(self, name: str, addresses: Sequence[str]) -> None:
        """Let a name of the outside world have these addresses, from the next lookup on."""
        host = OutsideHost(name, tuple(addresses))
        check_outside(host)
        network.add_outside(netns_name(self.name, "world"), host.addresses)
        file = self.state.dns_hosts
        lines = list(dns.with_host(file.read_text(encoding="utf-8").splitlines(), name, addresses))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        running = [one for one in processes.recorded(self.state.directory) if one.what == f"{DNS_POD} run"]
        if not running:
            raise LabError(f"the DNS of lab {self.name} does not run")
        os.kill(running[-1].pid, signal.SIGHUP)

    @property
    def agent(self) -> Agent:
        """The first node's."""
        return next(iter(self.agents.values()))

    @property
    def agent_pid(self) -> int | None:
        return self.agent.pid

    def start_agent(self, settings: Mapping[str, object] | None = None, ready_s: float = READY_DEADLINE_S) -> None:
        """Start `penstock run` (again) on every node and wait until all are ready."""
        if not self.state.policies:
            raise LabError(f"lab {self.name} was brought up without policies", "give `policies=` (--policies DIR)")
        for agent in self.agents.values():
            if agent.pid is not None:
                raise LabError(f"the agent of lab {self.name} runs already (pid {agent.pid})")
            agent.reap_ended()
            agent.start(Path(self.state.policies), settings)
        for agent in self.agents.values():
            agent.wait_ready(ready_s)

    def reload(self) -> None:
        """Tell the agents to read their policies again now (SIGHUP)."""
        for agent in self.agents.values():
            agent.kill(signal.SIGHUP)

    def flows(self) -> list[Flow]:
        """What the first node's agent saw, oldest first."""
        return self.agent.flows()

    def down(self) -> None:
        """Remove everything. May be called again."""
        sweep(self.name)
        for workload in self._started:
            workload.child.wait()
        for child in self._children:
            child.wait()
        for agent in self.agents.values():
            agent.reap_ended()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _policy_folder(name: str, policies: Path | str | Sequence[Path] | None) -> tuple[Path | None, list[Path]]:
    """The folder the agent is to read, and the files to be copied into it first."""
    if policies is None:
        return None, []
    if not isinstance(policies, (str, Path)):
        return state_dir(name) / "policies", list(policies)
    folder = Path(policies).resolve()
    if not folder.is_dir():
        raise LabError(f"{policies} is not a folder of policies")
    return folder, []


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Copies named after their folder: every example calls its own `policies.yaml`."""
    folder.mkdir()
    for file in files:
        name = f"{file.resolve().parent.name}.yaml" if file.name == "policies.yaml" else file.name
        shutil.copyfile(file, folder / name)


def _has_state(name: str) -> bool:
    return (state_dir(name) / lab_state.FILE).exists()


def _check_host() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab needs root: it makes network namespaces", "try again with sudo")
    if shutil.which("ip") is None:
        raise LabError("`ip` is not installed", "`make setup` installs it; by hand: apt-get install iproute2")


@contextmanager
def _naming() -> Iterator[None]:
    """One at a time: which names and ranges are taken is looked up and settled without another lab in between."""
    while True:
        LABS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(LABS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The last lab's `down` removes the folder: then ours is no longer the one that others lock.
            if _same(descriptor, LABS_DIR):
                yield
                return
        finally:
            os.close(descriptor)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
