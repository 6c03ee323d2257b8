"""The compiled programs on single frames, against the expected verdict and the reference model."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from bpf.events import EventType
from bpf.marks import MARK_FROM_PROXY
from bpf.model import Model
from bpf.reasons import DropReason
from bpf.tables import DesiredState
from tests.bpf import packets as p
from tests.bpf.kernel import POD_A, POD_B, UNKNOWN, Kernel
from tests.bpf.packets import ACK, FIN, RST, SYN
from tests.bpf.states import (
    A4,
    A6,
    ALLOW,
    AUDIT,
    B4,
    B6,
    DENY,
    EGRESS,
    ENFORCE_EGRESS,
    ENFORCE_INGRESS,
    ID_A,
    ID_B,
    ID_REMOTE,
    INGRESS,
    NODE4,
    NODE6,
    NONE,
    REDIRECT,
    REMOTE4,
    REMOTE6,
    TRY_INGRESS,
    WORLD4,
    WORLD6,
    row,
    rows,
    state,
)
from tests.bpf.steps import PASS, TO_PROXY, Case, case, hold, observed, predicted, to_b

pytestmark = pytest.mark.bpf

R = DropReason
NO_FRAGMENT, BAD_EXTENSION = -R.IP_FRAGMENTATION_NOT_SUPPORTED, -R.INVALID_IPV6_EXTENSION_HEADER
LINK_LOCAL, ALL_NODES, ROUTERS = "fe80::2", "ff02::1", "ff02::2"

OPEN = state()
CLOSED = state(a_flags=ENFORCE_EGRESS, b_flags=ENFORCE_INGRESS)
WEB = state(
    a={
        **rows(ALLOW, row(ID_B, EGRESS), row(9, EGRESS, p.UDP, 53), row(10, EGRESS, p.UDP, 53), rule=11),
        **rows(ALLOW, row(ID_REMOTE, EGRESS, p.SCTP, 36412), row(ID_REMOTE, EGRESS, p.TCP, 8080, bits=12), rule=12),
        **rows(ALLOW, row(ID_REMOTE, EGRESS, p.ICMP, 8), row(ID_REMOTE, EGRESS, p.ICMPV6, 128), rule=13),
        **rows(REDIRECT, row(9, EGRESS, p.TCP, 80), row(10, EGRESS, p.TCP, 80), row(9, EGRESS, p.UDP, 80), rule=14),
        **rows(REDIRECT, row(9, EGRESS, p.SCTP, 80), rule=14),
        **rows(DENY, row(9, EGRESS, p.TCP, 25), row(10, EGRESS, p.TCP, 25), rule=15),
    },
    b={
        **rows(ALLOW, row(ID_A, INGRESS, p.TCP, 80), row(0, INGRESS, p.TCP, 443), rule=21),
        **rows(REDIRECT, row(0, INGRESS, p.TCP, 8443), row(0, INGRESS, p.UDP, 8443), rule=22),
        **rows(DENY, row(ID_A, INGRESS, p.TCP, 22), rule=23),
    },
    a_flags=ENFORCE_EGRESS,
    b_flags=ENFORCE_INGRESS,
)
AUDITED = state(a_flags=ENFORCE_EGRESS | AUDIT, b_flags=ENFORCE_INGRESS | AUDIT)
_TRIED_ROWS = {
    **rows(NONE, row(0, INGRESS, p.TCP, 80), rule=0, audited=31),
    **rows(ALLOW, row(0, INGRESS, p.TCP, 443), rule=32, audited=31),
    **rows(REDIRECT, row(0, INGRESS, p.TCP, 8443), row(0, INGRESS, p.SCTP, 8443), rule=33),
    **rows(DENY, row(0, INGRESS, p.TCP, 22), rule=34, audited=31),
}
TRIED = state(b=_TRIED_ROWS, b_flags=ENFORCE_INGRESS | TRY_INGRESS)
TRIED_DENY = state(b=_TRIED_ROWS, b_flags=ENFORCE_INGRESS)


def _v6(following: int, body: bytes, hop_limit: int = 64) -> bytes:
    return p.ipv6(A6, B6, following, body, hop_limit=hop_limit)


_SYN = p.tcp_header(1000, 80, SYN)
_AH = bytes([p.TCP, 1, 0, 0]) + bytes(8)  # 12 bytes: length 1 counts 4-byte words minus 2

FRAMES = [
    case("arp, own address", CLOSED, p.arp(A4, NODE4), PASS),
    case("arp, probe", CLOSED, p.arp("0.0.0.0", A4), PASS),
    case("arp, somebody else's address", CLOSED, p.arp(B4, NODE4), -R.INVALID_SOURCE_IP),
    case("arp, unknown address", CLOSED, p.arp(REMOTE4, NODE4), -R.INVALID_SOURCE_IP),
    case("arp, cut short", CLOSED, p.arp(A4, NODE4)[:30], -R.INVALID_PACKET_DROPPED),
    to_b("arp to the pod", CLOSED, p.arp(NODE4, B4), PASS),
    case("unknown ethertype", OPEN, p.ethernet(0x88CC, bytes(50)), -R.UNSUPPORTED_L3_PROTOCOL),
    case("vlan tag", OPEN, p.ethernet(0x8100, bytes(50)), -R.UNSUPPORTED_L3_PROTOCOL),
    to_b("unknown ethertype to the pod", OPEN, p.ethernet(0x88CC, bytes(50)), -R.UNSUPPORTED_L3_PROTOCOL),
    case("interface of nobody", OPEN, p.tcp(A4, 1, B4, 2), -R.DROP_EP_NOT_READY, ifindex=UNKNOWN),
    case("arp on the interface of nobody", OPEN, p.arp(A4, NODE4), -R.DROP_EP_NOT_READY, ifindex=UNKNOWN),
    case("spoofed, other pod's address", OPEN, p.tcp(B4, 1, WORLD4, 2), -R.INVALID_SOURCE_IP),
    case("spoofed, unknown address", OPEN, p.tcp(WORLD4, 1, B4, 2), -R.INVALID_SOURCE_IP),
    case("spoofed, ipv6", OPEN, p.udp(B6, 1, WORLD6, 2), -R.INVALID_SOURCE_IP),
    case("spoofed, the node's address", OPEN, p.tcp(NODE4, 1, B4, 2), -R.INVALID_SOURCE_IP),
    case("spoofed, mapped address on the wire", OPEN, p.tcp(f"::ffff:{A4}", 1, WORLD6, 2), -R.INVALID_SOURCE_IP),
    case("destination mapped on the wire", OPEN, p.tcp(A6, 1, f"::ffff:{B4}", 2), -R.INVALID_PACKET_DROPPED),
    case("ipv4 options", OPEN, p.ipv4(A4, B4, p.TCP, bytes(4) + _SYN, ihl=6), -R.INVALID_PACKET_DROPPED),
    case("ipv4 header too small", OPEN, p.ipv4(A4, B4, p.TCP, _SYN, ihl=4), -R.INVALID_PACKET_DROPPED),
    case("ipv4 longer than the frame", OPEN, p.ipv4(A4, B4, p.TCP, _SYN, length=100), -R.INVALID_PACKET_DROPPED),
    case("ipv4 shorter than its header", OPEN, p.ipv4(A4, B4, p.TCP, _SYN, length=19), -R.INVALID_PACKET_DROPPED),
    case("ipv6 longer than the frame", OPEN, p.ipv6(A6, B6, p.TCP, _SYN, length=90), -R.INVALID_PACKET_DROPPED),
    case("tcp header cut short", OPEN, p.ipv4(A4, B4, p.TCP, _SYN[:10]), -R.INVALID_PACKET_DROPPED),
    case("udp header cut short", OPEN, p.ipv4(A4, B4, p.UDP, b"\0\1"), -R.INVALID_PACKET_DROPPED),
    case("icmp header cut short", OPEN, p.ipv4(A4, B4, p.ICMP, b"\x08\0"), -R.INVALID_PACKET_DROPPED),
    case("fragment, first", OPEN, p.ipv4(A4, B4, p.UDP, bytes(16), fragment=0x2000), PASS),
    case(
        "fragment, later, of nothing",
        OPEN,
        p.ipv4(A4, B4, p.UDP, bytes(16), fragment=3),
        -R.IP_FRAGMENTATION_NOT_SUPPORTED,
    ),
    case("don't fragment", OPEN, p.ipv4(A4, B4, p.TCP, _SYN, fragment=0x4000), PASS),
    case("gre", OPEN, p.ipv4(A4, B4, 47, bytes(20)), -R.UNKNOWN_L4_PROTOCOL),
    case("icmpv6 in ipv4", OPEN, p.ipv4(A4, B4, p.ICMPV6, bytes(20)), -R.UNKNOWN_L4_PROTOCOL),
    case("icmp in ipv6", OPEN, _v6(p.ICMP, bytes(20)), -R.UNKNOWN_L4_PROTOCOL),
    case("esp", OPEN, _v6(50, bytes(20)), -R.UNKNOWN_L4_PROTOCOL),
    case("hop-by-hop", OPEN, _v6(0, p.extension(p.TCP) + _SYN), PASS),
    case("destination options, long", OPEN, _v6(60, p.extension(p.TCP, 3) + _SYN), PASS),
    case("authentication header", OPEN, _v6(51, _AH + _SYN), PASS),
    case("routing type 2", OPEN, _v6(43, p.extension(p.TCP) + _SYN), PASS),
    case("routing type 0", OPEN, _v6(43, p.extension(p.TCP, kind=0) + _SYN), -R.INVALID_IPV6_EXTENSION_HEADER),
    case("fragment header of a whole datagram", OPEN, _v6(44, p.fragment(p.TCP) + _SYN), PASS),
    case("fragment header, first", OPEN, _v6(44, p.fragment(p.TCP, more=True) + _SYN), PASS),
    case(
        "fragment header, later, of nothing",
        OPEN,
        _v6(44, p.fragment(p.TCP, 2) + _SYN),
        -R.IP_FRAGMENTATION_NOT_SUPPORTED,
    ),
    case(
        "two fragment headers",
        OPEN,
        _v6(44, p.fragment(44) + p.fragment(p.TCP) + _SYN),
        -R.INVALID_IPV6_EXTENSION_HEADER,
    ),
    case("fragment header cut short", OPEN, _v6(44, p.fragment(p.TCP)[:6]), -R.INVALID_PACKET_DROPPED),
    case(
        "first fragment without a whole tcp header",
        OPEN,
        _v6(44, p.fragment(p.TCP, more=True) + _SYN[:8]),
        -R.INVALID_PACKET_DROPPED,
    ),
    case("no next header", OPEN, _v6(59, bytes(8)), -R.INVALID_IPV6_EXTENSION_HEADER),
    case("extension cut short", OPEN, _v6(0, b"\x06\0"), -R.INVALID_PACKET_DROPPED),
    case("extension beyond the frame", OPEN, _v6(0, bytes([p.TCP, 200, 0, 0])), -R.INVALID_PACKET_DROPPED),
    case("four extensions", OPEN, _v6(0, p.extension(60) * 3 + p.extension(p.TCP) + _SYN), PASS),
    case(
        "five extensions",
        OPEN,
        _v6(0, p.extension(60) * 4 + p.extension(p.TCP) + _SYN),
        -R.INVALID_IPV6_EXTENSION_HEADER,
    ),
    case("policy sees behind extensions", WEB, _v6(0, p.extension(p.TCP) + p.tcp_header(1, 22, SYN)), -R.POLICY_DENY),
]

LINK = [
    case("neighbour solicitation", CLOSED, p.icmpv6(LINK_LOCAL, ALL_NODES, 135, 255), PASS),
    case("solicitation for an address not yet ours", CLOSED, p.icmpv6("::", ALL_NODES, 135, 255), PASS),
    case("advertisement from the own address to the node", CLOSED, p.icmpv6(A6, NODE6, 136, 255), PASS),
    case("router solicitation", CLOSED, p.icmpv6(LINK_LOCAL, ROUTERS, 133, 255), PASS),
    case("listener report", CLOSED, p.icmpv6(LINK_LOCAL, "ff02::16", 143, 1), PASS),
    case("advertisement from another's address", CLOSED, p.icmpv6(B6, NODE6, 136, 255), -R.INVALID_SOURCE_IP),
    case("discovery with a wrong hop limit", CLOSED, p.icmpv6(LINK_LOCAL, ALL_NODES, 135, 64), -R.INVALID_SOURCE_IP),
    case("discovery addressed beyond the link", CLOSED, p.icmpv6(A6, B6, 135, 255), -R.POLICY_DENIED),
    case("discovery beyond the link, link-local", CLOSED, p.icmpv6(LINK_LOCAL, B6, 135, 255), -R.INVALID_SOURCE_IP),
    case("ping from a link-local address", OPEN, p.icmp(LINK_LOCAL, NODE6, 128), -R.INVALID_SOURCE_IP),
    to_b("solicitation to the pod", CLOSED, p.icmpv6("fe80::1", ALL_NODES, 135, 255), PASS),
    to_b("forged solicitation that was routed", CLOSED, p.icmpv6(REMOTE6, B6, 135, 254), -R.POLICY_DENIED),
]

PIECE = p.piece(p.udp(A4, 1, WORLD4, 80), 1, 0, more=True)
POLICY = [
    case("not enforced", OPEN, p.tcp(A4, 1, B4, 80), PASS),
    case("not enforced, to the world", OPEN, p.udp(A6, 1, WORLD6, 80), PASS),
    case("default deny", CLOSED, p.tcp(A4, 1, WORLD4, 80), -R.POLICY_DENIED),
    to_b("default deny, from outside", CLOSED, p.tcp(WORLD4, 1, B4, 80), -R.POLICY_DENIED),
    to_b("default deny, from the node", CLOSED, p.tcp(NODE4, 1, B4, 80), -R.POLICY_DENIED),
    case("both ends allow", WEB, p.tcp(A4, 1, B4, 80), PASS),
    case("both ends allow, ipv6", WEB, p.tcp(A6, 1, B6, 80), PASS),
    case("only the source allows", WEB, p.tcp(A4, 1, B4, 81), -R.POLICY_DENIED),
    case("the destination's deny rule", WEB, p.tcp(A4, 1, B4, 22), -R.POLICY_DENY),
    case("the source's deny rule", WEB, p.tcp(A4, 1, WORLD4, 25), -R.POLICY_DENY),
    case("any identity", WEB, p.tcp(A4, 1, B4, 443), PASS),
    to_b("any identity, from outside", WEB, p.tcp(WORLD4, 1, B4, 443), PASS),
    to_b("identity of another", WEB, p.tcp(REMOTE4, 1, B4, 80), -R.POLICY_DENIED),
    case("protocol of another", WEB, p.udp(A4, 1, B4, 80), -R.POLICY_DENIED),
    case("udp", WEB, p.udp(A4, 1, WORLD4, 53), PASS),
    case("udp, ipv6", WEB, p.udp(A6, 1, WORLD6, 53), PASS),
    case("sctp", WEB, p.sctp(A4, 1, REMOTE4, 36412), PASS),
    case("sctp, other port", WEB, p.sctp(A4, 1, REMOTE4, 36413), -R.POLICY_DENIED),
    case("first port of a prefix", WEB, p.tcp(A4, 1, REMOTE4, 8080), PASS),
    case("last port of a prefix", WEB, p.tcp(A4, 1, REMOTE4, 8095), PASS),
    case("port behind a prefix", WEB, p.tcp(A4, 1, REMOTE4, 8096), -R.POLICY_DENIED),
    case("port before a prefix", WEB, p.tcp(A4, 1, REMOTE4, 8079), -R.POLICY_DENIED),
    case("ping", WEB, p.icmp(A4, REMOTE4, 8), PASS),
    case("ping, ipv6", WEB, p.icmp(A6, REMOTE6, 128), PASS),
    case("other icmp type", WEB, p.icmp(A4, REMOTE4, 13), -R.POLICY_DENIED),
    case("ping where only tcp is allowed", WEB, p.icmp(A4, WORLD4, 8), -R.POLICY_DENIED),
    case("unasked echo reply", WEB, p.icmp(A4, REMOTE4, 0), -R.POLICY_DENIED),
    case("redirect without a proxy", WEB, p.tcp(A4, 1, WORLD4, 80), -R.SOCKET_LOOKUP_FAILED),
    case("redirect without a proxy, ipv6", WEB, p.tcp(A6, 1, WORLD6, 80), -R.SOCKET_LOOKUP_FAILED),
    case("redirect by the destination", WEB, p.tcp(A4, 1, B4, 8443), -R.SOCKET_LOOKUP_FAILED),
    case("redirect of udp without a proxy", WEB, p.udp(A4, 1, WORLD4, 80), -R.SOCKET_LOOKUP_FAILED),
    case("redirect of udp in pieces", WEB, PIECE, -R.IP_FRAGMENTATION_NOT_SUPPORTED),
    case("redirect of sctp", WEB, p.sctp(A4, 1, WORLD4, 80), -R.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL),
    to_b("redirect of udp from outside bounces", WEB, p.udp(WORLD4, 1, B4, 8443), TO_PROXY),
    to_b("redirect from outside bounces", WEB, p.tcp(WORLD4, 1, B4, 8443), TO_PROXY),
    to_b("redirect from outside bounces, ipv6", WEB, p.tcp(WORLD6, 1, B6, 8443), TO_PROXY),
    to_b("from the proxy", CLOSED, p.tcp(WORLD4, 1, B4, 80), PASS, mark=MARK_FROM_PROXY),
    to_b("another mark", CLOSED, p.tcp(WORLD4, 1, B4, 80), -R.POLICY_DENIED, mark=0x100),
    case("a pod's mark counts for nothing", CLOSED, p.tcp(A4, 1, B4, 80), -R.POLICY_DENIED, mark=MARK_FROM_PROXY),
    case("middle of an unknown connection, open", OPEN, p.tcp(A4, 1, B4, 80, ACK), PASS),
    case("middle of one that only we may begin", WEB, p.tcp(A4, 1, REMOTE4, 8080, ACK), PASS),
    to_b("middle of one that only they may begin", WEB, p.tcp(WORLD4, 1, B4, 443, ACK), PASS),
    case("middle of one for the proxy", WEB, p.tcp(A4, 1, WORLD4, 80, ACK), -R.SOCKET_LOOKUP_FAILED),
    case("audit", AUDITED, p.tcp(A4, 1, B4, 80), PASS),
    case("audit does not excuse spoofing", AUDITED, p.tcp(WORLD4, 1, B4, 80), -R.INVALID_SOURCE_IP),
    to_b("audit, from outside", AUDITED, p.tcp(WORLD4, 1, B4, 80), PASS),
    to_b("tried out, default deny", TRIED, p.tcp(WORLD4, 1, B4, 79), PASS),
    to_b("tried out, deny rule", TRIED, p.tcp(WORLD4, 1, B4, 80), PASS),
    to_b("tried out, for the proxy", TRIED, p.tcp(WORLD4, 1, B4, 8443), TO_PROXY),
    to_b("tried out, for the proxy that does not speak it", TRIED, p.sctp(WORLD4, 1, B4, 8443), PASS),
    to_b("tried out, deny rule in earnest", TRIED, p.tcp(WORLD4, 1, B4, 22), -R.POLICY_DENY),
    to_b("deny rule tried out, default deny in earnest", TRIED_DENY, p.tcp(WORLD4, 1, B4, 80), -R.POLICY_DENIED),
    to_b("deny rule tried out, allowed", TRIED_DENY, p.tcp(WORLD4, 1, B4, 443), PASS),
]


@pytest.mark.parametrize("one", FRAMES + LINK + POLICY, ids=lambda one: one.name)
def test_frame(programs: Kernel, one: Case) -> None:
    programs.apply(one.state)
    assert (observed(programs, one), predicted(Model(one.state), one)) == (one.verdict, one.verdict)


CLIENT = state(
    a=rows(
        ALLOW, row(ID_REMOTE, EGRESS, p.TCP, 80), row(ID_REMOTE, EGRESS, p.UDP, 53), row(ID_REMOTE, EGRESS, p.ICMP, 8)
    ),
    a_flags=ENFORCE_EGRESS | ENFORCE_INGRESS,
)
SHUT = state(a_flags=ENFORCE_EGRESS | ENFORCE_INGRESS)
INSPECTED = state(a=rows(REDIRECT, row(ID_REMOTE, EGRESS, p.TCP, 80)), a_flags=ENFORCE_EGRESS | ENFORCE_INGRESS)


def out(frame: bytes, verdict: int, wanted: DesiredState = CLIENT) -> Case:
    return Case("", wanted, frame, verdict)


def back(frame: bytes, verdict: int, wanted: DesiredState = CLIENT) -> Case:
    return Case("", wanted, frame, verdict, "to_pod")


def request(flags: int = SYN) -> bytes:
    return p.tcp(A4, 1000, REMOTE4, 80, flags)


def answer(flags: int = SYN | ACK) -> bytes:
    return p.tcp(REMOTE4, 80, A4, 1000, flags)


CONVERSATIONS = {
    "tcp reply": [out(request(), PASS), back(answer(), PASS), out(request(ACK), PASS)],
    "reply to nothing": [back(answer(), -R.POLICY_DENIED)],
    "reply from another port": [out(request(), PASS), back(p.tcp(REMOTE4, 81, A4, 1000, ACK), -R.POLICY_DENIED)],
    "reply to another port": [out(request(), PASS), back(p.tcp(REMOTE4, 80, A4, 1001, ACK), -R.POLICY_DENIED)],
    "connection opened backwards": [out(request(), PASS), back(answer(SYN), -R.POLICY_DENIED), back(answer(), PASS)],
    "udp reply": [out(p.udp(A4, 9, REMOTE4, 53), PASS), back(p.udp(REMOTE4, 53, A4, 9), PASS)],
    "udp unasked": [back(p.udp(REMOTE4, 53, A4, 9), -R.POLICY_DENIED)],
    "ping reply": [out(p.icmp(A4, REMOTE4, 8), PASS), back(p.icmp(REMOTE4, A4, 0), PASS)],
    "ping reply with another identifier": [
        out(p.icmp(A4, REMOTE4, 8), PASS),
        back(p.icmp(REMOTE4, A4, 0, identifier=8), -R.POLICY_DENIED),
    ],
    "ping backwards": [out(p.icmp(A4, REMOTE4, 8), PASS), back(p.icmp(REMOTE4, A4, 8), -R.POLICY_DENIED)],
    "withdrawn, the initiator is next": [
        out(request(), PASS),
        back(answer(), PASS),
        out(request(ACK), -R.POLICY_DENIED, SHUT),
        back(answer(ACK), -R.POLICY_DENIED, SHUT),
    ],
    "withdrawn, the responder is next": [
        out(request(), PASS),
        back(answer(), PASS),
        back(answer(ACK), -R.POLICY_DENIED, SHUT),
        out(request(ACK), -R.POLICY_DENIED, SHUT),
    ],
    "withdrawn and granted again": [
        out(request(), PASS),
        out(request(ACK), -R.POLICY_DENIED, SHUT),
        out(request(ACK), PASS),
    ],
    "withdrawn udp": [
        out(p.udp(A4, 9, REMOTE4, 53), PASS),
        back(p.udp(REMOTE4, 53, A4, 9), -R.POLICY_DENIED, SHUT),
        out(p.udp(A4, 9, REMOTE4, 53), -R.POLICY_DENIED, SHUT),
    ],
    "an l7 rule appears": [
        out(request(), PASS),
        out(request(ACK), -R.SOCKET_LOOKUP_FAILED, INSPECTED),
        back(answer(ACK), -R.SOCKET_LOOKUP_FAILED, INSPECTED),
    ],
    "same ports after a reset": [
        out(request(), PASS),
        back(answer(RST), PASS),
        out(request(), -R.POLICY_DENIED, SHUT),
    ],
    "both sides finish": [
        out(request(), PASS),
        back(answer(FIN | ACK), PASS),
        out(request(FIN | ACK), PASS),
        back(answer(ACK), PASS),
    ],
    "the proxy's answers to a client": [
        Case("", WEB, p.tcp(WORLD4, 1, B4, 8443), TO_PROXY, "to_pod", POD_B),
        Case("", WEB, p.tcp(WORLD4, 1, B4, 8443, ACK), TO_PROXY, "to_pod", POD_B),
    ],
    "a leg that the proxy opened": [
        Case("", WEB, p.tcp(WORLD4, 9, B4, 8443), PASS, "to_pod", POD_B, MARK_FROM_PROXY),
        # The pod's answer is the proxy's alone; here it has no socket.
        Case("", WEB, p.tcp(B4, 8443, WORLD4, 9, SYN | ACK), -R.SOCKET_LOOKUP_FAILED, ifindex=POD_B),
        # Nobody else is let on by it.
        Case("", WEB, p.tcp(WORLD4, 9, B4, 8443, ACK), TO_PROXY, "to_pod", POD_B),
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation(programs: Kernel, name: str) -> None:
    hold(programs, CONVERSATIONS[name])


def test_a_policy_that_is_in_force_already_changes_nothing(programs: Kernel) -> None:
    first = programs.apply(WEB)
    again = programs.apply(WEB)
    assert not again.any
    assert again.epoch == first.epoch


def test_endpoints_with_equal_policies_share_one(programs: Kernel) -> None:
    policy = rows(ALLOW, row(0, INGRESS))
    programs.apply(state(a=policy, b=dict(policy), a_flags=ENFORCE_INGRESS, b_flags=ENFORCE_INGRESS))
    assert programs.tables.sizes()["policy"] == 1


def test_the_first_packet_of_a_flow_is_told_and_no_other(programs: Kernel) -> None:
    programs.apply(WEB)
    (event,) = programs.from_pod(p.tcp(A4, 1000, B4, 80)).events
    assert event.type is EventType.VERDICT
    assert (event.source, event.source_port) == (ip_address(A4), 1000)
    assert (event.destination, event.destination_port) == (ip_address(B4), 80)
    assert (event.source_endpoint, event.destination_endpoint) == (1, 2)
    assert (event.source_identity, event.destination_identity) == (ID_A, ID_B)
    assert (event.protocol, event.tcp_flags, event.verdict) == (p.TCP, SYN, PASS)
    assert event.rules == (21, 11)
    assert event.ifindex == POD_A
    assert programs.from_pod(p.tcp(A4, 1000, B4, 80, ACK)).events == ()
    assert programs.to_pod(p.tcp(A4, 1000, B4, 80, ACK)).events == ()
    assert programs.from_pod(p.tcp(B4, 80, A4, 1000, ACK), POD_B).events == ()


def test_a_drop_names_rule_direction_and_both_ends(programs: Kernel) -> None:
    programs.apply(WEB)
    (event,) = programs.from_pod(p.tcp(A4, 1000, B4, 22)).events
    assert (event.type, event.reason, event.direction) == (EventType.DROP, R.POLICY_DENY, INGRESS)
    assert event.rules == (23, 11)
    assert (event.source_identity, event.destination_identity) == (ID_A, ID_B)


def test_a_spoofed_packet_is_told_with_what_it_claims(programs: Kernel) -> None:
    programs.apply(OPEN)
    (event,) = programs.from_pod(p.udp(WORLD4, 5, B4, 53)).events
    assert (event.reason, event.direction, event.source) == (R.INVALID_SOURCE_IP, EGRESS, ip_address(WORLD4))
    assert event.ifindex == POD_A


def test_a_frame_that_is_not_ip_has_no_addresses(programs: Kernel) -> None:
    programs.apply(OPEN)
    (event,) = programs.from_pod(p.ethernet(0x88CC, bytes(50))).events
    assert (event.source, event.destination) == (None, None)


def test_audit_tells_what_would_have_been(programs: Kernel) -> None:
    programs.apply(AUDITED)
    (event,) = programs.from_pod(p.tcp(A4, 1000, WORLD4, 22)).events
    assert (event.type, event.audited, event.verdict) == (EventType.VERDICT, True, -R.POLICY_DENIED)


@pytest.mark.parametrize(
    ("wanted", "port", "verdict", "rule"),
    [(TRIED, 79, -R.POLICY_DENIED, 0), (TRIED, 80, -R.POLICY_DENY, 31), (TRIED_DENY, 443, -R.POLICY_DENY, 31)],
)
def test_what_is_only_tried_out_is_told(
    programs: Kernel, wanted: DesiredState, port: int, verdict: int, rule: int
) -> None:
    programs.apply(wanted)
    (event,) = programs.to_pod(p.tcp(WORLD4, 1000, B4, port)).events
    assert (event.type, event.audited, event.verdict) == (EventType.VERDICT, True, verdict)
    assert (event.direction, event.rules) == (INGRESS, (rule, 0))
    assert programs.to_pod(p.tcp(WORLD4, 1000, B4, port, ACK)).events == ()


def test_only_to_pod_may_use_the_bounce(programs: Kernel) -> None:
    programs.apply(WEB)
    frame = p.tcp(WORLD4, 1, B4, 8443)
    assert programs.from_bounce(frame).verdict == -R.SOCKET_LOOKUP_FAILED
    with pytest.raises(AssertionError, match="every drop is told"):
        programs.from_bounce(frame, mark=0)
