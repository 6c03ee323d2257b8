"""What the programs remember between packets: fragments, the flows that errors are about, services, resets."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest

from bpf.marks import MARK_MASK, MARK_RESET, MARK_SERVICE, MARK_TO_PROXY, MARK_UNTRACKED, ORIGIN_SHIFT
from bpf.model import judge
from bpf.reasons import DropReason as R
from bpf.tables import SERVICE_IDENTITY, DesiredState
from tests.bpf import packets as p
from tests.bpf.kernel import POD_A, POD_B, UNKNOWN, Kernel
from tests.bpf.packets import ACK, RST, SYN
from tests.bpf.states import (
    A4,
    A6,
    ALLOW,
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
    IPCACHE,
    NODE4,
    REDIRECT,
    REMOTE4,
    REMOTE6,
    WORLD4,
    WORLD6,
    row,
    rows,
    state,
)
from tests.bpf.steps import PASS, TO_PROXY, Case, hold

pytestmark = pytest.mark.bpf

BOTH = ENFORCE_EGRESS | ENFORCE_INGRESS
ICMP_ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}

CLIENT = state(
    a=rows(
        ALLOW,
        *(row(ID_REMOTE, EGRESS, protocol, port) for protocol, port in ((p.TCP, 80), (p.UDP, 53), (p.SCTP, 36412))),
        row(ID_REMOTE, EGRESS, p.ICMP, 8),
        row(ID_REMOTE, EGRESS, p.ICMPV6, 128),
    ),
    a_flags=BOTH,
)
SHUT = state(a_flags=BOTH)
INSPECTED = state(a=rows(REDIRECT, row(ID_REMOTE, EGRESS, p.TCP, 80)), a_flags=BOTH)
OPEN = state()


def out(frame: bytes, verdict: int, wanted: DesiredState = CLIENT) -> Case:
    return Case("", wanted, frame, verdict)


def back(frame: bytes, verdict: int, wanted: DesiredState = CLIENT) -> Case:
    return Case("", wanted, frame, verdict, "to_pod")


# Fragments

A_QUERY = {4: p.udp(A4, 9, REMOTE4, 53), 6: p.udp(A6, 9, REMOTE6, 53)}
A_SECRET = {4: p.udp(A4, 9, REMOTE4, 54), 6: p.udp(A6, 9, REMOTE6, 54)}
AN_ANSWER = {4: p.udp(REMOTE4, 53, A4, 9), 6: p.udp(REMOTE6, 53, A6, 9)}
A_PING = {4: p.icmp(A4, REMOTE4, 8), 6: p.icmp(A6, REMOTE6, 128)}
A_PONG = {4: p.icmp(REMOTE4, A4, 0), 6: p.icmp(REMOTE6, A6, 129)}
A_SYN = {4: p.tcp(A4, 1000, REMOTE4, 80), 6: p.tcp(A6, 1000, REMOTE6, 80)}
A_SEGMENT = {4: p.tcp(A4, 1000, REMOTE4, 80, ACK), 6: p.tcp(A6, 1000, REMOTE6, 80, ACK)}
NO_FRAGMENT = -R.IP_FRAGMENTATION_NOT_SUPPORTED


def first(whole: bytes, number: int = 7, size: int = 8) -> bytes:
    return p.piece(whole, number, 0, more=True, size=size)


def later(whole: bytes, number: int = 7, place: int = 1) -> bytes:
    return p.piece(whole, number, place, more=False)


def fragments(v: int) -> dict[str, list[Case]]:
    query, secret, answer = A_QUERY[v], A_SECRET[v], AN_ANSWER[v]
    return {
        "the others follow the first": [out(first(query), PASS), out(later(query), PASS), out(later(query), PASS)],
        "answers in pieces": [out(query, PASS), back(first(answer), PASS), back(later(answer), PASS)],
        "denied in pieces": [out(first(secret), -R.POLICY_DENIED), out(later(secret), NO_FRAGMENT)],
        "of another datagram": [out(first(query), PASS), out(later(query, number=8), NO_FRAGMENT)],
        "out of order": [out(later(query), NO_FRAGMENT), out(first(query), PASS)],
        "of another sender": [out(first(query), PASS), back(later(answer), NO_FRAGMENT)],
        "a long ping": [
            out(first(A_PING[v]), PASS),
            out(later(A_PING[v]), PASS),
            back(first(A_PONG[v]), PASS),
            back(later(A_PONG[v]), PASS),
        ],
        "a refused first one does not end what another let pass": [
            out(first(query), PASS),
            out(first(secret), -R.POLICY_DENIED),
            out(later(query), PASS),
        ],
        "withdrawn between two": [out(first(query), PASS), out(later(query), -R.POLICY_DENIED, SHUT)],
        "tcp": [
            out(first(A_SYN[v], size=16), PASS),
            out(later(A_SYN[v], place=2), PASS),
            out(later(A_SYN[v], place=1), NO_FRAGMENT),
        ],
        "a tcp header in two pieces": [out(first(A_SYN[v], size=8), -R.INVALID_PACKET_DROPPED)],
        "tcp for the proxy cannot begin in pieces": [
            out(first(A_SYN[v], size=16), NO_FRAGMENT, INSPECTED),
        ],
        "tcp of the proxy": [
            out(A_SYN[v], -R.SOCKET_LOOKUP_FAILED, INSPECTED),
            out(first(A_SEGMENT[v], size=16), TO_PROXY, INSPECTED),
            out(later(A_SEGMENT[v], place=2), TO_PROXY, INSPECTED),
        ],
    }


@pytest.mark.parametrize("v", [4, 6])
@pytest.mark.parametrize("name", fragments(4))
def test_fragments(programs: Kernel, name: str, v: int) -> None:
    hold(programs, fragments(v)[name])


def test_fragments_do_not_fill_the_map_when_they_are_refused(programs: Kernel) -> None:
    programs.apply(SHUT)
    for number in range(10):
        programs.from_pod(first(A_QUERY[4], number=number))
    assert not list(programs.fragments.keys())


# Errors

ROUTERS = {4: WORLD4, 6: WORLD6}


def errors(v: int, kind: int) -> dict[str, list[Case]]:
    query, ping, router = A_QUERY[v], A_PING[v], ROUTERS[v]
    other, remote = (B4, REMOTE4) if v == 4 else (B6, REMOTE6)
    return {
        "about a datagram": [out(query, PASS), back(p.error(router, query, kind), PASS)],
        "about a ping": [out(ping, PASS), back(p.error(router, ping, kind), PASS)],
        "about a segment": [out(A_SYN[v], PASS), back(p.error(router, A_SYN[v], kind), PASS)],
        "about nothing": [back(p.error(router, query, kind), -R.POLICY_DENIED)],
        "about another flow": [out(query, PASS), back(p.error(router, A_SECRET[v], kind), -R.POLICY_DENIED)],
        "cut short": [
            out(query, PASS),
            back(p.error(router, query, kind, quoted=24 if v == 4 else 44), -R.POLICY_DENIED),
        ],
        "from the pod, about an answer": [
            out(query, PASS),
            back(AN_ANSWER[v], PASS),
            out(p.error((A4, A6)[v == 6], AN_ANSWER[v], kind), PASS),
        ],
        "from the pod, about others": [
            Case("", CLIENT, p.udp(other, 9, remote, 53), PASS, ifindex=POD_B),
            out(p.error((A4, A6)[v == 6], p.udp(remote, 53, other, 9), kind), -R.POLICY_DENIED),
        ],
        "after the permission is gone": [
            out(query, PASS),
            out(query, -R.POLICY_DENIED, SHUT),
            back(p.error(router, query, kind), -R.POLICY_DENIED, SHUT),
        ],
        "just after a change of policy": [out(query, PASS), back(p.error(router, query, kind), -R.POLICY_DENIED, SHUT)],
        "about a connection of the proxy": [
            out(A_SYN[v], -R.SOCKET_LOOKUP_FAILED, INSPECTED),
            back(p.error(router, A_SYN[v], kind), TO_PROXY, INSPECTED),
        ],
    }


@pytest.mark.parametrize(("v", "kind"), [(v, kind) for v, kinds in ICMP_ERRORS.items() for kind in kinds])
@pytest.mark.parametrize("name", errors(4, 3))
def test_errors(programs: Kernel, name: str, v: int, kind: int) -> None:
    hold(programs, errors(v, kind)[name])


@pytest.mark.parametrize("kind", [5, 4, 13])
def test_other_messages_are_not_related(programs: Kernel, kind: int) -> None:
    """A redirect (5) would send the pod's packets elsewhere."""
    hold(programs, [out(A_QUERY[4], PASS), back(p.error(WORLD4, A_QUERY[4], kind), -R.POLICY_DENIED)])


