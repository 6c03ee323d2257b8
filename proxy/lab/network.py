"""Namespaces, links, addresses and routes of a lab, as a CNI with host routes lays them out.

A pod has a /32 and a /128 and sends everything to the node: its default routes go via the node's gateway address (v4)
and fe80::1 (v6). The node has a route per pod to that pod's veth. `ip -batch` does the work, one process per
namespace: measured faster than netlink from Python, and it prints what it could not do.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from proxy.lab import linux
from proxy.lab.errors import LabError
from proxy.lab.names import LABS_DIR, NETNS_DIR
from proxy.lab.plan import UPLINK, Plan, PlannedNode, PlannedPod, PlannedService

# Left by us beside the labs when we made /run/netns a mount of its own: `remove_netns_dir` then undoes it.
_OWN_NETNS_DIR = LABS_DIR / ".netns-dir"

_SYSCTLS = {
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    # Addresses of a lab are unique by construction: no second of waiting for duplicate address detection.
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}
_NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    # As CNIs do: a pod's address is behind its own veth only by route, and the datapath checks sources itself.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def prepare_netns_dir() -> None:
    """Make /run/netns what `ip netns add` makes of it: a shared mount of its own.

    Otherwise `ip` would do so later, over our namespaces, which could then not be unmounted by name any more.
    """
    existed = NETNS_DIR.is_dir()
    NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(NETNS_DIR):
        if NETNS_DIR not in linux.mount_points():
            linux.mount(str(NETNS_DIR), NETNS_DIR, flags=linux.MS_BIND | linux.MS_REC)
            _OWN_NETNS_DIR.write_text("mounted\n" if existed else "made\n", encoding="utf-8")
        linux.mount("", NETNS_DIR, flags=linux.MS_SHARED | linux.MS_REC)


def remove_netns_dir() -> None:
    """Undo `prepare_netns_dir` if that was ours and nobody uses it any more."""
    if not _OWN_NETNS_DIR.exists():
        return
    with _locked(NETNS_DIR):
        if any(NETNS_DIR.iterdir()):
            return
        made = _OWN_NETNS_DIR.read_text(encoding="utf-8").strip() == "made"
        linux.unmount(NETNS_DIR)
        _OWN_NETNS_DIR.unlink(missing_ok=True)
    if made:
        NETNS_DIR.rmdir()


def create_namespaces(plan: Plan) -> None:
    """Every namespace of the lab, with its settings, by name below /run/netns."""
    prepare_netns_dir()

    def work() -> None:
        for node in plan.nodes:
            _create_here(node.netns_path, {**_SYSCTLS, **_NODE_SYSCTLS})
        for path in (plan.world_netns, *(pod.netns_path for pod in plan.pods)):
            _create_here(path, _SYSCTLS)

    linux.in_thread(work)


def _create_here(path: Path, sysctls: dict[str, str]) -> None:
    """A new namespace for this thread, kept alive by a bind mount at `path`."""
    linux.unshare(linux.CLONE_NEWNET)
    path.touch(mode=0o444, exist_ok=False)
    linux.mount("/proc/thread-self/ns/net", path, flags=linux.MS_BIND)
    for key, value in sysctls.items():
        setting = Path("/proc/sys") / key
        if setting.exists():  # no IPv6 in this kernel: the addresses will say so
            setting.write_text(value, encoding="ascii")


def remove_namespace(path: Path) -> None:
    """Unmount as often as it is mounted here, and remove the file; namespaces in use live until their users end."""
    while path in linux.mount_points():
        linux.unmount(path)
    path.unlink(missing_ok=True)


def connect(plan: Plan) -> None:
    """Links, addresses and routes, and the translation of services."""
    for node in plan.nodes:
        _batch(node.netns_path.name, _node_lines(plan, node))
    for node in plan.nodes:
        _batch(node.netns_path.name, _neighbour_lines(plan, node))
    inner = [(plan.world_netns.name, list(_world_lines(plan)))]
    for pod in plan.pods:
        inner.append((pod.netns, list(_pod_lines(plan, pod))))
    # The kernel does one such change at a time; two processes hide each other's start-up.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in pool.map(lambda work: _batch(*work), inner):
            pass
    if plan.services:
        for node in plan.nodes:
            _translate(plan, node)


def _node_lines(plan: Plan, node: PlannedNode) -> Iterator[str]:
    v4, v6 = node.address
    yield "link set lo up"
    yield f"address add {v4}/32 dev lo"
    yield f"address add {v6}/128 dev lo nodad"
    for pod in plan.pods:
        if pod.spec.node != node.ref:
            continue
        yield f"link add {pod.interface} type veth peer name eth0 netns {pod.netns}"
        yield f"link set {pod.interface} addrgenmode none"
        yield f"link set {pod.interface} up"
        yield f"address add fe80::1/64 dev {pod.interface} nodad"
        yield f"route add {pod.v4}/32 dev {pod.interface} src {v4}"
        yield f"route add {pod.v6}/128 dev {pod.interface} src {v6}"
    (up4, up6), (world4, world6) = node.uplink, node.world_end
    yield f"link add {UPLINK} type veth peer name {node.world_interface} netns {plan.world_netns.name}"
    yield f"link set {UPLINK} up"
    yield f"address add {up4} peer {world4} dev {UPLINK}"
    yield f"address add {up6} peer {world6} dev {UPLINK} nodad"
    yield f"route add default via {world4} dev {UPLINK}"
    # onlink: the carrier comes a moment after both ends are up, and IPv6 believes in no gateway before.
    yield f"route add default via {world6} dev {UPLINK} onlink"
    for other in plan.nodes[node.number :]:
        yield f"link add {node.link_to(other)} type veth peer name {other.link_to(node)} netns {other.netns_path.name}"


def _neighbour_lines(plan: Plan, node: PlannedNode) -> Iterator[str]:
    """From every node a veth to every other, and routes to that one's pods."""
    v4, v6 = node.address
    for other in plan.nodes:
        if other is node:
            continue
        device, (there4, there6) = node.link_to(other), other.address
        yield f"link set {device} addrgenmode none"
        yield f"link set {device} up"
        yield f"address add fe80::{node.number}/64 dev {device} nodad"
        yield f"route add {there4}/32 dev {device} src {v4}"
        yield f"route add {there6}/128 via fe80::{other.number} dev {device} onlink src {v6}"
        for pod in plan.pods:
            if pod.spec.node == other.ref:
                yield f"route add {pod.v4}/32 via {there4} dev {device} onlink src {v4}"
                yield f"route add {pod.v6}/128 via fe80::{other.number} dev {device} onlink src {v6}"


