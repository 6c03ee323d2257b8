"""Random policies and random traffic: the compiled programs and the reference model must agree on every packet."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpf.marks import MARK_FROM_PROXY, MARK_RESET, MARK_SERVICE, ORIGIN_SHIFT
from bpf.model import Direction, Model, Names, judge
from bpf.tables import SERVICE_IDENTITY, DesiredState, EndpointFlag, Policy, Row, RowKey, RowVerdict
from tests.bpf import packets as p
from tests.bpf.kernel import POD_A, POD_B, Kernel
from tests.bpf.states import A4, A6, B4, B6, ID_A, ID_B, ID_REMOTE, NODE4, REMOTE4, REMOTE6, WORLD4, WORLD6, state

pytestmark = pytest.mark.bpf

# Few values, so that rows, packets and flows meet.
GROUPS = tuple((3 << 23) + number for number in range(3))
IDENTITIES = (0, 1, 9, 10, ID_A, ID_B, ID_REMOTE, *GROUPS)
PORTS = (80, 81, 96, 443, 8080)
VIP4, VIP6 = "10.96.0.1", "fd96::1"
V4, V6 = (A4, B4, NODE4, REMOTE4, WORLD4, VIP4), (A6, B6, REMOTE6, WORLD6, VIP6)
PROTOCOLS = (0, p.ICMP, p.TCP, p.UDP, p.ICMPV6, p.SCTP)
FLAGS = (p.SYN, p.SYN | p.ACK, p.ACK, p.FIN | p.ACK, p.RST, p.SYN | p.FIN, 0)


@st.composite
def row_keys(draw: st.DrawFn) -> RowKey:
    protocol = draw(st.sampled_from(PROTOCOLS))
    if protocol == 0:
        return RowKey(draw(st.sampled_from(IDENTITIES)), draw(st.integers(0, 1)), 0, 0, 0)
    is_icmp = protocol in (p.ICMP, p.ICMPV6)
    port = draw(st.sampled_from((0, 8, 13, 128, 129) if is_icmp else PORTS))
    bits = draw(st.sampled_from((0, 16) if is_icmp else (0, 4, 12, 15, 16)))
    return RowKey(
        draw(st.sampled_from(IDENTITIES)), draw(st.integers(0, 1)), protocol, port >> (16 - bits) << (16 - bits), bits
    )


policies: st.SearchStrategy[Policy] = st.dictionaries(
    row_keys(),
    st.builds(Row, st.sampled_from(RowVerdict), st.integers(1, 99), st.just(0) | st.integers(100, 199)),
    max_size=12,
)
flags = st.sampled_from([EndpointFlag(number) for number in range(64)])
_SERVICES = {ip_network(f"{VIP4}/32"): SERVICE_IDENTITY, ip_network(f"{VIP6}/128"): SERVICE_IDENTITY}


def _served(wanted: DesiredState, served: bool) -> DesiredState:
    return DesiredState(wanted.endpoints, {**wanted.ipcache, **_SERVICES}) if served else wanted


states = st.builds(_served, st.builds(state, policies, policies, flags, flags), st.booleans())


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Whole ones, pieces of them, and errors about them."""
    whole = draw(whole_frames())
    match draw(st.integers(0, 6)):
        case 0:
            place, number = draw(st.integers(0, 2)), draw(st.integers(1, 2))
            size = draw(st.sampled_from((4, 8, 16, 24)))
            return p.piece(whole, number, place, more=draw(st.booleans()), size=size)
        case 1:
            v6 = whole[12:14] == b"\x86\xdd"
            router = draw(st.sampled_from(V6 if v6 else V4))
            kind = draw(st.sampled_from((1, 2, 4, 128) if v6 else (3, 11, 5)))
            return p.error(router, whole, kind, quoted=draw(st.sampled_from((64, 48, 28, 20, 10))))
        case _:
            return whole