def test_an_error_that_quotes_a_later_fragment_is_not_related(programs: Kernel) -> None:
    programs.apply(CLIENT)
    programs.from_pod(A_QUERY[4])
    about = later(A_QUERY[4])
    assert programs.to_pod(p.error(WORLD4, about, 11)).verdict == -R.POLICY_DENIED


def test_errors_are_allowed_by_rules_about_them(programs: Kernel) -> None:
    allowed = state(a=rows(ALLOW, row(0, INGRESS, p.ICMP, 3)), a_flags=BOTH)
    hold(programs, [back(p.error(WORLD4, A_QUERY[4], 3), PASS, allowed)])


# Services: the node translates their addresses, between from_pod and to_pod or to_world.

VIP4, VIP6 = "10.96.0.10", "fd96::10"
_SERVICES = {ip_network("10.96.0.0/16"): SERVICE_IDENTITY, ip_network("fd96::/64"): SERVICE_IDENTITY}


def with_services(wanted: DesiredState) -> DesiredState:
    return DesiredState(wanted.endpoints, {**IPCACHE, **_SERVICES})


SERVED = with_services(
    state(
        a={
            **rows(ALLOW, row(ID_B, EGRESS, p.TCP, 8080), row(ID_REMOTE, EGRESS, p.TCP, 80), rule=1),
            **rows(REDIRECT, row(ID_REMOTE, EGRESS, p.TCP, 8443), rule=2),
            **rows(ALLOW, row(ID_B, EGRESS, p.UDP, 53), rule=3),
        },
        b=rows(ALLOW, row(ID_A, INGRESS, p.TCP, 8080), row(ID_A, INGRESS, p.UDP, 53), rule=4),
        a_flags=BOTH,
        b_flags=BOTH,
    )
)
UNSERVED = with_services(state(a_flags=BOTH, b_flags=BOTH))
HIDDEN = MARK_SERVICE | 1 << ORIGIN_SHIFT  # sent by A


