"""Where the endpoints of a snapshot are on this node: which interface is whose, and which lead elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bpf import node
from bpf.addresses import Address
from bpf.links import LinkTable
from bpf.marks import BOUNCE_DEVICE
from bpf.netlink import Netlink
from config.policy.resolved import Endpoint, Snapshot


@dataclass(frozen=True, slots=True)
class Placement:
    """Where local endpoints are attached: endpoint id → interface index, or why there is none. `asked`: by what."""

    asked: Mapping[int, tuple[str, str]]
    found: Mapping[int, int]
    missing: Mapping[int, str]
    hosts: frozenset[Address]  # the node's own addresses
    ways_out: frozenset[int]  # interfaces that lead neither to a pod nor nowhere


def place(ip: Netlink, snapshot: Snapshot) -> Placement:
    links = LinkTable(ip)
    found: dict[int, int] = {}
    missing: dict[int, str] = {}
    taken: dict[int, int] = {}
    for endpoint in snapshot.endpoints.values():
        if not endpoint.is_local:
            continue
        ifindex = _find_interface(links, endpoint)
        if isinstance(ifindex, str):
            missing[endpoint.id] = ifindex
        elif ifindex in taken:
            missing[endpoint.id] = f"its interface already belongs to endpoint {taken[ifindex]}"
        else:
            found[endpoint.id] = ifindex
            taken[ifindex] = endpoint.id
    ways_out = {link.index for link in links.links if link.name not in ("lo", BOUNCE_DEVICE)}
    hosts = frozenset(node.host_addresses(ip))
    return Placement(asked(snapshot), found, missing, hosts, frozenset(ways_out.difference(found.values())))


def asked(snapshot: Snapshot) -> dict[int, tuple[str, str]]:
    """Endpoint id → what its interface is found by, of local endpoints."""
    return {one.id: (one.interface, one.netns) for one in snapshot.endpoints.values() if one.is_local}


def _find_interface(links: LinkTable, endpoint: Endpoint) -> int | str:
    if endpoint.interface:
        ifindex = links.by_name(endpoint.interface)
        return ifindex if ifindex is not None else f"no interface {endpoint.interface}"
    return links.by_namespace(endpoint.netns)
