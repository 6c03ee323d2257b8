"""Network namespaces for the datapath's tests: a node, pods on veths, a machine outside.

    a (10.77.1.2, fd77:1::2) --va--+
    b (10.77.2.2, fd77:2::2) --vb--+ node +--vo-- outside (192.0.2.2, 2001:db8::2)

Nothing but iproute2 and setns(2); none of Penstock's own lab.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

NET = {"a": "1", "b": "2"}
NODE_V4, NODE_V6 = "192.0.2.1", "2001:db8::1"
OUTSIDE_V4, OUTSIDE_V6 = "192.0.2.2", "2001:db8::2"


def setns(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(fd)


@contextlib.contextmanager
def inside(path: Path) -> Iterator[None]:
    """This thread, and threads it starts, are in that namespace for the while."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    setns(path)
    try:
        yield
    finally:
        try:
            if _LIBC.setns(own, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns back")
        finally:
            os.close(own)


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Namespace:
    name: str

    @property
    def path(self) -> Path:
        return Path("/run/netns") / self.name

    def enter(self) -> contextlib.AbstractContextManager[None]:
        return inside(self.path)

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments)

    def sysctl(self, name: str, value: str) -> None:
        with self.enter():
            (Path("/proc/sys/net") / name).write_text(value)


@dataclass(frozen=True)
class Topology:
    node: Namespace
    a: Namespace
    b: Namespace
    outside: Namespace

    @staticmethod
    def address(pod: str, family: int) -> str:
        return f"10.77.{NET[pod]}.2" if family == 4 else f"fd77:{NET[pod]}::2"

    @staticmethod
    def outside_address(family: int) -> str:
        return OUTSIDE_V4 if family == 4 else OUTSIDE_V6

    @staticmethod
    def node_address(family: int) -> str:
        return NODE_V4 if family == 4 else NODE_V6


def _connect(node: Namespace, other: Namespace, device: str, addresses: tuple[str, str, str, str]) -> None:
    node_v4, other_v4, node_v6, other_v6 = addresses
    node.ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", other.name)
    for namespace, name, v4, v6 in ((node, device, node_v4, node_v6), (other, "eth0", other_v4, other_v6)):
        namespace.ip("addr", "add", v4, "dev", name)
        namespace.ip("addr", "add", v6, "dev", name, "nodad")
        namespace.ip("link", "set", name, "up")
    other.ip("route", "add", "default", "via", node_v4.partition("/")[0])
    other.ip("-6", "route", "add", "default", "via", node_v6.partition("/")[0])


@contextlib.contextmanager
def topology(prefix: str) -> Iterator[Topology]:
    """All namespaces, connected; removed at the end whatever happened."""
    names = [Namespace(f"{prefix}-{part}") for part in ("node", "a", "b", "outside")]
    node, a, b, outside = names
    try:
        for namespace in names:
            run("ip", "netns", "add", namespace.name)
            namespace.ip("link", "set", "lo", "up")
        node.sysctl("ipv4/ip_forward", "1")
        node.sysctl("ipv6/conf/all/forwarding", "1")
        for device, pod, net in (("va", a, "1"), ("vb", b, "2")):
            v4, v6 = f"10.77.{net}.", f"fd77:{net}::"
            _connect(node, pod, device, (v4 + "1/24", v4 + "2/24", v6 + "1/64", v6 + "2/64"))
        _connect(node, outside, "vo", (NODE_V4 + "/24", OUTSIDE_V4 + "/24", NODE_V6 + "/64", OUTSIDE_V6 + "/64"))
        yield Topology(node, a, b, outside)
    finally:
        for namespace in names:
            subprocess.run(["ip", "netns", "del", namespace.name], capture_output=True, check=False)
