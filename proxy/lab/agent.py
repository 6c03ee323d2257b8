"""The agent of a lab: its endpoints file, its own bpffs, `penstock run` in the node's namespace, and its API socket.

Only the network namespace is entered. The agent keeps the mounts of the host, where its pins and its socket are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from proxy.api import socket_path
from proxy.api.client import AgentError, Client
from proxy.flows.jsonpb import decode_line
from proxy.flows.model import Flow
from proxy.lab import inside, linux, processes
from proxy.lab.errors import LabError
from proxy.lab.model import FIRST_NODE
from proxy.lab.plan import Plan, PlannedNode
from proxy.lab.state import LabState

AGENT = "agent"
READY_DEADLINE_S = 60.0
_TAIL_LINES = 25


def endpoints_document(plan: Plan, node: PlannedNode) -> dict[str, Any]:
    """The endpoints file of one node: all pods of the lab, and interfaces of those that run there."""
    return {
        "nodes": [{"name": one.ref, "addresses": [str(a) for a in (*one.address, *one.uplink)]} for one in plan.nodes],
        "namespaces": [{"name": name, "labels": dict(labels)} for name, labels in plan.manifests.namespaces.items()],
        "endpoints": [
            {
                "name": pod.spec.name,
                "namespace": pod.spec.namespace,
                "labels": dict(pod.spec.labels),
                "addresses": [str(pod.v4), str(pod.v6)],
                **({"interface": pod.interface} if pod.spec.node == node.ref else {}),
                # Only names matter here: policies may use them for numbers.
                "ports": [
                    {"name": port.name, "containerPort": port.port, "protocol": port.protocol}
                    for port in pod.spec.ports
                    if port.name
                ],
                "serviceAccount": pod.spec.service_account,
            }
            for pod in plan.pods
        ],
    }


def write_endpoints(plan: Plan, directory: Path) -> None:
    for node in plan.nodes:
        text = yaml.safe_dump(endpoints_document(plan, node), sort_keys=False)
        (directory / _endpoints_name(node.ref)).write_text(text, encoding="utf-8")


def _endpoints_name(node: str) -> str:
    return f"endpoints{node.removeprefix(FIRST_NODE)}.yaml"


class Agent:
    """`penstock run` on one node of a lab. Also made for an agent that another process started."""

    def __init__(self, state: LabState, node: str = FIRST_NODE) -> None:
        self._state = state
        self.node = node
        self._what = f"{AGENT}{node.removeprefix(FIRST_NODE)}"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def state_dir(self) -> Path:
        return self._state.directory / self._what

    @property
    def bpf_mount(self) -> Path:
        return self._state.directory / f"bpf{self.node.removeprefix(FIRST_NODE)}"

    @property
    def socket(self) -> Path:
        return socket_path(self.state_dir)

    @property
    def client(self) -> Client:
        return Client(self.socket)

    @property
    def log_file(self) -> Path:
        return self._state.directory / "logs" / f"{self._what}.log"

    @property
    def pid(self) -> int | None:
        """The running agent's, or None."""
        running = [process.pid for process in processes.recorded(self._state.directory) if process.what == self._what]
        return running[-1] if running else None

    def command(self, policies: Path) -> list[str]:
        own = Path(sys.executable).with_name("penstock")
        program = str(own) if own.exists() else shutil.which("penstock")
        if program is None:
            raise LabError("the `penstock` command is not installed beside this Python", "run `make setup`")
        return [
            program,
            "run",
            f"--endpoints-file={self._state.directory / _endpoints_name(self.node)}",
            f"--policy-dir={policies}",
            f"--state-dir={self.state_dir}",
            f"--bpf-root={self.bpf_mount / 'penstock'}",
            f"--node-name={self.node}",
            *([f"--service-cidrs={','.join(self._state.service_cidrs)}"] if self._state.service_cidrs else []),
        ]

    def start(self, policies: Path, settings: Mapping[str, object] | None = None) -> None:
        """Start it; `settings` are keys as in `Settings`, given as PENSTOCK_* variables."""
        self.bpf_mount.mkdir(exist_ok=True)
        self.state_dir.mkdir(exist_ok=True)
        if not self.bpf_mount.is_mount():
            linux.mount("bpf", self.bpf_mount, "bpf")
        variables = {
            f"PENSTOCK_{key.upper().replace('-', '_')}": _text(value) for key, value in (settings or {}).items()
        }
        node = self._state.place(self.node)
        place = inside.Place(node.lab, node.ref, node.netns, None)
        with self.log_file.open("ab") as log:
            self._child = inside.spawn(place, self.command(policies), log, variables)
        processes.record(self._state.directory, self._child.pid, self._what)

    def wait_ready(self, deadline_s: float = READY_DEADLINE_S) -> None:
        """Until the API says so; the end of the log is in the error if it does not."""
        deadline = time.monotonic() + deadline_s
        last = "no answer"
        while time.monotonic() < deadline:
            if self._child is not None and self._child.poll() is not None:
                raise LabError(f"the agent ended with exit code {self._child.returncode}", self.log_tail())
            try:
                pending = self.status().get("pending")
                if not pending:
                    return
                last = f"waiting for {', '.join(pending)}"
            except AgentError as error:
                last = error.message
            time.sleep(0.05)
        raise LabError(f"the agent was not ready after {deadline_s:.0f} s ({last})", self.log_tail())

    def status(self) -> dict[str, Any]:
        """What /v1/healthz says; AgentError if it is not well, or not there."""
        body: dict[str, Any] = self.client.get("/v1/healthz")
        return body

    def flows(self) -> list[Flow]:
        """Every flow the agent still holds, oldest first."""
        records = [decode_line(line) for line in self.client.lines("/v1/flows", [("all", "true")])]
        return [record for record in records if isinstance(record, Flow)]

    def kill(self, signum: int) -> None:
        pid = self.pid
        if pid is None:
            raise LabError(f"the agent of lab {self._state.name} does not run")
        os.kill(pid, signum)

    def reap_ended(self) -> None:
        """Collect a child of ours that was killed."""
        if self._child is not None:
            self._child.wait()
            self._child = None

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        return tail(self.log_file, lines)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log, named."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except OSError as error:
        return f"no log: {error}"
    return "\n  ".join([f"the end of {path}:", *text]) if text else f"{path} is empty"
