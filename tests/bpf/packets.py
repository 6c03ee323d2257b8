"""Frames for the programs' tests, built byte by byte so that they can also be wrong."""

from __future__ import annotations

import struct
from ipaddress import ip_address

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

NODE_MAC = "02:00:00:00:00:02"
_MACS = bytes.fromhex(NODE_MAC.replace(":", "") + "020000000001")


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
    number: int = 1,
) -> bytes:
    total = 20 + len(body) if length is None else length
    header = struct.pack("!BBHHHBBH", 0x40 | ihl, 0, total, number, fragment, ttl, protocol, 0)
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


def fragment(following: int, place: int = 0, *, more: bool = False, number: int = 1) -> bytes:
    """A fragment header; `place` in units of 8 bytes."""
    return struct.pack("!BBHI", following, 0, place << 3 | more, number)


def piece(whole: bytes, number: int, place: int, *, more: bool, size: int = 8) -> bytes:
    """The fragment of a frame without options that begins at `place` (8 bytes each) and has `size` bytes."""
    v6 = whole[12:14] == b"\x86\xdd"
    header = 54 if v6 else 34
    body = whole[header:][place * 8 :][:size]
    if v6:
        head = whole[:18] + (len(body) + 8).to_bytes(2, "big") + b"\x2c" + whole[21:header]
        return head + fragment(whole[20], place, more=more, number=number) + body
    flags = place | (0x2000 if more else 0)
    head = whole[:16] + struct.pack("!HHH", 20 + len(body), number, flags) + whole[22:header]
    return head + body


def error(router: str, about: bytes, kind: int, code: int = 0, *, quoted: int = 64) -> bytes:
    """The ICMP error that `router` sends to the sender of the frame, quoting its first `quoted` bytes."""
    v6 = about[12:14] == b"\x86\xdd"
    sender = str(ip_address(about[22:38] if v6 else about[26:30]))
    body = struct.pack("!BBHI", kind, code, 0, 0) + about[14 : 14 + quoted]
    return ip(router, sender, ICMPV6 if v6 else ICMP, body)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def reset(
    source: str, source_port: int, destination: str, destination_port: int, sequence: int, ack: int | None
) -> bytes:
    """A TCP reset with right checksums."""
    flags = RST if ack is None else RST | ACK
    numbers = (source_port, destination_port, sequence, ack or 0, 0x50, flags, 0)
    both = ip_address(source).packed + ip_address(destination).packed
    pseudo = both + struct.pack("!II", 20, TCP)
    tcp_sum = checksum(pseudo + struct.pack("!HHIIBBHHH", *numbers, 0, 0))
    segment = struct.pack("!HHIIBBHHH", *numbers, tcp_sum, 0)
    if ":" in source:
        return ethernet(0x86DD, struct.pack("!IHBB", 6 << 28, 20, TCP, 64) + both + segment)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, TCP, 0) + both
    return ethernet(0x0800, header[:10] + checksum(header).to_bytes(2, "big") + both + segment)
