"""Reads `proxy_conns`: what the kernel knew about a connection when it handed it to the proxy.

Workers use this on a descriptor inherited from the agent; one system call per accepted connection.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from ipaddress import ip_address
from socket import IPPROTO_TCP, AddressFamily
from typing import Final

from bpf.addresses import pack_address
from bpf.maps import BpfMap
from bpf.structs import Connection, Tuple, address_bytes, port_bytes


class Redirected(IntFlag):
    """Whose rules asked for the proxy."""

    INGRESS = 1  # the destination's
    EGRESS = 2  # the source's


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """Endpoints are 0 where that side is not on this node. `ifindex` is where the connection was seen."""

    source_endpoint: int
    destination_endpoint: int
    source_identity: int
    destination_identity: int
    flags: Redirected
    ifindex: int


_FLAGS: Final = tuple(Redirected(number) for number in range(4))
_FAMILIES: Final = (AddressFamily.AF_INET, AddressFamily.AF_INET6)


def connection_key(source: tuple[str, int], destination: tuple[str, int], protocol: int = IPPROTO_TCP) -> Tuple:
    """The tuple as its first packet carried it. Link-local addresses lose their scope."""
    return Tuple(
        source=_address(source[0]),
        destination=_address(destination[0]),
        source_port=port_bytes(source[1]),
        destination_port=port_bytes(destination[1]),
        protocol=protocol,
    )


@lru_cache(maxsize=4096)
def _address(text: str) -> ctypes.Array[ctypes.c_uint8]:
    """Connections have the same few ends again and again. It is copied into each key."""
    return address_bytes(pack_address(ip_address(text.partition("%")[0])))


class ConnectionTable:
    """`proxy_conns` by descriptor."""

    def __init__(self, fd: int) -> None:
        self._map = BpfMap("proxy_conns", fd, Tuple, Connection)

    def lookup(
        self, family: int, client: tuple[str, int], server: tuple[str, int], protocol: int = IPPROTO_TCP
    ) -> ConnectionFacts | None:
        """Facts of the connection that `client` opened to `server` (the accepted socket's peer and own address).

        None: the kernel redirected no such connection, so whoever it is came another way and must be refused.
        """
        if family not in _FAMILIES:
            return None
        found = self._map.get(connection_key(client, server, protocol))
        if found is None:
            return None
        return ConnectionFacts(
            source_endpoint=found.source_endpoint,
            destination_endpoint=found.destination_endpoint,
            source_identity=found.source_identity,
            destination_identity=found.destination_identity,
            flags=_FLAGS[found.flags & 3],
            ifindex=found.ifindex,
        )
