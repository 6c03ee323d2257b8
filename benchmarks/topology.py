"""The same place for every subject: a client, a node and a server, each in a network namespace of its own.

    bench/client ──veth── node (the proxy runs here) ──veth── bench/server (the origin listens here)

It is a lab as users bring it up, and that is also how Penstock is measured. Load generator and origin are pinned to
one processor and whatever runs on the node to the other.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import IO, Any

from benchmarks.failure import BenchmarkError
from benchmarks.machine import CONGESTION, Processors
from benchmarks.report import OUT
from benchmarks.rules import PORT
from proxy.lab import Lab
from proxy.lab.names import existing_labs
from proxy.lab.sweep import sweep
from proxy.lab.workloads import open_ports

HERE = Path(__file__).resolve().parent
CLIENT = "bench/client"
ATTACKER = "bench/attacker"
SERVER = "bench/server"
NODE = "node"
LAB_PREFIX = "bench-"
_LOCK = "\0penstock-benchmarks"
_LISTEN_DEADLINE_S = 20.0
_SAID = 2000
_PORTS = "cd /proc/sys/net/ipv4 && echo 10000 65535 > ip_local_port_range && echo 1 > tcp_tw_reuse"
"""Who makes connections by the thousand each second needs their ports again soon."""
_CONGESTION = f"echo {CONGESTION} > /proc/sys/net/ipv4/tcp_congestion_control"

Origin = Callable[[Path], Sequence[str]]
"""How to start the server: the command, given a folder for its files. It listens on `PORT` of every address."""


def plain_origin(folder: Path) -> Sequence[str]:
    """HTTP/1.1."""
    return [str(compiled("origin.c")), "0.0.0.0", str(PORT)]


class Topology:
    """One such place, up. `folder` is for files and goes with it; the agent does not watch it, as it does the lab's."""

    def __init__(self, lab: Lab, processors: Processors, origin: Origin, folder: Path, log: IO[str]) -> None:
        self.lab = lab
        self.processors = processors
        self.origin = origin
        self.folder = folder
        self._log = log

    @property
    def client_address(self) -> str:
        return self.lab.pod(CLIENT).v4

    @property
    def server_address(self) -> str:
        return self.lab.pod(SERVER).v4

    @property
    def node_address(self) -> str:
        """The client's gateway: where an ordinary proxy listens."""
        return str(IPv4Network(self.lab.state.v4)[1])

    def popen(self, where: str, argv: Sequence[str], cpu: int, **options: Any) -> subprocess.Popen[str]:
        """Start a program on one processor; it ends with the topology."""
        pinned = ["taskset", "--cpu-list", str(cpu), *argv]
        return self.lab.popen(where, pinned, stdin=subprocess.DEVNULL, text=True, **options)

    def run(self, where: str, argv: Sequence[str], cpu: int, patience_s: float) -> str:
        """What a program on one processor prints until it ends; an error if it fails, or does not end."""
        child = self.popen(where, argv, cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = child.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{argv[0]} does not come to an end") from error
        finally:
            child.kill()
            child.wait()
        if child.returncode:
            raise BenchmarkError(f"{argv[0]} failed: {err.strip() or out.strip()}")
        return str(out)

    def serve(self, where: str, argv: Sequence[str], port: int, cpu: int) -> int:
        """Start a server and wait until its port is open. Returns its pid."""
        child = self.popen(where, argv, cpu, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + _LISTEN_DEADLINE_S
        while port not in open_ports(child.pid):
            if child.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                raise BenchmarkError(f"{argv[0]} does not listen on port {port}:\n{self._log.read()[-_SAID:]}")
            time.sleep(0.02)
        return child.pid


@contextmanager
def only_one() -> Iterator[None]:
    """Two benchmarks at a time would measure each other. What a killed run has left behind is removed."""
    lock = socket.socket(socket.AF_UNIX)
    with lock:
        try:
            lock.bind(_LOCK)  # an abstract name: gone with the process, however that ends
        except OSError as error:
            raise BenchmarkError("another benchmark runs on this machine") from error
        for name in existing_labs():
            if name.startswith(LAB_PREFIX):
                sweep(name)
        yield


@contextmanager
def topology(
    name: str,
    processors: Processors,
    policies: Path | None = None,
    settings: Mapping[str, object] | None = None,
    origin: Origin = plain_origin,
) -> Iterator[Topology]:
    """The place called `name`, with the origin; with `policies` Penstock enforces them on its node."""
    manifests = [HERE / "workloads.yaml"]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as log,
        tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder,
        Lab.up(LAB_PREFIX + name, manifests, policies=policies, settings=settings) as lab,
    ):
        place = Topology(lab, processors, origin, Path(folder), log)
        for where in (CLIENT, ATTACKER, SERVER, NODE):
            place.run(where, ["sh", "-c", _CONGESTION], processors.load, _LISTEN_DEADLINE_S)
        for where in (CLIENT, ATTACKER, NODE):
            place.run(where, ["sh", "-c", _PORTS], processors.load, _LISTEN_DEADLINE_S)
        place.serve(SERVER, origin(place.folder), PORT, processors.load)
        yield place


def compiled(name: str) -> Path:
    """A program of this folder, compiled anew when its source is newer."""
    source = HERE / name
    program = OUT / source.stem
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        OUT.mkdir(parents=True, exist_ok=True)
        command = ["clang", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"{source.name} does not compile:\n{done.stderr}")
    return program