def _pod_lines(plan: Plan, pod: PlannedPod) -> Iterator[str]:
    gateway, v4, v6 = plan.node_of(pod).address[0], pod.v4, pod.v6
    yield "link set lo up"
    yield f"address add {v4}/32 dev eth0"
    yield f"address add {v6}/128 dev eth0 nodad"
    yield "link set eth0 up"
    yield f"route add {gateway} dev eth0 scope link src {v4}"
    yield f"route add default via {gateway} dev eth0 src {v4}"
    yield f"route add default via fe80::1 dev eth0 src {v6}"


def add_outside(world: str, addresses: Iterable[str]) -> None:
    """Addresses of the outside world that came later; those that are there stay."""
    _batch(world, (f"address replace {_host_prefix(address)} dev lo" for address in addresses))


def _host_prefix(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _world_lines(plan: Plan) -> Iterator[str]:
    yield "link set lo up"
    for host in plan.hosts:
        for address in host.addresses:
            yield f"address replace {_host_prefix(address)} dev lo"  # hosts may share addresses
    for node in plan.nodes:
        (up4, up6), (world4, world6), device = node.uplink, node.world_end, node.world_interface
        yield f"link set {device} up"
        yield f"address add {world4} peer {up4} dev {device}"
        yield f"address add {world6} peer {up6} dev {device} nodad"
        yield f"route add {node.address[0]}/32 via {up4} dev {device}"
        yield f"route add {node.address[1]}/128 via {up6} dev {device} onlink"
        for pod in plan.pods:
            if pod.spec.node == node.ref and node is not plan.node:
                yield f"route add {pod.v4}/32 via {up4} dev {device}"
                yield f"route add {pod.v6}/128 via {up6} dev {device} onlink"
    # The way back to the pods, without address translation: who asked stays visible. Last, or it would cover gateways.
    (up4, up6), device = plan.node.uplink, plan.node.world_interface
    yield f"route add {plan.ranges.v4} via {up4} dev {device}"
    yield f"route add {plan.ranges.v6} via {up6} dev {device} onlink"


def _translate(plan: Plan, node: PlannedNode) -> None:
    """What kube-proxy does in its nftables mode: a packet to a service goes to one of its pods."""
    lines = ["table inet services {", "  chain translate {"]
    lines += [f"    {rule}" for service in plan.services for rule in _service_rules(service)]
    lines += [
        "  }",
        "  chain forwarded {",
        "    type nat hook prerouting priority dstnat;",
        "    jump translate",
        "  }",
        "  chain own {",
        "    type nat hook output priority -100;",
        "    jump translate",
        "  }",
        "  chain hairpin {",
        "    type nat hook postrouting priority srcnat;",
        *(
            f"    ct status dnat ip{'6' * (address.version == 6)} saddr {address} "
            f"ip{'6' * (address.version == 6)} daddr {address} masquerade"
            for pod in plan.pods
            for address in (pod.v4, pod.v6)
        ),
        "  }",
        "}",
    ]
    command = ["ip", "netns", "exec", node.netns_path.name, "nft", "-f", "-"]
    text = "\n".join(lines) + "\n"
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True)
    except OSError as error:
        raise LabError(f"{command[0]}: {error.strerror}", "`make setup` installs it") from error
    if done.returncode != 0:
        hint = done.stderr.strip() or "by hand: apt-get install nftables"
        raise LabError(f"translating services on {node.ref} failed", hint)


def _service_rules(service: PlannedService) -> Iterator[str]:
    for port in service.spec.ports:
        for own, v6 in ((service.v4, False), (service.v6, True)):
            word, backends = "ip6" if v6 else "ip", []
            for pod in service.pods:
                target = port.target_in(pod.spec)
                backends.append(f"{pod.v6 if v6 else pod.v4} . {target}")
            if not backends:
                continue
            chosen = ", ".join(f"{number} : {backend}" for number, backend in enumerate(backends))
            yield (
                f"{word} daddr {own} {port.protocol.lower()} dport {port.port} "
                f"dnat {word} to numgen inc mod {len(backends)} map {{ {chosen} }}"
            )


def _batch(netns: str, lines: Iterable[str]) -> None:
    text = "\n".join(lines) + "\n"
    done = subprocess.run(["ip", "-n", netns, "-batch", "-"], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"setting up the network of {netns} failed", done.stderr.strip())
