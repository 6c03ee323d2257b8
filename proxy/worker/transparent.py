"""Sockets whose addresses are not the node's: ip(7) IP_TRANSPARENT, ipv6(7), socket(7) SO_MARK.

The mark tells the programs at the pods' interfaces that what leaves by them is the proxy's.
"""

from __future__ import annotations

import socket
from typing import Final

from proxy.datapath import MARK_FROM_PROXY

IP_TRANSPARENT: Final = 19
IPV6_TRANSPARENT: Final = 75


def transparent_socket(
    family: socket.AddressFamily, kind: socket.SocketKind = socket.SOCK_STREAM, protocol: int = 0
) -> socket.socket:
    """A non-blocking socket that may use such addresses. Needs CAP_NET_ADMIN, a raw one CAP_NET_RAW."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        if family == socket.AF_INET6:
            if kind != socket.SOCK_RAW:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_FROM_PROXY)
    except OSError:
        sock.close()
        raise
    return sock
