"""Frames for the programs' tests, built byte by byte so that they can also be wrong."""

from __future__ import annotations

import struct
from ipaddress import ip_address

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

_MACS = bytes.fromhex("020000000002020000000001")


def ethernet(ethertype: int, body: bytes) -> bytes:
    return _MACS + ethertype.to_bytes(2, "big") + body


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    body: bytes,
    *,
    fragment: int = 0,
    ttl: int = 64,
    ihl: int = 5,
    length: int | None = None,
) -> bytes:
    total = 20 + len(body) if length is None else length
    header = struct.pack("!BBHHHBBH", 0x40 | ihl, 0, total, 1, fragment, ttl, protocol, 0)
    return ethernet(0x0800, header + ip_address(source).packed + ip_address(destination).packed + body)


def ipv6(
    source: str, destination: str, following: int, body: bytes, *, hop_limit: int = 64, length: int | None = None
) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(body) if length is None else length, following, hop_limit)
    return ethernet(0x86DD, header + ip_address(source).packed + ip_address(destination).packed + body)


def ip(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    return (ipv6 if ":" in source else ipv4)(source, destination, protocol, body)


def tcp_header(source_port: int, destination_port: int, flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 0, 0x50, flags, 1024, 0, 0)


def tcp(source: str, source_port: int, destination: str, destination_port: int, flags: int = SYN) -> bytes:
    return ip(source, destination, TCP, tcp_header(source_port, destination_port, flags))


def udp(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    return ip(source, destination, UDP, struct.pack("!HHHH", source_port, destination_port, 12, 0) + b"data")


def sctp(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    return ip(source, destination, SCTP, struct.pack("!HHII", source_port, destination_port, 0, 0))


def icmp(source: str, destination: str, kind: int, identifier: int = 7) -> bytes:
    body = struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + b"data"
    return ip(source, destination, ICMPV6 if ":" in source else ICMP, body)


def icmpv6(source: str, destination: str, kind: int, hop_limit: int) -> bytes:
    return ipv6(source, destination, ICMPV6, struct.pack("!BBHI", kind, 0, 0, 0) + bytes(16), hop_limit=hop_limit)


def arp(sender: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + _MACS[:6]
    return ethernet(0x0806, body + ip_address(sender).packed + bytes(6) + ip_address(target).packed)


def extension(following: int, length: int = 0, kind: int = 2) -> bytes:
    """One extension header of (length + 1) * 8 bytes; `kind` is where a routing header has its type."""
    return bytes([following, length, kind, 0]) + bytes(4 + length * 8)
