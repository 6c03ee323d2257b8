"""Addresses as the maps hold them: 16 bytes, IPv4 as ::ffff:a.b.c.d."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = b"\0" * 10 + b"\xff\xff"
_MAPPED_NETWORK = IPv6Network("::ffff:0:0/96")


def pack_address(address: Address) -> bytes:
    return _MAPPED + address.packed if address.version == 4 else address.packed


def unpack_address(data: bytes) -> Address:
    return IPv4Address(data[12:16]) if data[:12] == _MAPPED else IPv6Address(data)


def pack_network(network: Network) -> tuple[int, bytes]:
    """Prefix length in the 128-bit key, and the address."""
    if network.version == 4:
        return network.prefixlen + 96, _MAPPED + network.network_address.packed
    return network.prefixlen, network.network_address.packed


def unpack_network(prefix: int, data: bytes) -> Network:
    if data[:12] == _MAPPED and prefix >= 96:
        return IPv4Network((data[12:16], prefix - 96))
    return IPv6Network((data, prefix))


def is_mapped(network: Network) -> bool:
    """An IPv6 prefix inside ::ffff:0:0/96, where the maps hold IPv4. No packet that the programs let on lies in it."""
    return network.version == 6 and network.subnet_of(_MAPPED_NETWORK)
