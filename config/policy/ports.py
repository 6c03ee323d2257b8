"""`toPorts[].ports` and `icmps` → `PortSpec`: numbers, ranges, names, protocols, ICMP types."""

from __future__ import annotations

import re

from config import codes
from config.findings import ValuePath
from config.policy.model import IcmpField, IcmpFields, PortProtocol
from config.policy.resolved import Protocol
from config.policy.rules import PortSpec
from config.policy.scope import Scope

MAX_PORTS = 40
MAX_ICMP_FIELDS = 40
LAST_PORT = 65535

_PROTOCOLS = {
    "TCP": (int(Protocol.TCP),),
    "UDP": (int(Protocol.UDP),),
    "SCTP": (int(Protocol.SCTP),),
    "ANY": (int(Protocol.TCP), int(Protocol.UDP), int(Protocol.SCTP)),
    "": (int(Protocol.TCP), int(Protocol.UDP), int(Protocol.SCTP)),
}
_EXTENDED = frozenset(("VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"))

# IANA service names (RFC 6335 §5.1): at least one letter, no hyphen at the ends or twice.
_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_NUMBER = re.compile(r"[0-9]+(_[0-9]+)*\Z")

_ICMP4 = {
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}
_ICMP6 = {
    "DestinationUnreachable": 1,
    "PacketTooBig": 2,
    "TimeExceeded": 3,
    "ParameterProblem": 4,
    "EchoRequest": 128,
    "EchoReply": 129,
    "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131,
    "MulticastListenerDone": 132,
    "RouterSolicitation": 133,
    "RouterAdvertisement": 134,
    "NeighborSolicitation": 135,
    "NeighborAdvertisement": 136,
    "RedirectMessage": 137,
    "RouterRenumbering": 138,
    "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140,
    "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142,
    "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145,
    "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147,
    "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158,
    "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}
_FAMILIES = {"IPv4": (Protocol.ICMP, _ICMP4), "IPv6": (Protocol.ICMPV6, _ICMP6)}


def read_ports(items: list[PortProtocol], scope: Scope, path: ValuePath) -> tuple[PortSpec, ...]:
    """All ports of one `toPorts` item; what is wrong is left out and found fault with."""
    if len(items) > MAX_PORTS:
        scope.add(codes.PORT_TOO_MANY, path, f"too many ports, the max is {MAX_PORTS}")
    specs = [read_port(item, scope, (*path, index)) for index, item in enumerate(items)]
    return tuple(spec for spec in specs if spec is not None)


def read_port(item: PortProtocol, scope: Scope, path: ValuePath) -> PortSpec | None:
    """One port; None if something is wrong with it."""
    protocol = (item.protocol or "").upper()
    if protocol in _EXTENDED:
        scope.add(codes.NOT_PROTOCOL, (*path, "protocol"), f"protocol {protocol} is not enforced")
        return None
    if protocol not in _PROTOCOLS:
        scope.add(codes.PROTOCOL_BAD, (*path, "protocol"), f'unknown protocol "{item.protocol}"')
        return None
    if not item.port:
        scope.add(codes.PORT_BAD, path, "port must be specified", hint='"0" means any port')
        return None
    if _NAME.match(item.port.lower()):
        if item.end_port:
            scope.add(codes.END_PORT_IGNORED, (*path, "endPort"), "endPort has no effect on a named port")
        return PortSpec(_PROTOCOLS[protocol], name=item.port.lower())
    return _numbered(item, item.port, _PROTOCOLS[protocol], scope, path)


def _numbered(
    item: PortProtocol, text: str, protocols: tuple[int, ...], scope: Scope, path: ValuePath
) -> PortSpec | None:
    first = _number(text, scope, (*path, "port"))
    last = item.end_port or 0
    if not 0 <= last <= LAST_PORT:
        scope.add(codes.PORT_BAD, (*path, "endPort"), f"endPort {last} is not within 0..{LAST_PORT}")
        return None
    if first is None:
        return None
    if first == 0:
        if last:
            message = 'port "0" means any port, so it cannot begin a range'
            scope.add(codes.PORT_BAD, (*path, "endPort"), message, hint='write the range as port: "1"')
            return None
        return PortSpec(protocols)
    if 0 < last < first:
        message = f"endPort {last} is below port {first}: only port {first} is meant"
        scope.add(codes.END_PORT_IGNORED, (*path, "endPort"), message)
    return PortSpec(protocols, first, max(first, last))


def _number(text: str, scope: Scope, path: ValuePath) -> int | None:
    """As Go reads it: a leading zero means octal, underscores may separate digits."""
    digits = text.replace("_", "")
    octal = len(digits) > 1 and digits.startswith("0")
    if not _NUMBER.match(text) or (octal and re.search("[89]", digits)):
        scope.add(codes.PORT_BAD, path, f'"{text}" is neither a port number nor the name of a port')
        return None
    number = int(digits[:20], 8 if octal else 10)
    if number > LAST_PORT:
        scope.add(codes.PORT_BAD, path, f"port {digits[:20]} is above {LAST_PORT}")
        return None
    if octal or digits != text:
        scope.add(codes.PORT_SPELLING, path, f'"{text}" means port {number}')
    return number


def read_icmps(items: list[IcmpFields], scope: Scope, path: ValuePath) -> tuple[PortSpec, ...]:
    """ICMP types; the type takes the place of the port."""
    specs: list[PortSpec] = []
    for index, item in enumerate(items):
        where = (*path, index, "fields")
        fields = item.fields or []
        if len(fields) > MAX_ICMP_FIELDS:
            scope.add(codes.ICMP_TOO_MANY, where, f"too many types, the max is {MAX_ICMP_FIELDS}")
        for number, field in enumerate(fields):
            spec = _read_icmp(field, scope, (*where, number))
            if spec is not None:
                specs.append(spec)
    return tuple(specs)


def _read_icmp(field: IcmpField, scope: Scope, path: ValuePath) -> PortSpec | None:
    family = field.family or "IPv4"
    if family not in _FAMILIES:
        scope.add(codes.ICMP_FAMILY, (*path, "family"), f'wrong family "{family}"')
        return None
    protocol, names = _FAMILIES[family]
    given = field.type
    kind: int | None = None
    if isinstance(given, int) and not isinstance(given, bool):
        kind = given
    elif isinstance(given, str):
        kind = int(given) if re.fullmatch("[0-9]{1,3}", given) else names.get(given)
    if kind is None or not 0 <= kind <= 255:
        scope.add(codes.ICMP_BAD, (*path, "type"), f'"{given}" is not an ICMP type of {family}')
        return None
    return PortSpec((int(protocol),), kind, kind)
