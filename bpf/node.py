"""What the node's network namespace needs besides programs: bounce device, rule, routes, sysctls.

    penstock0 <-> penstock1   veth; to_pod sends what needs a socket to penstock0's ingress, penstock1 is only its peer
    ip rule 9: fwmark 0x200/0xf00 lookup 2004;  table 2004: local default dev lo     (IPv4 and IPv6)
    net.ipv4.tcp_early_demux = 0    else packets for a transparent socket that arrive on an uplink carry that socket
    net.ipv4.udp_early_demux = 0    into forwarding, which drops them (both hold for IPv6 as well)

Where the node translates services, and may be behind one itself:

    ip rule 8: fwmark 0x2400/0x2f00 lookup 2005;  table 2005: default dev penstock1
    ip rule 100: lookup local       in the place of rule 0, which would deliver such packets before

All of it is made if absent and left alone if present, and `remove` takes away exactly this.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from bpf.addresses import Address
from bpf.errors import AttachError
from bpf.marks import (
    BOUNCE_DEVICE,
    BOUNCE_PEER,
    LOCAL_RULE_PRIORITY,
    MARK_MASK,
    MARK_SERVICE,
    MARK_TO_PROXY,
    MARK_TO_SELF,
    ROUTE_TABLE,
    RULE_PRIORITY,
    SERVICE_RULE_PRIORITY,
    SERVICE_TABLE,
)
from bpf.netlink import Netlink, attempt

_SYSCTL: Final = Path("/proc/sys/net")
_EARLY_DEMUX: Final = ("ipv4/tcp_early_demux", "ipv4/udp_early_demux")
_RTN_LOCAL: Final = 2
_TABLE_LOCAL: Final = 255
_SCOPE_HOST: Final = 254
_ADDR_GEN_NONE: Final = 1
# RFC 7600: the IPv4 dummy address. A device without any IPv4 address fails even a loose reverse-path check; scope
# host keeps this one from ever being chosen as a source.
_DUMMY_ADDRESS: Final = "192.0.0.8"
_FAMILIES: Final = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}

# penstock0 takes packets from anywhere: loose reverse path (the larger of `all` and the device's own counts), and the
# node's own addresses as source, when the node itself is the client. No addresses, no listener reports of its own.
_DEVICE_SYSCTLS: Final = (
    (f"ipv4/conf/{BOUNCE_DEVICE}/rp_filter", "2"),
    (f"ipv4/conf/{BOUNCE_DEVICE}/accept_local", "1"),
    (f"ipv6/conf/{BOUNCE_DEVICE}/accept_ra", "0"),
    (f"ipv6/conf/{BOUNCE_DEVICE}/addr_gen_mode", str(_ADDR_GEN_NONE)),
    (f"ipv6/conf/{BOUNCE_PEER}/accept_ra", "0"),
    (f"ipv6/conf/{BOUNCE_PEER}/addr_gen_mode", str(_ADDR_GEN_NONE)),
)


def has_ipv6() -> bool:
    return (_SYSCTL / "ipv6").is_dir()


def read_sysctl(name: str) -> str:
    return (_SYSCTL / name).read_text().strip()


def _write_sysctl(name: str, value: str) -> None:
    path = _SYSCTL / name
    if not path.exists() and name.startswith("ipv6/"):
        return
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError as error:
        raise AttachError(f"sysctl net/{name} = {value}: {error.strerror}") from error


def _families() -> list[socket.AddressFamily]:
    return [socket.AF_INET, socket.AF_INET6] if has_ipv6() else [socket.AF_INET]


def ensure_bounce_device(ip: Netlink) -> int:
    """penstock0's ifindex; made if it is not there."""
    veth = {"ifname": BOUNCE_DEVICE, "kind": "veth", "peer": {"ifname": BOUNCE_PEER}}
    attempt(f"create {BOUNCE_DEVICE}", (errno.EEXIST,), ip.link, "add", **veth)
    indexes = {name: ip.link_lookup(ifname=name) for name in (BOUNCE_DEVICE, BOUNCE_PEER)}
    if not all(indexes.values()):
        raise AttachError(f"{BOUNCE_DEVICE} exists but {BOUNCE_PEER} does not: a device of somebody else's?")
    for name, value in _DEVICE_SYSCTLS:
        _write_sysctl(name, value)
    for name, found in indexes.items():
        index = int(found[0])
        # No ARP, no neighbour discovery: whatever is sent into one end is meant for the other.
        attempt(f"bring {name} up", (), ip.link, "set", index=index, state="up", arp=False)
    bounce = int(indexes[BOUNCE_DEVICE][0])
    dummy = {"index": bounce, "address": _DUMMY_ADDRESS, "prefixlen": 32, "scope": _SCOPE_HOST}
    attempt(f"give {BOUNCE_DEVICE} an address", (errno.EEXIST,), ip.addr, "add", **dummy)
    return bounce


def ensure_routing(ip: Netlink) -> None:
    """Marked packets are for this node, whatever their destination."""
    loopback = int(ip.link_lookup(ifname="lo")[0])
    for family in _families():
        words = _FAMILIES[family]
        route = f"{words} route in table {ROUTE_TABLE} (is lo up?)"
        attempt(route, (), ip.route, "replace", **_route(family, loopback))
        attempt(f"{words} rule {RULE_PRIORITY}", (errno.EEXIST,), ip.rule, "add", **_rule(family))


