"""Which interface is the node's end of an endpoint's veth."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpf.netlink import Netlink


def fingerprint() -> tuple[object, ...]:
    """Differs whenever interfaces or addresses of this namespace do (routes, too). Cheap enough to ask every second:
    a netlink dump of a hundred links takes tens of milliseconds in Python.
    """
    addresses = []
    for name in ("fib_trie", "if_inet6"):  # the local table lists every IPv4 address of the node
        path = Path("/proc/thread-self/net") / name
        addresses.append(path.read_bytes() if path.exists() else b"")
    return (*socket.if_nameindex(), *addresses)


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    kind: str
    peer_namespace: int | None  # the kernel's id for the namespace of the other end


class LinkTable:
    """The links of this namespace at one moment."""

    def __init__(self, ip: Netlink) -> None:
        self._ip = ip
        self.links = [_link(message) for message in ip.get_links()]
        self._by_name = {link.name: link for link in self.links}

    def by_name(self, name: str) -> int | None:
        link = self._by_name.get(name)
        return link.index if link else None

    def by_namespace(self, where: str) -> int | str:
        """The index of the one veth that leads into the namespace (a path or a pid), or why there is none."""
        path = Path(f"/proc/{where}/ns/net") if where.isdecimal() else Path(where)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return f"{path}: {error.strerror}"
        try:
            answer = self._ip.get_netnsid(fd=fd)
        finally:
            os.close(fd)
        number = int(answer["nsid"])
        found = [link for link in self.links if link.kind == "veth" and link.peer_namespace == number and number >= 0]
        if not found:
            return f"no veth of this node leads into {where}"
        if len(found) > 1:
            names = ", ".join(sorted(link.name for link in found))
            return f"several veths lead into {where} ({names}): name the right one with `interface`"
        return found[0].index


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=int(message["index"]),
        name=str(message.get_attr("IFLA_IFNAME")),
        kind=str(info.get_attr("IFLA_INFO_KIND") if info is not None else ""),
        peer_namespace=message.get_attr("IFLA_LINK_NETNSID"),
    )
