"""Names of what flows carry: drop reasons, DNS errors, reserved identities and labels, as Cilium's users know them.

The producer of a drop event passes its own name and words; this table serves L7 refusals, filters and flows read
from a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

POLICY_DENIED: Final = 133
"""No rule allows it."""
POLICY_DENY: Final = 181
"""A deny rule matches it."""

# number → (enum name, words)
DROP_REASONS: Final[dict[int, tuple[str, str]]] = {
    130: ("INVALID_SOURCE_MAC", "Invalid source mac"),
    131: ("INVALID_DESTINATION_MAC", "Invalid destination mac"),
    132: ("INVALID_SOURCE_IP", "Invalid source ip"),
    133: ("POLICY_DENIED", "Policy denied"),
    134: ("INVALID_PACKET_DROPPED", "Invalid packet"),
    135: ("CT_TRUNCATED_OR_INVALID_HEADER", "CT: Truncated or invalid header"),
    137: ("CT_UNKNOWN_L4_PROTOCOL", "CT: Unknown L4 protocol"),
    139: ("UNSUPPORTED_L3_PROTOCOL", "Unsupported L3 protocol"),
    140: ("MISSED_TAIL_CALL", "Missed tail call"),
    141: ("ERROR_WRITING_TO_PACKET", "Error writing to packet"),
    142: ("UNKNOWN_L4_PROTOCOL", "Unknown L4 protocol"),
    155: ("CT_MAP_INSERTION_FAILED", "CT: Map insertion failed"),
    156: ("INVALID_IPV6_EXTENSION_HEADER", "Invalid IPv6 extension header"),
    157: ("IP_FRAGMENTATION_NOT_SUPPORTED", "IP fragmentation not supported"),
    160: ("NO_MAPPING_FOR_NAT_MASQUERADE", "No mapping for NAT masquerade"),
    163: ("UNKNOWN_CONNECTION_TRACKING_STATE", "Unknown connection tracking state"),
    166: ("UNSUPPORTED_L2_PROTOCOL", "Unsupported L2 protocol"),
    169: ("FIB_LOOKUP_FAILED", "FIB lookup failed"),
    171: ("INVALID_IDENTITY", "Invalid identity"),
    172: ("UNKNOWN_SENDER", "Unknown sender"),
    175: ("FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND", "First logical datagram fragment not found"),
    176: ("FORBIDDEN_ICMPV6_MESSAGE", "Forbidden ICMPv6 message"),
    178: ("SOCKET_LOOKUP_FAILED", "Socket lookup failed"),
    179: ("SOCKET_ASSIGN_FAILED", "Socket assign failed"),
    180: ("PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL", "Proxy redirection not supported for protocol"),
    181: ("POLICY_DENY", "Policy denied by denylist"),
    189: ("AUTH_REQUIRED", "Authentication required"),
    198: ("DROP_RATE_LIMITED", "Rate limited"),
    203: ("DROP_EP_NOT_READY", "Endpoint policy not loaded"),
    205: ("DROP_PUNT_PROXY", "Punt to proxy"),
}

# Hubble's words; numbers of RFC 6895.
RCODES: Final[dict[int, str]] = {
    0: "No Error",
    1: "Format Error",
    2: "Server Failure",
    3: "Non-Existent Domain",
    4: "Not Implemented",
    5: "Query Refused",
    6: "Name Exists when it should not",
    7: "RR Set Exists when it should not",
    8: "RR Set that should exist does not",
    9: "Not Authorized",
    10: "Name not contained in zone",
    11: "DSO-TYPE Not Implemented",
    16: "Bad OPT Version",
    17: "Key not recognized",
    18: "Signature out of time window",
    19: "Bad TKEY Mode",
    20: "Duplicate key name",
    21: "Algorithm not supported",
    22: "Bad Truncation",
    23: "Bad/missing Server Cookie",
}

_WORDS: Final = dict(DROP_REASONS.values())
_NUMBERS: Final = {name: number for number, (name, _) in DROP_REASONS.items()}

RESERVED_IDENTITIES: Final[dict[int, str]] = {
    0: "unknown",
    1: "host",
    2: "world",
    3: "unmanaged",
    4: "health",
    5: "init",
    6: "remote-node",
    7: "kube-apiserver",
    8: "ingress",
    9: "world-ipv4",
    10: "world-ipv6",
}
_IDENTITY_NUMBERS: Final = {name: number for number, name in RESERVED_IDENTITIES.items()}


def reason_name(number: int) -> str:
    """The enum name of a drop reason, empty for one that is not known."""
    known = DROP_REASONS.get(number)
    return known[0] if known else ""


def reason_words(number: int, name: str = "") -> str:
    """A drop reason as people read it."""
    known = DROP_REASONS.get(number)
    if known:
        return known[1]
    return _WORDS.get(name) or name.replace("_", " ").capitalize() or str(number)


def reason_number(name: str) -> int:
    return _NUMBERS.get(name, 0)


def rcode_words(code: int) -> str:
    """What an answer's code says, as people read it."""
    return RCODES.get(code, "Unknown")


def identity_number(text: str) -> int | None:
    """The identity that `text` names: a number or the name of a reserved one."""
    if text.isascii() and text.isdigit():
        return int(text)
    return _IDENTITY_NUMBERS.get(text.removeprefix("reserved:"))


def label_texts(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels as flows and lists show them: sorted, and `reserved:host` where policies say `reserved:host=`."""
    return tuple(sorted(label.removesuffix("=") for label in labels))


def identity_text(number: int) -> str:
    """`(world)` for reserved identities, `(ID:3001)` for all others."""
    name = RESERVED_IDENTITIES.get(number)
    return f"({name})" if name else f"(ID:{number})"
