"""What the node's network namespace needs besides programs: bounce device, rule, routes, sysctls.

    penstock0 <-> penstock1   veth; to_pod sends what needs a socket to penstock0's ingress, penstock1 is only its peer
    ip rule 9: fwmark 0x200/0xf00 lookup 2004;  table 2004: local default dev lo     (IPv4 and IPv6)
    net.ipv4.tcp_early_demux = 0    else packets for a transparent socket that arrive on an uplink carry that socket
                                    into forwarding, which drops them

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
from bpf.marks import BOUNCE_DEVICE, BOUNCE_PEER, MARK_MASK, MARK_TO_PROXY, ROUTE_TABLE, RULE_PRIORITY
from bpf.netlink import Netlink, attempt

_SYSCTL: Final = Path("/proc/sys/net")
_EARLY_DEMUX: Final = "ipv4/tcp_early_demux"
_RTN_LOCAL: Final = 2
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
    (f"ipv6/conf/{BOUNCE_PEER}/disable_ipv6", "1"),
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
        attempt(f"bring {name} up", (), ip.link, "set", index=index, state="up")
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


def disable_early_demux() -> int:
    """Switch it off; the value found before."""
    found = int(read_sysctl(_EARLY_DEMUX))
    _write_sysctl(_EARLY_DEMUX, "0")
    return found


def restore_early_demux(value: int) -> str:
    _write_sysctl(_EARLY_DEMUX, str(value))
    return f"sysctl net.{_EARLY_DEMUX.replace('/', '.')} back to {value}"


def remove(ip: Netlink) -> list[str]:
    """Take away device, rules and routes. Says what was there."""
    removed: list[str] = []
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