@st.composite
def whole_frames(draw: st.DrawFn) -> bytes:
    addresses = draw(st.sampled_from((V4, V6)))
    source, destination = draw(st.sampled_from(addresses)), draw(st.sampled_from(addresses))
    source_port, destination_port = draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))
    match draw(st.integers(0, 9)):
        case 0:
            return p.udp(source, source_port, destination, destination_port)
        case 1:
            return p.sctp(source, source_port, destination, destination_port)
        case 2:
            kinds = (128, 129, 1, 135) if addresses is V6 else (8, 0, 3, 13)
            return p.icmp(source, destination, draw(st.sampled_from(kinds)), draw(st.integers(0, 1)))
        case 3:
            return p.ip(source, destination, draw(st.integers(0, 255)), draw(st.binary(max_size=40)))
        case 4:
            whole = p.tcp(source, source_port, destination, destination_port)
            # A test run refuses frames without a whole IP header.
            return whole[: draw(st.integers(54 if addresses is V6 else 34, len(whole)))]
        case _:
            return p.tcp(source, source_port, destination, destination_port, draw(st.sampled_from(FLAGS)))


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, bytes, int]:
    """(program, frame, mark)"""
    if draw(st.booleans()):
        return "from_pod", draw(frames()), draw(st.sampled_from((POD_A, POD_B)))
    from_a, from_nobody = MARK_SERVICE | 1 << ORIGIN_SHIFT, MARK_SERVICE | 9 << ORIGIN_SHIFT
    if draw(st.integers(0, 3)) == 0:
        return "to_world", draw(frames()), draw(st.sampled_from((from_a, from_a, from_nobody, 0)))
    return "to_pod", draw(frames()), draw(st.sampled_from((0, 0, 0, 0, from_a, MARK_FROM_PROXY, MARK_RESET)))


addresses = st.sampled_from([ip_address(text) for text in (*V4, *V6)])
openings: st.SearchStrategy[Names] = st.dictionaries(
    st.tuples(st.integers(1, 2), addresses), st.lists(st.sampled_from(GROUPS), min_size=1, max_size=3), max_size=6
)
conversations = st.lists(st.one_of(steps(), steps(), steps(), steps(), states, openings), min_size=1, max_size=14)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=states, opened=openings, conversation=conversations)
def test_programs_and_model_agree(
    programs: Kernel,
    start: DesiredState,
    opened: Names,
    conversation: list[tuple[str, bytes, int] | DesiredState | Names],
) -> None:
    programs.forget_flows()
    programs.apply(start)
    programs.set_names(opened)
    model = Model(start)
    model.names = opened
    for step in conversation:
        if isinstance(step, Mapping):
            programs.set_names(step)
            model.names = step
            continue
        if isinstance(step, DesiredState):
            if programs.apply(step).any:
                model.state, model.epoch = step, model.epoch + 1
            continue
        program, frame, number = step
        if program == "to_world":
            seen, expected = programs.to_world(frame, number).verdict, model.to_world(frame, number)
        elif program == "from_pod":
            seen, expected = programs.from_pod(frame, number).verdict, model.from_pod(frame, number)
        else:
            seen, expected = programs.to_pod(frame, mark=number).verdict, model.to_pod(frame, POD_B, number)
        assert seen == expected, f"{program} {number} {frame.hex()}"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=states, source=st.sampled_from(V4), port=st.sampled_from(PORTS), protocol=st.sampled_from((p.TCP, p.UDP)))
def test_programs_tell_what_the_model_judges(
    programs: Kernel, start: DesiredState, source: str, port: int, protocol: int
) -> None:
    programs.forget_flows()
    programs.apply(start)
    frame = (p.tcp if protocol == p.TCP else p.udp)(source, 1000, B4, port)
    (event,) = programs.to_pod(frame).events
    judged = judge(start, ip_address(source), ip_address(B4), protocol, port)
    told = judged.verdict if judged.verdict < 0 else judged.audited or judged.verdict
    assert (event.verdict, event.audited) == (told, judged.verdict >= 0 and judged.audited < 0)
    assert event.direction == judged.direction
    assert event.rules == (judged.rules[Direction.INGRESS], judged.rules[Direction.EGRESS])
