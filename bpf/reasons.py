"""Why packets are dropped: Cilium's numbers, enum names and words, so that its tools and dashboards read them."""

from __future__ import annotations

from enum import IntEnum


class DropReason(IntEnum):
    """Names as in Cilium's `DropReason` of flow.proto."""

    INVALID_SOURCE_IP = 132
    POLICY_DENIED = 133
    INVALID_PACKET_DROPPED = 134
    UNSUPPORTED_L3_PROTOCOL = 139
    UNKNOWN_L4_PROTOCOL = 142
    INVALID_IPV6_EXTENSION_HEADER = 156
    IP_FRAGMENTATION_NOT_SUPPORTED = 157
    NO_MAPPING_FOR_NAT_MASQUERADE = 160
    SOCKET_LOOKUP_FAILED = 178
    SOCKET_ASSIGN_FAILED = 179
    PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL = 180
    POLICY_DENY = 181
    DROP_EP_NOT_READY = 203


_WORDS: dict[DropReason, tuple[str, str]] = {
    DropReason.INVALID_SOURCE_IP: (
        "Invalid source ip",
        "the packet's source address is not one of the endpoint that sent it",
    ),
    DropReason.POLICY_DENIED: ("Policy denied", "no rule allows it and the direction is default-deny"),
    DropReason.INVALID_PACKET_DROPPED: (
        "Invalid packet",
        "the IP or transport header is cut short, lies about its length, or carries IPv4 options",
    ),
    DropReason.UNSUPPORTED_L3_PROTOCOL: (
        "Unsupported L3 protocol",
        "neither IPv4, IPv6 nor ARP, or the frame is VLAN-tagged",
    ),
    DropReason.UNKNOWN_L4_PROTOCOL: ("Unknown L4 protocol", "not TCP, UDP, SCTP, ICMP or ICMPv6"),
    DropReason.INVALID_IPV6_EXTENSION_HEADER: (
        "Invalid IPv6 extension header",
        "more than 4 extension headers, a routing header of type 0, or no next header",
    ),
    DropReason.IP_FRAGMENTATION_NOT_SUPPORTED: (
        "IP fragmentation not supported",
        "a fragment whose first fragment was not let through, or that would overwrite a TCP header",
    ),
    DropReason.NO_MAPPING_FOR_NAT_MASQUERADE: (
        "No mapping for NAT masquerade",
        "rules want the connection inspected, but the node has put its own address in place of the pod's",
    ),
    DropReason.SOCKET_LOOKUP_FAILED: (
        "Socket lookup failed",
        "rules want the connection inspected, but no socket of the proxy has it: "
        "the proxy is not running, or the connection is older than the rules",
    ),
    DropReason.SOCKET_ASSIGN_FAILED: ("Socket assign failed", "the kernel refused to give the packet to the proxy"),
    DropReason.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL: (
        "Proxy redirection not supported for protocol",
        "rules want it inspected, and only TCP can be handed to the proxy",
    ),
    DropReason.POLICY_DENY: ("Policy denied by denylist", "a deny rule matches"),
    DropReason.DROP_EP_NOT_READY: ("Endpoint policy not loaded", "the interface belongs to no endpoint we know"),
}

_NUMBERS = frozenset(int(reason) for reason in DropReason)


def reason_name(number: int) -> str:
    """`POLICY_DENIED`; a number unknown to us stays readable."""
    return DropReason(number).name if number in _NUMBERS else f"DROP_REASON_{number}"


def reason_text(number: int) -> str:
    """`Policy denied`, as Cilium words it."""
    return _WORDS[DropReason(number)][0] if number in _NUMBERS else f"Unknown reason {number}"


def reason_help(number: int) -> str:
    """One clause on what it means here."""
    return _WORDS[DropReason(number)][1] if number in _NUMBERS else ""