def to_service(frame: bytes, verdict: int = PASS, wanted: DesiredState = SERVED) -> Case:
    return Case("", wanted, frame, verdict)


def arriving(frame: bytes, verdict: int, wanted: DesiredState = SERVED, mark: int = HIDDEN) -> Case:
    return Case("", wanted, frame, verdict, "to_pod", POD_B, mark)


def leaving(frame: bytes, verdict: int, wanted: DesiredState = SERVED, mark: int = HIDDEN) -> Case:
    return Case("", wanted, frame, verdict, "to_world", POD_B, mark)


def services(v: int) -> dict[str, list[Case]]:
    a, b, remote, vip = (A4, B4, REMOTE4, VIP4) if v == 4 else (A6, B6, REMOTE6, VIP6)
    node = NODE4 if v == 4 else "fd77:1::1"
    answer = Case("", SERVED, p.tcp(vip, 80, a, 1, SYN | ACK), PASS, "to_pod", POD_A)
    return {
        "allowed, on this node": [
            to_service(p.tcp(a, 1, vip, 80)),
            arriving(p.tcp(a, 1, b, 8080), PASS),
            Case("", SERVED, p.tcp(b, 8080, a, 1, SYN | ACK), PASS, ifindex=POD_B),
            answer,
            to_service(p.tcp(a, 1, vip, 80, ACK)),
            arriving(p.tcp(a, 1, b, 8080, ACK), PASS),
        ],
        "denied, on this node": [to_service(p.tcp(a, 1, vip, 81)), arriving(p.tcp(a, 1, b, 8081), -R.POLICY_DENIED)],
        "allowed, elsewhere": [to_service(p.tcp(a, 1, vip, 80)), leaving(p.tcp(a, 1, remote, 80), PASS), answer],
        "denied, elsewhere": [to_service(p.tcp(a, 1, vip, 80)), leaving(p.tcp(a, 1, remote, 81), -R.POLICY_DENIED)],
        "not translated at all": [to_service(p.tcp(a, 1, vip, 80)), leaving(p.tcp(a, 1, vip, 80), -R.POLICY_DENIED)],
        "for the proxy, elsewhere": [
            to_service(p.tcp(a, 1, vip, 443)),
            leaving(p.tcp(a, 1, remote, 8443), TO_PROXY),
            leaving(p.tcp(a, 1, remote, 8443, ACK), TO_PROXY),
        ],
        "for the proxy, the sender hidden": [
            leaving(p.tcp(node, 1, remote, 8443), -R.NO_MAPPING_FOR_NAT_MASQUERADE),
        ],
        "allowed, the sender hidden": [leaving(p.tcp(node, 1, remote, 80), PASS)],
        "denied, the sender hidden": [
            leaving(p.tcp(node, 1, remote, 81), -R.POLICY_DENIED),
            arriving(p.tcp(node, 1, b, 8081), -R.POLICY_DENIED),
        ],
        "the hidden sender's permission is gone, the receiver is next": [
            arriving(p.tcp(node, 1, b, 8080), PASS),
            Case("", UNSERVED, p.tcp(b, 8080, node, 1, SYN | ACK), -R.POLICY_DENIED, ifindex=POD_B),
            arriving(p.tcp(node, 1, b, 8080, ACK), -R.POLICY_DENIED, UNSERVED),
        ],
        "to itself, address kept": [
            to_service(p.tcp(a, 1, vip, 80)),
            Case("", SERVED, p.tcp(a, 1, a, 8080), PASS, "to_pod", POD_A, HIDDEN),
        ],
        "to itself, address hidden": [
            to_service(p.tcp(a, 1, vip, 80)),
            Case("", SERVED, p.tcp(node, 1, a, 8080), PASS, "to_pod", POD_A, HIDDEN),
            Case("", SERVED, p.tcp(a, 8080, node, 1, SYN | ACK), PASS),
        ],
        "the node's own traffic is not the pod's": [
            Case("", SERVED, p.tcp(node, 1, a, 8080), -R.POLICY_DENIED, "to_pod", POD_A),
        ],
        "the middle of a connection": [
            to_service(p.tcp(a, 1, vip, 80, ACK)),
            leaving(p.tcp(a, 1, remote, 80, ACK), PASS),
            leaving(p.tcp(a, 2, remote, 8443, ACK), -R.SOCKET_LOOKUP_FAILED),
        ],
        "withdrawn": [
            to_service(p.tcp(a, 1, vip, 80)),
            leaving(p.tcp(a, 1, remote, 80), PASS),
            to_service(p.tcp(a, 1, vip, 80, ACK), PASS, UNSERVED),
            leaving(p.tcp(a, 1, remote, 80, ACK), -R.POLICY_DENIED, UNSERVED),
        ],
        "no service any more": [
            to_service(p.tcp(a, 1, vip, 80)),
            to_service(p.tcp(a, 1, vip, 80, ACK), -R.POLICY_DENIED, SHUT),
        ],
        "udp": [
            to_service(p.udp(a, 9, vip, 53)),
            arriving(p.udp(a, 9, b, 53), PASS),
            Case("", SERVED, p.udp(b, 53, a, 9), PASS, ifindex=POD_B),
            Case("", SERVED, p.udp(vip, 53, a, 9), PASS, "to_pod", POD_A),
        ],
        "an answer that nobody asked for": [Case("", SERVED, p.udp(vip, 53, a, 9), -R.POLICY_DENIED, "to_pod", POD_A)],
        "other packets leave as they like": [leaving(p.tcp(a, 1, remote, 81), PASS, mark=0)],
        "deny rules count": [
            Case(
                "",
                with_services(state(a=rows(DENY, row(0, EGRESS, p.TCP, 80)))),
                p.tcp(a, 1, vip, 80),
                PASS,
            ),
        ],
    }


