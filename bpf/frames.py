"""What the programs read out of a frame, in Python: the parsing half of the reference model (lib/parse.h)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from bpf.addresses import Address
from bpf.reasons import DropReason

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_ETHERNET: Final = 14
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _NONE, _OPTIONS = 0, 43, 44, 51, 59, 60
_MAX_EXTENSION_HEADERS: Final = 4
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
# type of request, type of reply
_ECHO: Final = {ICMP: (8, 0), ICMPV6: (128, 129)}
_ERRORS: Final = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}


class Role(Enum):
    """How a packet stands to its flow."""

    ANY = "may begin a flow or continue one"
    OPENS = "only its sender can be the initiator"
    CONTINUES = "cannot begin a flow"
    SINGLE = "belongs to no flow"
    ERROR = "belongs to the flow of the packet that it quotes"


class FragmentKind(Enum):
    NONE = "whole"
    FIRST = "has the ports"
    LATER = "has those of the first"


@dataclass(frozen=True, slots=True)
class Datagram:
    """What fragments of one datagram have in common."""

    source: Address
    destination: Address
    id: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Quoted:
    """The packet that an ICMP error is about, as its sender sent it."""

    source: Address
    destination: Address
    protocol: int
    ports: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Arp:
    """`sender` None: the frame is malformed."""

    sender: IPv4Address | None


@dataclass(frozen=True, slots=True)
class Packet:
    """`policy_port` is what rules call the port, seen from the sender. `ports` identify the flow."""

    source: Address
    destination: Address
    protocol: int
    ports: tuple[int, int] = (0, 0)
    policy_port: int = 0
    role: Role = Role.ANY
    tcp_flags: int = 0
    icmp_type: int = 0
    hop_limit: int = 64
    fragment: FragmentKind = FragmentKind.NONE
    datagram: Datagram | None = None
    quoted: Quoted | None = None


Fragments = Mapping[Datagram, Packet]
"""First fragments that were let through."""


def parse(frame: bytes, fragments: Fragments) -> Packet | Arp | DropReason:
    """The packet, or the reason why the programs let no such frame through."""
    ethertype = int.from_bytes(frame[12:14], "big")
    body = frame[_ETHERNET:]
    if ethertype == _IPV4:
        return _parse_ipv4(body, fragments)
    if ethertype == _IPV6:
        return _parse_ipv6(body, fragments)
    if ethertype == _ARP:
        return _parse_arp(body)
    return DropReason.UNSUPPORTED_L3_PROTOCOL


def _parse_arp(body: bytes) -> Arp:
    # RFC 826, for IPv4 over Ethernet: protocol, the two lengths, sender.
    if len(body) < 18 or body[2:6] != b"\x08\x00\x06\x04":
        return Arp(None)
    return Arp(IPv4Address(body[14:18]))


def _parse_ipv4(body: bytes, fragments: Fragments) -> Packet | DropReason:
    if len(body) < 20 or body[0] != 0x45:
        return DropReason.INVALID_PACKET_DROPPED
    total = int.from_bytes(body[2:4], "big")
    if not 20 <= total <= len(body):
        return DropReason.INVALID_PACKET_DROPPED
    base = Packet(IPv4Address(body[12:16]), IPv4Address(body[16:20]), body[9], hop_limit=body[8])
    fragment = int.from_bytes(body[6:8], "big")
    if fragment & 0x3FFF:
        datagram = Datagram(base.source, base.destination, int.from_bytes(body[4:6], "big"), base.protocol)
        if fragment & 0x1FFF:
            return _later_fragment(base, datagram, fragment & 0x1FFF, fragments)
        base = replace(base, fragment=FragmentKind.FIRST, datagram=datagram)
    return _parse_l4(base, body[20:])


def _later_fragment(base: Packet, datagram: Datagram, place: int, fragments: Fragments) -> Packet | DropReason:
    """`place` in units of 8 bytes: the second such unit of a TCP header holds its flags (RFC 3128)."""
    first = fragments.get(datagram)
    if first is None or (first.protocol == TCP and place == 1):
        return DropReason.IP_FRAGMENTATION_NOT_SUPPORTED
    role = {Role.OPENS: Role.CONTINUES, Role.ERROR: Role.SINGLE}.get(first.role, first.role)
    return replace(
        base,
        protocol=first.protocol,
        ports=first.ports,
        policy_port=first.policy_port,
        role=role,
        fragment=FragmentKind.LATER,
        datagram=datagram,
    )


def _parse_ipv6(body: bytes, fragments: Fragments) -> Packet | DropReason:
    if len(body) < 40 or body[0] >> 4 != 6:
        return DropReason.INVALID_PACKET_DROPPED
    source, destination = IPv6Address(body[8:24]), IPv6Address(body[24:40])
    if source in _MAPPED:
        return DropReason.INVALID_SOURCE_IP
    if destination in _MAPPED or int.from_bytes(body[4:6], "big") + 40 > len(body):
        return DropReason.INVALID_PACKET_DROPPED
    following, rest = body[6], body[40:]
    base = Packet(source, destination, following, hop_limit=body[7])
    for number in range(_MAX_EXTENSION_HEADERS + 1):
        if following == _NONE or (following == _FRAGMENT and base.datagram is not None):
            return DropReason.INVALID_IPV6_EXTENSION_HEADER
        if following not in (_HOP_BY_HOP, _ROUTING, _OPTIONS, _AUTHENTICATION, _FRAGMENT):
            return _parse_l4(replace(base, protocol=following), rest)
        if number == _MAX_EXTENSION_HEADERS:
            break
        if len(rest) < 8:
            return DropReason.INVALID_PACKET_DROPPED
        if following == _ROUTING and rest[2] == 0:
            return DropReason.INVALID_IPV6_EXTENSION_HEADER
        length = (rest[1] + 2) * 4 if following == _AUTHENTICATION else (rest[1] + 1) * 8
        if following == _FRAGMENT:
            length, place = 8, int.from_bytes(rest[2:4], "big")
            base = replace(base, datagram=Datagram(source, destination, int.from_bytes(rest[4:8], "big"), rest[0]))
            if place >> 3:
                assert base.datagram is not None
                return _later_fragment(base, base.datagram, place >> 3, fragments)
            if place & 1:
                base = replace(base, fragment=FragmentKind.FIRST)
        following, rest = rest[0], rest[length:]
    return DropReason.INVALID_IPV6_EXTENSION_HEADER


def _parse_l4(base: Packet, rest: bytes) -> Packet | DropReason:
    if base.protocol in (ICMP, ICMPV6) and (base.protocol == ICMP) == (base.source.version == 4):
        return _parse_icmp(base, rest)
    if base.protocol not in (TCP, UDP, SCTP):
        return DropReason.UNKNOWN_L4_PROTOCOL
    if len(rest) < (14 if base.protocol == TCP else 4):
        return DropReason.INVALID_PACKET_DROPPED
    ports = (int.from_bytes(rest[0:2], "big"), int.from_bytes(rest[2:4], "big"))
    role, flags = Role.ANY, 0
    if base.protocol == TCP:
        flags = rest[13]
        role = Role.OPENS if flags & (SYN | ACK | RST | FIN) == SYN else Role.CONTINUES
    return replace(base, ports=ports, policy_port=ports[1], role=role, tcp_flags=flags)


def _parse_icmp(base: Packet, rest: bytes) -> Packet | DropReason:
    if len(rest) < 8:
        return DropReason.INVALID_PACKET_DROPPED
    kind = rest[0]
    request, reply = _ECHO[base.protocol]
    role, ports = Role.SINGLE, (0, 0)
    if kind in (request, reply):
        identifier = int.from_bytes(rest[4:6], "big")
        role, ports = Role.OPENS if kind == request else Role.CONTINUES, (identifier, identifier)
    quoted = None
    if kind in _ERRORS[base.protocol]:
        role, quoted = Role.ERROR, _quoted(rest[8:], base.source.version)
    return replace(base, ports=ports, policy_port=kind, role=role, icmp_type=kind, quoted=quoted)


def _quoted(body: bytes, version: int) -> Quoted | None:
    """None: it can not be read, or never was a packet of a flow."""
    length = 20 if version == 4 else 40
    if len(body) < length or body[0] >> 4 != version:
        return None
    source: Address
    destination: Address
    if version == 4:
        if body[0] & 0xF < 5 or int.from_bytes(body[6:8], "big") & 0x1FFF:
            return None
        length = (body[0] & 0xF) * 4
        source, destination, protocol = IPv4Address(body[12:16]), IPv4Address(body[16:20]), body[9]
    else:
        source, destination, protocol = IPv6Address(body[8:24]), IPv6Address(body[24:40]), body[6]
    rest = body[length : length + 8]
    if len(rest) < 8 or protocol not in (TCP, UDP, SCTP, ICMP, ICMPV6):
        return None
    ports = int.from_bytes(rest[0:2], "big"), int.from_bytes(rest[2:4], "big")
    if protocol in _ECHO:
        ports = (int.from_bytes(rest[4:6], "big"),) * 2
    return Quoted(source, destination, protocol, ports)


def echo_request_type(protocol: int) -> int | None:
    """The port that rules see when the flow's initiator pings; None for protocols with ports."""
    return _ECHO[protocol][0] if protocol in _ECHO else None


def is_neighbour_discovery(packet: Packet) -> bool:
    """RFC 4861 §7.1: hop limit 255 proves it crossed no router."""
    return packet.protocol == ICMPV6 and packet.hop_limit == 255 and 133 <= packet.icmp_type <= 136


def is_listener_discovery(packet: Packet) -> bool:
    """RFC 2710, RFC 3810: stays on the link."""
    return (
        packet.protocol == ICMPV6
        and is_link_multicast(packet.destination)
        and (130 <= packet.icmp_type <= 132 or packet.icmp_type == 143)
    )


def is_link_multicast(address: Address) -> bool:
    return address.version == 6 and address.packed[0] == 0xFF and address.packed[1] & 0x0F == 0x02
