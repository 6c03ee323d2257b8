"""Random policies and random traffic: the compiled programs and the reference model must agree on every packet."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpf.marks import MARK_FROM_PROXY
from bpf.model import Direction, Model, judge
from bpf.tables import DesiredState, EndpointFlag, Policy, Row, RowKey, RowVerdict
from tests.bpf import packets as p
from tests.bpf.kernel import POD_A, POD_B, Kernel
from tests.bpf.states import A4, A6, B4, B6, ID_A, ID_B, ID_REMOTE, NODE4, REMOTE4, REMOTE6, WORLD4, WORLD6, state

pytestmark = pytest.mark.bpf

# Few values, so that rows, packets and flows meet.
IDENTITIES = (0, 1, 9, 10, ID_A, ID_B, ID_REMOTE)
PORTS = (80, 81, 96, 443, 8080)
V4, V6 = (A4, B4, NODE4, REMOTE4, WORLD4), (A6, B6, REMOTE6, WORLD6)
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
flags = st.sampled_from([EndpointFlag(number) for number in range(32)])
states = st.builds(state, policies, policies, flags, flags)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
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
    return "to_pod", draw(frames()), draw(st.sampled_from((0, 0, 0, MARK_FROM_PROXY)))


conversations = st.lists(st.one_of(steps(), steps(), steps(), steps(), states), min_size=1, max_size=14)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=states, conversation=conversations)
def test_programs_and_model_agree(
    programs: Kernel, start: DesiredState, conversation: list[tuple[str, bytes, int] | DesiredState]
) -> None:
    programs.forget_flows()
    programs.apply(start)
    model = Model(start)
    for step in conversation:
        if isinstance(step, DesiredState):
            if programs.apply(step).any:
                model.state, model.epoch = step, model.epoch + 1
            continue
        program, frame, number = step
        if program == "from_pod":
            seen, expected = programs.from_pod(frame, number).verdict, model.from_pod(frame, number)
        else:
            seen, expected = programs.to_pod(frame, mark=number).verdict, model.to_pod(frame, number)
        assert seen == expected, f"{program} {number} {frame.hex()}"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
