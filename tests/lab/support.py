"""What the end-to-end tests do with a lab: connections held open by the test, raw HTTP, flow records, waiting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from proxy.api.client import AgentError
from proxy.flows.model import Flow
from proxy.lab import Lab, linux, names, processes
from proxy.lab.progress import Progress

T = TypeVar("T")
PATIENCE_S = 20.0
SILENCE_S = 1.5
"""How long nothing must come before a test believes that nothing comes."""


def eventually(check: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """The first true value of `check`; the test fails with the last one if there is none in time."""
    deadline = time.monotonic() + patience_s
    while not (value := check()):
        assert time.monotonic() < deadline, f"still {value!r} after {patience_s:.0f} s"
        time.sleep(0.05)
    return value


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Http:
    """An HTTP connection in the test's hands: what is sent, and in which pieces, is the test's business."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = b""

    @property
    def local_port(self) -> int:
        return int(self.connection.getsockname()[1])

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def request(self, method: str, path: str, body: bytes = b"") -> Answer:
        self.send(request_bytes(method, path, body))
        return self.answer()

    def answer(self) -> Answer:
        head, _, rest = self._until(b"\r\n\r\n")
        self._buffer = rest
        status_line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(int(status_line.split(" ")[1]), headers, body)

    def _until(self, mark: bytes) -> tuple[bytes, bytes, bytes]:
        while mark not in self._buffer:
            self._more()
        return self._buffer.partition(mark)

    def _more(self) -> None:
        data = self.connection.recv(1 << 16)
        if not data:
            raise ConnectionResetError(f"the connection ended; so far: {self._buffer!r}")
        self._buffer += data


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nhost: server.shop\r\n{length}\r\n".encode() + body


class Node:
    """The lab of a module, with its agent."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def address(self, pod: str, ip: int) -> str:
        state = self.lab.pod(pod)
        return state.v6 if ip == 6 else state.v4

    @contextmanager
    def connection(
        self, port: int, ip: int = 4, source: str = "shop/client", bind: str = "", timeout: float = PATIENCE_S
    ) -> Iterator[socket.socket]:
        """A connection from a pod to the server."""
        family = socket.AF_INET6 if ip == 6 else socket.AF_INET
        with self.lab.socket(source, family) as connection:
            connection.settimeout(timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.bind((bind, 0))
            connection.connect((self.address("shop/server", ip), port))
            yield connection

    @contextmanager
    def http(self, ip: int = 4, source: str = "shop/client") -> Iterator[Http]:
        with self.connection(80, ip, source) as connection:
            yield Http(connection)

    def is_silent(self, port: int, ip: int = 4, source: str = "shop/client", bind: str = "") -> int:
        """Connect and assert that nothing at all comes back; the local port, to find the flow record by."""
        family = socket.AF_INET6 if ip == 6 else socket.AF_INET
        with self.lab.socket(source, family) as connection:
            connection.settimeout(SILENCE_S)
            connection.bind((bind, 0))
            local = int(connection.getsockname()[1])
            try:
                connection.connect((self.address("shop/server", ip), port))
            except TimeoutError:
                return local
            raise AssertionError(f"{source} reached port {port} of the server")

    def flow(self, local_port: int, wanted: Callable[[Flow], bool] = lambda flow: True) -> Flow:
        """The newest flow record of a connection that is `wanted`; records arrive in batches."""

        def find() -> list[Flow]:
            return [
                flow
                for flow in self.lab.flows()
                if flow.l4 is not None and flow.l4.source_port == local_port and wanted(flow)
            ]

        return eventually(find)[-1]

    def eventually(self, check: Callable[[], T]) -> T:
        return eventually(check)

    def revision(self) -> int:
        """What is in force everywhere: workers have a revision before the kernel has it."""
        return int(self.lab.agent.status()["datapath"]["details"]["revision"])

    @property
    def policies(self) -> Path:
        assert self.lab.state.policies
        return Path(self.lab.state.policies)

    def is_healthy(self) -> bool:
        """Enforcing what the files say. The API answers 503, and the client raises, while it is not."""
        try:
            return bool(self.lab.agent.status()["cilium"]["state"] == "Ok")
        except AgentError:
            return False

    def findings(self) -> list[dict[str, object]]:
        """Errors the agent has with the policy files now."""
        found = self.lab.agent.client.get("/v1/policy")["findings"]
        return [finding for finding in found if finding["severity"] == "error"]

    def is_unbroken(self) -> bool:
        return not self.findings()

    def server_log(self) -> list[str]:
        return self.lab.log("shop/server").splitlines()

    def agent_processes(self) -> list[processes.Process]:
        """The agent and its workers: all there is in the node's namespace."""
        return processes.members(processes.netns_inodes([names.netns_path(self.lab.name, "node")]))

    def kill_agent(self) -> None:
        """kill -9 of the agent and of every worker, the agent first so that it cannot restart them."""
        pid = self.lab.agent_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for process in self.agent_processes():
            with suppress(ProcessLookupError):  # workers end with their agent
                os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: not self.agent_processes())


@contextmanager
def own_node(
    name: str, folder: Path, workloads: str, policy: str, settings: Mapping[str, object] | None = None
) -> Iterator[Node]:
    """A lab of these manifests and this policy, written to `folder`, with its agent."""
    policies = folder / "policies"
    policies.mkdir()
    (folder / "workloads.yaml").write_text(workloads, encoding="utf-8")
    (policies / "server.yaml").write_text(policy, encoding="utf-8")
    files = [folder / "workloads.yaml"]
    with Lab.up(name, files, policies=policies, settings=settings, progress=Progress(quiet=True)) as lab:
        yield Node(lab)


def self_signed(file: Path, names: Iterable[str]) -> Path:
    """A key and a certificate that is its own authority, in one file; the certificate alone is FILE.crt."""
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    listed = ",".join(f"DNS:{name}" for name in names)
    command += ["-subj", "/CN=server", "-addext", f"subjectAltName={listed}", "-days", "2"]
    subprocess.run([*command, "-keyout", str(file), "-out", f"{file}.crt"], check=True, capture_output=True)
    with file.open("a", encoding="ascii") as both:
        both.write(Path(f"{file}.crt").read_text(encoding="ascii"))
    return file


def footprint(name: str) -> dict[str, list[str]]:
    """Every trace of a lab on this machine."""
    inside = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                known = (
                    Path(f"/proc/{entry.name}/environ").read_bytes() + Path(f"/proc/{entry.name}/cmdline").read_bytes()
                )
            except OSError:
                continue
            if f"PENSTOCK_LAB={name}\0".encode() in known or f"/labs/{name}/".encode() in known:
                inside.append(entry.name)
    return {
        "namespaces": [path.name for path in names.existing_netns(name)],
        "mounts": [
            str(path) for path in linux.mount_points() if f"/labs/{name}" in str(path) or f"-{name}." in str(path)
        ],
        "processes": inside,
        "files": [str(path) for path in (names.state_dir(name),) if path.exists()],
    }


NOTHING: dict[str, list[str]] = {"namespaces": [], "mounts": [], "processes": [], "files": []}
