"""Which address, interface and namespace everything of a lab gets: pure, and a function of the lab's name.

10.X.0.0/16, fdXX:XXXX:XXXX::/48     X from the SHA-256 of the name, the next free one if another lab has it
10.X.0.1   ::1                       gateway of every pod, on the node; .2 to .8 on the other nodes
10.X.0.10  ::a                       cluster DNS, pod kube-system/kube-dns
10.X.1.0 + n  ::1:n                  pods, n = 1, 2, ... in the order of the manifests
10.X.255.1, .2   ::ffff:1, :2        uplink: the node's end, the world's end; the other nodes' follow
10.X.255.128 + n  ::ffff:8000 + n    services, if the lab gives them addresses
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from proxy.lab.errors import LabError
from proxy.lab.model import FIRST_NODE, Manifests, OutsideHost, PodSpec, ServiceSpec
from proxy.lab.names import NETNS_DIR, interface_name, netns_name, netns_path

DNS_POD = "kube-system/kube-dns"
UPLINK = "uplink0"
_MAX_PODS = 0xFDFF  # 10.X.1.1 … 10.X.254.255
_MAX_NODES = 8
_MAX_SERVICES = 126

# Addresses that documentation may use (RFC 5737, RFC 3849): the lab's names of the outside live there.
_DOCUMENTATION = (
    IPv4Network("192.0.2.0/24"),
    IPv4Network("198.51.100.0/24"),
    IPv4Network("203.0.113.0/24"),
    IPv6Network("2001:db8::/32"),
)
DEFAULT_HOSTS = (
    OutsideHost("example.com", ("192.0.2.10", "2001:db8::10")),
    OutsideHost("www.example.com", ("192.0.2.11", "2001:db8::11")),
    OutsideHost("httpbin.org", ("198.51.100.20", "2001:db8:1::20")),
    OutsideHost("api.stripe.com", ("198.51.100.30", "198.51.100.31", "2001:db8:1::30")),
    OutsideHost("google.com", ("203.0.113.40", "2001:db8:2::40")),
)


@dataclass(frozen=True, slots=True)
class Ranges:
    """The addresses of one lab."""

    octet: int
    v4: IPv4Network
    v6: IPv6Network

    def pair(self, number: int) -> tuple[IPv4Address, IPv6Address]:
        return self.v4[number], self.v6[number]


@dataclass(frozen=True, slots=True)
class PlannedPod:
    """A pod with its place. `interface` is the node's end of its veth; the pod's own end is `eth0`."""

    spec: PodSpec
    v4: IPv4Address
    v6: IPv6Address
    interface: str
    netns: str

    @property
    def ref(self) -> str:
        return self.spec.ref

    @property
    def netns_path(self) -> Path:
        return NETNS_DIR / self.netns


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node with its addresses: its own, which is its pods' gateway, and both ends of its uplink."""

    ref: str
    number: int  # from 1
    address: tuple[IPv4Address, IPv6Address]
    uplink: tuple[IPv4Address, IPv6Address]
    world_end: tuple[IPv4Address, IPv6Address]
    netns_path: Path

    @property
    def world_interface(self) -> str:
        """The world's end of its uplink."""
        return f"eth{self.number - 1}"

    def link_to(self, other: PlannedNode) -> str:
        """This node's end of the veth to another node."""
        return f"link{other.number}"


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A service with its own addresses, and the pods behind them."""

    spec: ServiceSpec
    v4: IPv4Address
    v6: IPv6Address
    pods: tuple[PlannedPod, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole lab, ready to be built. `services` is empty unless the lab translates addresses."""

    name: str
    ranges: Ranges
    manifests: Manifests
    pods: tuple[PlannedPod, ...]
    hosts: tuple[OutsideHost, ...]
    nodes: tuple[PlannedNode, ...]
    services: tuple[PlannedService, ...] = ()

    @property
    def node(self) -> PlannedNode:
        """The first one."""
        return self.nodes[0]

    def node_of(self, pod: PlannedPod) -> PlannedNode:
        return next(node for node in self.nodes if node.ref == pod.spec.node)

    @property
    def service_ranges(self) -> tuple[IPv4Network, IPv6Network]:
        v4, v6 = self.ranges.v4, self.ranges.v6
        return IPv4Network((int(v4[0xFF80]), 25)), IPv6Network((int(v6[0xFFFF8000]), 113))

    @property
    def dns(self) -> PlannedPod:
        return self.pods[0]

    @property
    def world_netns(self) -> Path:
        return netns_path(self.name, "world")


