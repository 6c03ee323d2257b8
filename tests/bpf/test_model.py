"""The reference model by itself: precedence and enforcement as tables of truth."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from bpf.model import TO_PROXY, Direction, Model, find_row, identity_of, judge
from bpf.reasons import DropReason
from bpf.tables import DesiredState, EndpointFlag, Policy, Row, RowVerdict
from tests.bpf import packets
from tests.bpf.packets import ACK, FIN, RST, SCTP, SYN, TCP, UDP
from tests.bpf.states import (
    A4,
    A6,
    ALLOW,
    AUDIT,
    B4,
    DENY,
    EGRESS,
    ENFORCE_EGRESS,
    ENFORCE_INGRESS,
    ID_A,
    ID_B,
    INGRESS,
    NODE4,
    NONE,
    REDIRECT,
    REMOTE4,
    TRY_EGRESS,
    TRY_INGRESS,
    WORLD4,
    WORLD6,
    row,
    rows,
    state,
)

POLICY_DENIED = -DropReason.POLICY_DENIED
POLICY_DENY = -DropReason.POLICY_DENY
NO_SOCKET = -DropReason.SOCKET_LOOKUP_FAILED
NOTHING = EndpointFlag(0)


@pytest.mark.parametrize("narrow", list(RowVerdict))
@pytest.mark.parametrize("wide", list(RowVerdict))
def test_between_peer_and_anybody_the_stronger_verdict_decides(narrow: RowVerdict, wide: RowVerdict) -> None:
    policy = {row(ID_A, INGRESS, TCP, 80): Row(narrow, 1), row(0, INGRESS): Row(wide, 2)}
    found = find_row(policy, ID_A, Direction.INGRESS, TCP, 80)
    assert found is not None
    assert found.verdict is max(narrow, wide)
    assert found.rule == (2 if wide > narrow else 1)


def test_of_equals_the_narrower_then_the_peers_own_names_the_rule() -> None:
    policy = {row(ID_A, INGRESS): Row(ALLOW, 1), row(0, INGRESS, TCP, 80): Row(ALLOW, 2)}
    assert find_row(policy, ID_A, Direction.INGRESS, TCP, 80) == Row(ALLOW, 2)
    policy[row(ID_A, INGRESS, TCP, 80)] = Row(ALLOW, 3)
    assert find_row(policy, ID_A, Direction.INGRESS, TCP, 80) == Row(ALLOW, 3)


@pytest.mark.parametrize("identity", [192, 0])
def test_a_port_prefix_of_a_peer_or_of_anybody(identity: int) -> None:
    """P11, P12: ports 64–127 are port 64 with 10 bits."""
    policy = rows(ALLOW, row(identity, INGRESS, TCP, 64, bits=10))
    assert find_row(policy, 192, Direction.INGRESS, TCP, 80) is not None
    assert find_row(policy, 192, Direction.INGRESS, TCP, 200) is None


@pytest.mark.parametrize(
    ("address", "identity"),
    [
        pytest.param("192.168.0.1", 173, id="I01"),
        pytest.param("192.168.0.2", 12, id="I01 beside"),
        pytest.param("::1", 1, id="I03"),
        pytest.param("::", 12, id="I03 any"),
        pytest.param("f00d::1", 173, id="I03 other"),
        pytest.param("beef:0:0:1::42", 11, id="I04"),
        pytest.param("beef:0:0:2::", 12, id="I04 beside"),
    ],
)
def test_the_longest_prefix_says_who_an_address_is(address: str, identity: int) -> None:
    known = {
        173: ("192.168.0.1", "f00d::1"),
        1: ("127.0.0.1/32", "::1/128"),
        11: ("127.0.0.0/8", "beef::/63"),
        12: ("0.0.0.0/0", "::/0"),
    }
    ipcache = {ip_network(text): number for number, texts in known.items() for text in texts}
    assert identity_of(DesiredState({}, ipcache), ip_address(address)) == identity


@pytest.mark.parametrize(("port", "found"), [(79, False), (80, True), (95, True), (96, False)])
def test_port_prefixes_cover_their_range(port: int, found: bool) -> None:
    policy = rows(ALLOW, row(0, INGRESS, TCP, 80, bits=12))
    assert (find_row(policy, ID_A, Direction.INGRESS, TCP, port) is not None) == found


def test_identity_is_that_of_the_longest_prefix_or_the_world() -> None:
    nothing = state()
    assert identity_of(nothing, ip_address(A4)) == ID_A
    assert identity_of(nothing, ip_address(WORLD4)) == 9
    assert identity_of(nothing, ip_address(WORLD6)) == 10


@pytest.mark.parametrize(
    ("egress", "ingress", "verdict", "direction"),
    [
        (ALLOW, ALLOW, 0, Direction.EGRESS),
        (ALLOW, REDIRECT, 1, Direction.INGRESS),
        (REDIRECT, ALLOW, 1, Direction.EGRESS),
        (REDIRECT, DENY, POLICY_DENY, Direction.INGRESS),
        (DENY, REDIRECT, POLICY_DENY, Direction.EGRESS),
        (None, ALLOW, POLICY_DENIED, Direction.EGRESS),
        (ALLOW, None, POLICY_DENIED, Direction.INGRESS),
    ],
)
def test_both_ends_of_a_local_pair_are_judged(
    egress: RowVerdict | None, ingress: RowVerdict | None, verdict: int, direction: Direction
) -> None:
    wanted = state(
        a=rows(egress, row(ID_B, EGRESS, TCP, 80)) if egress else {},
        b=rows(ingress, row(ID_A, INGRESS, TCP, 80)) if ingress else {},
        a_flags=ENFORCE_EGRESS,
        b_flags=ENFORCE_INGRESS,
    )
    judged = judge(wanted, ip_address(A4), ip_address(B4), TCP, 80)
    assert (judged.verdict, judged.direction) == (verdict, direction)


@pytest.mark.parametrize("flags", [EndpointFlag(0), ENFORCE_EGRESS])
def test_a_direction_that_is_not_enforced_allows(flags: EndpointFlag) -> None:
    wanted = state(b=rows(DENY, row(0, INGRESS)), b_flags=flags)
    assert judge(wanted, ip_address(A4), ip_address(B4), TCP, 80).verdict == 0


def test_audit_lets_pass_and_says_what_it_would_have_been() -> None:
    judged = judge(state(b_flags=ENFORCE_INGRESS | AUDIT), ip_address(A4), ip_address(B4), TCP, 80)
    assert (judged.verdict, judged.audited) == (0, POLICY_DENIED)


TCP_80 = row(ID_A, INGRESS, TCP, 80)


@pytest.mark.parametrize(
    ("rows_of_b", "flags", "verdict", "audited", "rule"),
    [
        pytest.param({}, TRY_INGRESS, 0, POLICY_DENIED, 0, id="default deny"),
        pytest.param(rows(ALLOW, TCP_80, rule=3), TRY_INGRESS, 0, 0, 3, id="allowed"),
        pytest.param(rows(REDIRECT, TCP_80, rule=3), TRY_INGRESS, 1, 0, 3, id="for the proxy"),
        pytest.param(rows(DENY, TCP_80, rule=3), TRY_INGRESS, POLICY_DENY, 0, 3, id="a deny rule in earnest"),
        pytest.param(
            rows(DENY, TCP_80, rule=3, audited=7), TRY_INGRESS, POLICY_DENY, 0, 3, id="one beside a tried one"
        ),
        pytest.param(rows(DENY, TCP_80, rule=3), AUDIT, 0, POLICY_DENY, 3, id="one of an endpoint in audit mode"),
        pytest.param(rows(NONE, TCP_80, rule=0, audited=7), TRY_INGRESS, 0, POLICY_DENY, 7, id="a tried deny rule"),
        pytest.param(rows(NONE, TCP_80, rule=0, audited=7), NOTHING, POLICY_DENIED, 0, 0, id="default deny in earnest"),
        pytest.param(rows(NONE, TCP_80, rule=0, audited=7), AUDIT, 0, POLICY_DENIED, 0, id="that in audit mode"),
        pytest.param(rows(ALLOW, TCP_80, rule=3, audited=7), NOTHING, 0, POLICY_DENY, 7, id="an allowed one"),
        pytest.param(rows(REDIRECT, TCP_80, rule=3, audited=7), NOTHING, 1, POLICY_DENY, 7, id="one for the proxy"),
    ],
)
def test_what_is_tried_out_passes_and_is_reported(
    rows_of_b: Policy, flags: EndpointFlag, verdict: int, audited: int, rule: int
) -> None:
    wanted = state(b=rows_of_b, b_flags=ENFORCE_INGRESS | flags)
    judged = judge(wanted, ip_address(A4), ip_address(B4), TCP, 80)
    assert (judged.verdict, judged.audited, judged.rules[Direction.INGRESS]) == (verdict, audited, rule)


@pytest.mark.parametrize("peer", [ID_A, 0])
def test_a_tried_deny_rule_counts_in_either_row(peer: int) -> None:
    other = 0 if peer else ID_A
    policy = {**rows(NONE, row(peer, INGRESS), rule=0, audited=7), **rows(ALLOW, row(other, INGRESS, TCP, 80), rule=3)}
    assert find_row(policy, ID_A, Direction.INGRESS, TCP, 80) == Row(ALLOW, 3, 7)


def test_of_two_tried_deny_rules_the_peers_own_is_named() -> None:
    policy = {**rows(NONE, row(0, INGRESS, TCP, 80), rule=0, audited=7), **rows(ALLOW, row(ID_A, INGRESS), audited=8)}
    assert find_row(policy, ID_A, Direction.INGRESS, TCP, 80) == Row(ALLOW, 1, 8)


def test_what_has_no_proxy_to_go_to_passes_uninspected_only_if_tried_out() -> None:
    wanted = state(b=rows(REDIRECT, row(0, INGRESS)), b_flags=ENFORCE_INGRESS | TRY_INGRESS)
    judged = judge(wanted, ip_address(A4), ip_address(B4), SCTP, 53)
    assert (judged.verdict, judged.audited) == (0, -DropReason.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL)


def test_the_direction_that_is_told_is_that_of_the_refusal() -> None:
    tried = ENFORCE_EGRESS | TRY_EGRESS
    proxied = state(b=rows(REDIRECT, TCP_80), a_flags=tried, b_flags=ENFORCE_INGRESS)
    judged = judge(proxied, ip_address(A4), ip_address(B4), TCP, 80)
    assert (judged.verdict, judged.audited, judged.direction) == (1, POLICY_DENIED, Direction.EGRESS)
    refused = state(a_flags=tried, b_flags=ENFORCE_INGRESS)
    judged = judge(refused, ip_address(A4), ip_address(B4), TCP, 80)
    assert (judged.verdict, judged.direction) == (POLICY_DENIED, Direction.INGRESS)


def test_only_tcp_and_udp_can_go_to_the_proxy() -> None:
    wanted = state(b=rows(REDIRECT, row(0, INGRESS)), b_flags=ENFORCE_INGRESS)
    unsupported = -DropReason.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL
    verdicts = [judge(wanted, ip_address(A4), ip_address(B4), protocol, 53).verdict for protocol in (TCP, UDP, SCTP)]
    assert verdicts == [TO_PROXY, TO_PROXY, unsupported]


NAMED = (3 << 23) + 5
"""A group of names."""

BY_NAME = rows(ALLOW, row(NAMED, EGRESS, TCP, 443), rule=4)
NAMES = ENFORCE_EGRESS | EndpointFlag.NAMES


def named(destination: str, flags: EndpointFlag = NAMES, opened: tuple[int, ...] = (NAMED,)) -> int:
    """The verdict on a connection from A to port 443, with the address opened for A."""
    wanted = state(a=BY_NAME, a_flags=flags)
    names = {(1, ip_address(destination)): opened}
    return judge(wanted, ip_address(A4), ip_address(destination), TCP, 443, names=names).verdict


def test_a_name_opens_an_address_outside() -> None:
    assert named(WORLD4) == 0
    assert named(WORLD4, opened=()) == -DropReason.POLICY_DENIED
    assert named(WORLD4, opened=(NAMED + 1,)) == -DropReason.POLICY_DENIED


def test_a_name_opens_nothing_inside_the_cluster() -> None:
    for inside in (B4, NODE4, REMOTE4):
        assert named(inside) == -DropReason.POLICY_DENIED


def test_what_a_name_has_opened_counts_for_that_endpoint_only() -> None:
    wanted = state(a=BY_NAME, b=BY_NAME, a_flags=NAMES, b_flags=NAMES)
    names = {(2, ip_address(WORLD4)): (NAMED,)}
    assert judge(wanted, ip_address(A4), ip_address(WORLD4), TCP, 443, names=names).verdict < 0
    assert judge(wanted, ip_address(B4), ip_address(WORLD4), TCP, 443, names=names).verdict == 0


def test_a_deny_rule_is_stronger_than_a_name() -> None:
    wanted = state(a={**BY_NAME, **rows(DENY, row(9, EGRESS))}, a_flags=NAMES)
    names = {(1, ip_address(WORLD4)): (NAMED,)}
    verdict = judge(wanted, ip_address(A4), ip_address(WORLD4), TCP, 443, names=names).verdict
    assert verdict == -DropReason.POLICY_DENY


OPEN_TO_80 = rows(ALLOW, row(ID_A, INGRESS, TCP, 80))


def test_replies_pass_without_a_rule_of_their_own() -> None:
    model = Model(state(b=OPEN_TO_80, b_flags=ENFORCE_INGRESS, a_flags=ENFORCE_INGRESS))
    assert model.from_pod(packets.tcp(A4, 1000, B4, 80), 2) == 0
    assert model.from_pod(packets.tcp(B4, 80, A4, 1000, SYN | ACK), 4) == 0
    assert model.from_pod(packets.tcp(B4, 80, A4, 1001, SYN | ACK), 4) == POLICY_DENIED


@pytest.mark.parametrize("first", ["initiator", "responder"])
def test_a_withdrawn_permission_ends_the_flow_whoever_speaks_next_and_for_good(first: str) -> None:
    """The responder may open flows of its own to the client; that must not bring the ended one back."""
    model = Model(state(b=OPEN_TO_80, b_flags=ENFORCE_INGRESS))
    asks = packets.tcp(A4, 1000, B4, 80, ACK), 2
    answers = packets.tcp(B4, 80, A4, 1000, ACK), 4
    assert model.from_pod(packets.tcp(A4, 1000, B4, 80), 2) == 0
    assert model.from_pod(*answers) == 0
    model.state, model.epoch = state(b_flags=ENFORCE_INGRESS), 2
    for frame, ifindex in [asks, answers] if first == "initiator" else [answers, asks]:
        assert model.from_pod(frame, ifindex) == POLICY_DENIED


def test_an_evicted_flow_that_is_denied_now_does_not_come_back() -> None:
    model = Model(state(b_flags=ENFORCE_INGRESS))
    assert model.from_pod(packets.tcp(B4, 80, A4, 1000, ACK), 4) == POLICY_DENIED
    assert model.from_pod(packets.tcp(A4, 1000, B4, 80, ACK), 2) == POLICY_DENIED


def test_an_evicted_flow_goes_on_if_either_side_may_have_begun_it() -> None:
    model = Model(state(b=OPEN_TO_80, b_flags=ENFORCE_INGRESS))
    assert model.from_pod(packets.tcp(B4, 80, A4, 1000, ACK), 4) == 0
    assert model.from_pod(packets.tcp(A4, 1000, B4, 80, ACK), 2) == 0


def test_a_syn_against_the_flow_is_judged_for_itself() -> None:
    model = Model(state(b=OPEN_TO_80, b_flags=ENFORCE_INGRESS, a_flags=ENFORCE_INGRESS))
    assert model.from_pod(packets.tcp(A4, 1000, B4, 80), 2) == 0
    assert model.from_pod(packets.tcp(B4, 80, A4, 1000, SYN), 4) == POLICY_DENIED
    assert model.from_pod(packets.tcp(B4, 80, A4, 1000, ACK), 4) == 0


def test_an_l7_rule_that_appears_under_a_live_flow_never_lets_it_on_uninspected() -> None:
    model = Model(state(b=OPEN_TO_80, b_flags=ENFORCE_INGRESS))
    assert model.from_pod(packets.tcp(A4, 1000, B4, 80), 2) == 0
    model.state = state(b=rows(REDIRECT, row(ID_A, INGRESS, TCP, 80)), b_flags=ENFORCE_INGRESS)
    model.epoch = 2
    assert model.from_pod(packets.tcp(A4, 1000, B4, 80, ACK), 2) == NO_SOCKET
    assert model.from_pod(packets.tcp(B4, 80, A4, 1000, ACK), 4) == NO_SOCKET


def test_a_proxied_flow_stays_the_proxys_when_its_l7_rule_goes() -> None:
    proxied = rows(REDIRECT, row(0, INGRESS, TCP, 80))
    model = Model(state(b=proxied, b_flags=ENFORCE_INGRESS))
    assert model.to_pod(packets.tcp(REMOTE4, 1000, B4, 80), 4) == 1
    model.state, model.epoch = state(), 2
    assert model.to_pod(packets.tcp(REMOTE4, 1000, B4, 80, ACK), 4) == 1


@pytest.mark.parametrize("ending", ["reset", "both finished"])
def test_after_the_end_a_new_connection_on_the_same_ports_is_judged_anew(ending: str) -> None:
    model = Model(state(b=OPEN_TO_80, b_flags=ENFORCE_INGRESS))
    model.from_pod(packets.tcp(A4, 1000, B4, 80), 2)
    if ending == "reset":
        model.from_pod(packets.tcp(B4, 80, A4, 1000, RST), 4)
    else:
        model.from_pod(packets.tcp(B4, 80, A4, 1000, FIN | ACK), 4)
        model.from_pod(packets.tcp(A4, 1000, B4, 80, FIN | ACK), 2)
    assert next(iter(model.flows.values())).closed
    model.from_pod(packets.tcp(A4, 1000, B4, 80), 2)
    assert not next(iter(model.flows.values())).closed


def test_address_of_another_family_is_another_endpoint() -> None:
    model = Model(state())
    assert model.from_pod(packets.tcp("fd77:9::9", 1, A6, 2), 2) == -DropReason.INVALID_SOURCE_IP