@pytest.mark.parametrize("v", [4, 6])
@pytest.mark.parametrize("name", services(4))
def test_services(programs: Kernel, name: str, v: int) -> None:
    hold(programs, services(v)[name])


def test_a_packet_to_a_service_carries_who_sent_it(programs: Kernel) -> None:
    programs.apply(SERVED)
    for flags in (SYN, ACK):
        outcome = programs.from_pod(p.tcp(A4, 1, VIP4, 80, flags))
        assert (outcome.mark, outcome.events) == (HIDDEN, ())
    assert programs.from_pod(p.tcp(A4, 1, REMOTE4, 80)).mark == 0


def test_what_the_node_has_routed_is_not_tracked_twice(programs: Kernel) -> None:
    programs.apply(SERVED)
    assert programs.to_world(p.tcp(A4, 1, REMOTE4, 8443), HIDDEN).mark == MARK_TO_PROXY | MARK_UNTRACKED


# Resets

SERVER = state(b=rows(ALLOW, row(ID_A, INGRESS, p.TCP, 80)), b_flags=BOTH)
SERVER_SHUT = state(b_flags=BOTH)


def segment(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """With numbers of its own, and a payload."""
    header = struct.pack("!HHIIBBHHH", source_port, destination_port, 0x11223344, 0x55667788, 0x50, ACK, 1024, 0, 0)
    return p.ip(source, destination, p.TCP, header + b"payload" * 100)


@pytest.mark.parametrize(("source", "destination"), [(A4, B4), (A6, B6)])
def test_a_withdrawn_connection_is_reset(programs: Kernel, source: str, destination: str) -> None:
    programs.apply(SERVER)
    assert programs.from_pod(p.tcp(source, 1000, destination, 80)).verdict == PASS
    programs.apply(SERVER_SHUT)
    outcome = programs.from_pod(segment(source, 1000, destination, 80))
    assert (outcome.verdict, outcome.resets, outcome.mark) == (-R.POLICY_DENIED, True, MARK_RESET)
    assert outcome.data == p.reset(source, 1000, destination, 80, 0x11223344, 0x55667788)
    # Once more: the first may have been lost.
    assert programs.from_pod(segment(source, 1000, destination, 80)).resets


def test_the_other_end_is_told_with_what_it_expects(programs: Kernel) -> None:
    programs.apply(SERVER)
    programs.from_pod(p.tcp(A4, 1000, B4, 80))
    programs.apply(SERVER_SHUT)
    with programs.listen("y0") as seen:
        programs.from_pod(segment(A4, 1000, B4, 80))
        frame = seen.recv(2048)
    assert frame[:12] == bytes.fromhex("020000000001") + bytes.fromhex("020000000002")
    assert frame[12:] == p.reset(B4, 80, A4, 1000, 0x55667788, None)[12:]


def test_on_the_way_to_a_pod(programs: Kernel) -> None:
    both = state(b=rows(ALLOW, row(9, INGRESS, p.TCP, 80)), b_flags=BOTH)
    programs.apply(both)
    programs.to_pod(p.tcp(WORLD4, 1000, B4, 80))
    programs.apply(SERVER_SHUT)
    outcome = programs.to_pod(segment(WORLD4, 1000, B4, 80))
    assert (outcome.verdict, outcome.resets) == (-R.POLICY_DENIED, True)
    assert outcome.data == p.reset(WORLD4, 1000, B4, 80, 0x11223344, 0x55667788)


def test_a_connection_that_rules_want_inspected_too_late_is_reset(programs: Kernel) -> None:
    programs.apply(CLIENT)
    programs.from_pod(A_SYN[4])
    programs.apply(INSPECTED)
    outcome = programs.from_pod(segment(A4, 1000, REMOTE4, 80))
    assert (outcome.verdict, outcome.mark & MARK_MASK) == (-R.SOCKET_LOOKUP_FAILED, MARK_RESET)


def test_the_middle_of_one_that_rules_want_inspected_is_reset(programs: Kernel) -> None:
    programs.apply(INSPECTED)
    assert programs.from_pod(segment(A4, 1000, REMOTE4, 80)).resets


@pytest.mark.parametrize(
    "frame",
    [
        p.tcp(A4, 1000, REMOTE4, 80, RST),
        p.tcp(A4, 1000, REMOTE4, 80, RST | ACK),
        p.tcp(A4, 1000, REMOTE4, 80, 0),
        A_SYN[4],
    ],
    ids=["reset", "reset with ack", "no flags", "syn"],
)
def test_nothing_answers(programs: Kernel, frame: bytes) -> None:
    """A reset is never answered, nor what acknowledges nothing; a refused SYN meets silence."""
    programs.apply(CLIENT)
    programs.from_pod(A_SYN[4])
    programs.apply(SHUT)
    assert not programs.from_pod(frame).resets


def test_strangers_meet_silence(programs: Kernel) -> None:
    programs.apply(SHUT)
    assert not programs.to_pod(segment(WORLD4, 1000, A4, 80)).resets
    assert not programs.from_pod(p.udp(A4, 9, REMOTE4, 53)).resets


def test_a_reset_of_ours_passes(programs: Kernel) -> None:
    programs.apply(SHUT)
    assert programs.to_pod(segment(WORLD4, 1000, A4, 80), mark=MARK_RESET).verdict == PASS
    assert programs.from_pod(segment(A4, 1000, WORLD4, 80)).verdict < 0


def test_a_pod_behind_a_bridge_is_led_around_it(programs: Kernel) -> None:
    """A frame to another port of the bridge would never come by the stack, where the proxy's socket is."""
    programs.apply(INSPECTED)
    frame = bytes.fromhex("02000000000f") + p.tcp(A4, 1000, REMOTE4, 80)[6:]
    outcome = programs.from_pod(frame)
    assert (outcome.verdict, outcome.mark) == (TO_PROXY, MARK_TO_PROXY)


def test_who_talks_to_itself_needs_no_leave() -> None:
    assert judge(SHUT, ip_address(A4), ip_address(A4), p.TCP, 80).verdict == PASS
    assert judge(SHUT, ip_address(A4), ip_address(B4), p.TCP, 80).verdict == -R.POLICY_DENIED
    assert ID_A != ID_B


# What arrives at a pod's interface under an address that is no endpoint's

GROUP4, GROUP6, ALIAS = "224.0.0.251", "ff05::fb", "10.77.2.9"
LISTENING = state(b=rows(ALLOW, row(9, INGRESS, p.UDP, 5353), row(ID_A, INGRESS, p.UDP, 5353)), b_flags=BOTH)
LISTENING_L7 = state(b=rows(REDIRECT, row(0, INGRESS, p.TCP, 80)), b_flags=BOTH)


def at_b(frame: bytes, verdict: int, wanted: DesiredState = LISTENING) -> Case:
    return Case("", wanted, frame, verdict, "to_pod", POD_B)


ARRIVALS = {
    "multicast that rules allow": [at_b(p.udp(WORLD4, 1, GROUP4, 5353), PASS)],
    "multicast that they do not": [at_b(p.udp(WORLD4, 1, GROUP4, 5354), -R.POLICY_DENIED)],
    "multicast, ipv6": [at_b(p.udp(WORLD6, 1, GROUP6, 5354), -R.POLICY_DENIED)],
    "the sender's own permission is not the receiver's": [
        Case("", LISTENING, p.udp(A4, 1, GROUP4, 5354), PASS),
        at_b(p.udp(A4, 1, GROUP4, 5354), -R.POLICY_DENIED),
        at_b(p.udp(A4, 1, GROUP4, 5354), -R.POLICY_DENIED),
    ],
    "one receiver's permission is not the other's": [
        Case("", LISTENING, p.udp(WORLD4, 1, GROUP4, 5354), PASS, "to_pod", POD_A),
        at_b(p.udp(WORLD4, 1, GROUP4, 5354), -R.POLICY_DENIED),
    ],
    "an address of the pod that nobody listed": [at_b(p.tcp(WORLD4, 1, ALIAS, 80), -R.POLICY_DENIED)],
    "for the proxy, which would not know the server": [
        at_b(p.tcp(WORLD4, 1, ALIAS, 80), -R.SOCKET_LOOKUP_FAILED, LISTENING_L7),
    ],
    "an interface of nobody": [
        Case("", OPEN, p.udp(WORLD4, 1, B4, 5353), -R.DROP_EP_NOT_READY, "to_pod", UNKNOWN),
    ],
}


@pytest.mark.parametrize("name", ARRIVALS)
def test_arrivals(programs: Kernel, name: str) -> None:
    hold(programs, ARRIVALS[name])


# Time

COARSE = 1 << 30  # what the programs' clock counts in, in ns


def grow_old(programs: Kernel, seconds: int) -> None:
    for key, value in list(programs.flows.items()):
        value.last_seen = (value.last_seen - seconds * 10**9 // COARSE) & 0xFFFFFFFF
        programs.flows.set(key, value)


@pytest.mark.parametrize(
    ("opening", "seconds", "lives"),
    [
        ("udp", 55, True),
        ("udp", 70, False),
        ("syn", 55, True),
        ("syn", 70, False),
        ("established", 3600, True),
        ("established", 22000, False),
        ("closed", 5, True),
        ("closed", 20, False),
    ],
)
def test_flows_are_forgotten(programs: Kernel, opening: str, seconds: int, lives: bool) -> None:
    programs.apply(CLIENT)
    answer = AN_ANSWER[4] if opening == "udp" else p.tcp(REMOTE4, 80, A4, 1000, ACK)
    programs.from_pod(A_QUERY[4] if opening == "udp" else A_SYN[4])
    if opening in ("established", "closed"):
        assert programs.to_pod(answer, POD_A).verdict == PASS
    if opening == "closed":
        assert programs.to_pod(p.tcp(REMOTE4, 80, A4, 1000, RST), POD_A).verdict == PASS
    grow_old(programs, seconds)
    assert programs.to_pod(answer, POD_A).verdict == (PASS if lives else -R.POLICY_DENIED)


def test_eviction_ends_flows_and_permits_none(programs: Kernel) -> None:
    """More flows than there is room for: what was evicted is judged as an answer that nobody is known to want."""
    programs.apply(CLIENT)
    for port in range(1, 9000):
        assert programs.from_pod(p.udp(A4, port, REMOTE4, 53)).verdict == PASS
    verdicts = {programs.to_pod(p.udp(REMOTE4, 53, A4, port), POD_A).verdict for port in range(1, 9000)}
    assert verdicts == {PASS, -R.POLICY_DENIED}
    assert programs.to_pod(p.udp(REMOTE4, 53, A4, 9001), POD_A).verdict == -R.POLICY_DENIED


def test_an_endpoint_with_one_address_has_no_other(programs: Kernel) -> None:
    programs.apply(DesiredState({a: one for a, one in OPEN.endpoints.items() if a.version == 4}, OPEN.ipcache))
    assert programs.from_pod(p.udp(A4, 9, WORLD4, 53)).verdict == PASS
    for source in ("::", A6):
        assert programs.from_pod(p.udp(source, 9, WORLD6, 53)).verdict == -R.INVALID_SOURCE_IP


def test_an_endpoint_with_many_addresses_has_them_all(programs: Kernel) -> None:
    (owner,) = {one.id: one for address, one in OPEN.endpoints.items() if str(address) == A4}.values()
    more = {ip_address(f"10.77.1.{number}"): owner for number in range(3, 8)}
    programs.apply(DesiredState({**OPEN.endpoints, **more}, OPEN.ipcache))
    for address in (A4, A6, *map(str, more)):
        world = WORLD6 if ":" in address else WORLD4
        assert programs.from_pod(p.udp(address, 9, world, 53)).verdict == PASS
    assert programs.from_pod(p.udp(B4, 9, WORLD4, 53)).verdict == -R.INVALID_SOURCE_IP