def ranges_of(name: str, taken: Collection[int] = ()) -> Ranges:
    """The lab's ranges; `taken` are the second octets other labs on this machine have."""
    digest = hashlib.sha256(name.encode()).digest()
    for step in range(256):
        octet = (digest[0] + step) % 256
        if octet not in taken:
            break
    else:
        raise LabError("256 labs are up: no address range is left", "take one down: `penstock lab list`")
    # fd00::/8 with 40 bits of our own (RFC 4193 §3.2); the octet is one of them, so the range is as unique as 10.X.
    v6 = IPv6Network((bytes([0xFD, octet]) + digest[1:5] + bytes(10), 48))
    return Ranges(octet, IPv4Network((bytes([10, octet, 0, 0]), 16)), v6)


def make_plan(name: str, manifests: Manifests, taken: Collection[int] = (), *, translates: bool = False) -> Plan:
    """Place everything. The cluster DNS pod is added, and is always the first. `translates`: services get addresses."""
    if any(pod.ref == DNS_POD for pod in manifests.pods):
        raise LabError(
            f"{DNS_POD} is the lab's own pod: it serves the cluster's names", "leave it out of the manifests"
        )
    if len(manifests.pods) > _MAX_PODS:
        raise LabError(f"{len(manifests.pods)} pods are more than a lab has addresses for ({_MAX_PODS})")
    ranges = ranges_of(name, taken)
    dns = PodSpec("kube-system", "kube-dns", labels={"k8s-app": "kube-dns"}, service_account="coredns")
    pods = [_placed(name, dns, 0, *ranges.pair(10))]
    for index, spec in enumerate(manifests.pods, start=1):
        pods.append(_placed(name, spec, index, ranges.v4[0x100 + index], ranges.v6[0x10000 + index]))
    nodes = _nodes(name, ranges, manifests.pods)
    services = _services(ranges, manifests.services, pods) if translates else ()
    return Plan(name, ranges, manifests, tuple(pods), _hosts(manifests.hosts), nodes, services)


def _nodes(lab: str, ranges: Ranges, pods: Iterable[PodSpec]) -> tuple[PlannedNode, ...]:
    names = [FIRST_NODE, *sorted({pod.node for pod in pods} - {FIRST_NODE})]
    if len(names) > _MAX_NODES:
        raise LabError(f"{len(names)} nodes are more than a lab has addresses for ({_MAX_NODES})")
    return tuple(
        PlannedNode(
            ref=ref,
            number=number,
            address=ranges.pair(number),
            uplink=ranges.pair(0xFEFF + 2 * number),
            world_end=ranges.pair(0xFF00 + 2 * number),
            netns_path=netns_path(lab, ref),
        )
        for number, ref in enumerate(names, start=1)
    )


def _services(ranges: Ranges, specs: Iterable[ServiceSpec], pods: Iterable[PlannedPod]) -> tuple[PlannedService, ...]:
    wanted = [spec for spec in specs if not spec.headless]
    if len(wanted) > _MAX_SERVICES:
        raise LabError(f"{len(wanted)} services are more than a lab has addresses for ({_MAX_SERVICES})")
    return tuple(
        PlannedService(
            spec,
            ranges.v4[0xFF80 + number],
            ranges.v6[0xFFFF8000 + number],
            tuple(pod for pod in pods if spec.selects(pod.spec)),
        )
        for number, spec in enumerate(wanted, start=1)
    )


def _placed(lab: str, spec: PodSpec, index: int, v4: IPv4Address, v6: IPv6Address) -> PlannedPod:
    return PlannedPod(spec, v4, v6, interface_name(index, spec.name), netns_name(lab, spec.ref))


def _hosts(own: Iterable[OutsideHost]) -> tuple[OutsideHost, ...]:
    """The default names, replaced or added to by those of the manifests."""
    hosts = {host.name: host for host in (*DEFAULT_HOSTS, *own)}
    for host in hosts.values():
        check_outside(host)
    return tuple(hosts.values())


def check_outside(host: OutsideHost) -> None:
    """The outside world has documentation addresses only: LabError for any other."""
    for text in host.addresses:
        try:
            address = ip_address(text)
        except ValueError as error:
            raise LabError(f"World host {host.name}: {text!r} is not an IP address") from error
        if not any(address in network for network in _DOCUMENTATION if network.version == address.version):
            raise LabError(
                f"World host {host.name}: {address} is not a documentation address",
                "use 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 or 2001:db8::/32",
            )