def ensure_service_routing(ip: Netlink) -> None:
    """What a service leads to the node itself takes the way through penstock1."""
    peer = int(ip.link_lookup(ifname=BOUNCE_PEER)[0])
    _write_sysctl(f"ipv6/conf/{BOUNCE_PEER}/disable_ipv6", "0")
    for family in _families():
        words = _FAMILIES[family]
        route = f"{words} route in table {SERVICE_TABLE}"
        attempt(route, (), ip.route, "replace", **_service_route(family, peer))
        attempt(f"{words} rule {SERVICE_RULE_PRIORITY}", (errno.EEXIST,), ip.rule, "add", **_service_rule(family))
        if _has_local_rule(ip, family, 0):
            moved = f"move {words} rule 0 to {LOCAL_RULE_PRIORITY}"
            attempt(moved, (errno.EEXIST,), ip.rule, "add", **_local_rule(family, LOCAL_RULE_PRIORITY))
            attempt(moved, (errno.ENOENT,), ip.rule, "del", **_local_rule(family, 0))


def remove_service_routing(ip: Netlink) -> list[str]:
    """Back to how it was, if the rule of ours is there. Says what was."""
    removed: list[str] = []
    gone = (errno.ENOENT, errno.ESRCH, errno.ENODEV)
    for family in _families():
        words = _FAMILIES[family]
        rule = f"{words} rule {SERVICE_RULE_PRIORITY}"
        if not attempt(f"remove {rule}", gone, ip.rule, "del", **_service_rule(family)):
            continue
        removed.append(rule)
        peers = ip.link_lookup(ifname=BOUNCE_PEER)
        if peers:
            route = f"{words} route of table {SERVICE_TABLE}"
            if attempt(f"remove {route}", gone, ip.route, "del", **_service_route(family, int(peers[0]))):
                removed.append(route)
        if not _has_local_rule(ip, family, 0):
            back = f"{words} rule for the table local, back from {LOCAL_RULE_PRIORITY} to 0"
            attempt(back, (errno.EEXIST,), ip.rule, "add", **_local_rule(family, 0))
            attempt(back, gone, ip.rule, "del", **_local_rule(family, LOCAL_RULE_PRIORITY))
            removed.append(back)
    return removed


def _service_route(family: int, peer: int) -> dict[str, object]:
    return {"family": family, "table": SERVICE_TABLE, "dst": "default", "oif": peer}


def _service_rule(family: int) -> dict[str, object]:
    rule: dict[str, object] = {"family": family, "priority": SERVICE_RULE_PRIORITY, "table": SERVICE_TABLE}
    return rule | {"fwmark": MARK_SERVICE | MARK_TO_SELF, "fwmask": MARK_MASK | MARK_TO_SELF}


def _local_rule(family: int, priority: int) -> dict[str, object]:
    return {"family": family, "priority": priority, "table": _TABLE_LOCAL}


def _has_local_rule(ip: Netlink, family: int, priority: int) -> bool:
    return any(
        (rule.get_attr("FRA_PRIORITY") or 0) == priority and rule.get_attr("FRA_TABLE") == _TABLE_LOCAL
        for rule in ip.get_rules(family=family)
    )


def _route(family: int, loopback: int) -> dict[str, object]:
    route: dict[str, object] = {
        "family": family,
        "table": ROUTE_TABLE,
        "type": _RTN_LOCAL,
        "dst": "default",
        "oif": loopback,
    }
    if family == socket.AF_INET:
        route["scope"] = _SCOPE_HOST
    return route


def _rule(family: int) -> dict[str, object]:
    rule: dict[str, object] = {"family": family, "priority": RULE_PRIORITY, "table": ROUTE_TABLE}
    return rule | {"fwmark": MARK_TO_PROXY, "fwmask": MARK_MASK}


def disable_early_demux(saved: int = 0) -> int:
    """Switch it off. `saved` is what an earlier call returned, 0 for none: two bits for each sysctl, its value before
    plus one; so is the result, which keeps what was saved.
    """
    for place, name in enumerate(_EARLY_DEMUX):
        if not saved >> 2 * place & 3:
            saved |= (int(read_sysctl(name)) + 1) << 2 * place
        _write_sysctl(name, "0")
    return saved


def restore_early_demux(saved: int) -> list[str]:
    """Back to what `disable_early_demux` found. Says what was done."""
    done = []
    for place, name in enumerate(_EARLY_DEMUX):
        value = (saved >> 2 * place & 3) - 1
        if value >= 0:
            _write_sysctl(name, str(value))
            done.append(f"sysctl net.{name.replace('/', '.')} back to {value}")
    return done


def remove(ip: Netlink) -> list[str]:
    """Take away device, rules and routes. Says what was there."""
    removed = remove_service_routing(ip)
    gone = (errno.ENOENT, errno.ESRCH, errno.ENODEV)

    def undo(words: str, action: Callable[..., object], *what: object, **how: object) -> None:
        if attempt(f"remove {words}", gone, action, *what, **how):
            removed.append(words)

    loopback = int(ip.link_lookup(ifname="lo")[0])
    for family in _families():
        words = _FAMILIES[family]
        undo(f"{words} rule {RULE_PRIORITY}", ip.rule, "del", **_rule(family))
        undo(f"{words} route of table {ROUTE_TABLE}", ip.route, "del", **_route(family, loopback))
    for index in ip.link_lookup(ifname=BOUNCE_DEVICE):
        undo(f"devices {BOUNCE_DEVICE} and {BOUNCE_PEER}", ip.link, "del", index=index)
    return removed


def host_addresses(ip: Netlink) -> set[Address]:
    """Every address of this namespace's own interfaces."""
    found: set[Address] = set()
    for message in ip.get_addr():
        # IFA_LOCAL is the own end of a point-to-point link; IPv6 has IFA_ADDRESS only.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if text:
            found.add(ip_address(text))
    return found
