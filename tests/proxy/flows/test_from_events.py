"""What the datapath reports, as flows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.policy.resolved import Direction, Protocol
from proxy.flows.from_events import EventKind, PacketEvent
from proxy.flows.model import EventType, LostEvents, LostSource, PolicyMatch, TrafficDirection, Verdict
from proxy.flows.reasons import DROP_REASONS, RESERVED_IDENTITIES, label_texts
from proxy.flows.summary import type_word
from tests.proxy.flows.samples import API, NOON, WEB, WORLD, Node

DENIED = PacketEvent(
    EventKind.DROP,
    NOON,
    "203.0.113.9",
    "10.0.0.2",
    Protocol.TCP,
    55555,
    22,
    0x02,
    reason=133,
    reason_words="no rule allows it",
    direction=Direction.INGRESS,
    destination_endpoint=12,
    source_identity=WORLD,
    destination_identity=API,
    interface=5,
)


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_packet_that_policy_refused_is_a_verdict_and_a_drop(node: Node) -> None:
    node.events.add([DENIED])
    verdict, drop = node.flows()
    assert type_word(verdict) == "policy-verdict:none INGRESS"
    assert type_word(drop) == "Policy denied"
    assert (drop.event_type, drop.event_sub_type, drop.drop_reason_desc) == (EventType.DROP, 133, "POLICY_DENIED")
    assert drop.interface_index == 5
    assert verdict.is_reply is False
    assert drop.is_reply is None
    for flow in (verdict, drop):
        assert flow.verdict is Verdict.DROPPED
        assert [policy.name for policy in flow.ingress_denied_by] == ["api"]
        assert flow.policy_log == ("default deny of default/api: no rule allows it",)
        assert flow.summary == "TCP Flags: SYN"
        assert flow.source.labels == ("reserved:world",)


def test_other_drops_blame_no_policy(node: Node) -> None:
    node.events.add([replace(DENIED, reason=132, direction=None, reason_words="not an address of its own")])
    (drop,) = node.flows()
    assert type_word(drop) == "Invalid source ip"
    assert (drop.ingress_denied_by, drop.policy_log) == ((), ())
    assert drop.traffic_direction is TrafficDirection.TRAFFIC_DIRECTION_UNKNOWN
    assert drop.deciding is not None
    assert drop.deciding.reason == "not an address of its own"


def test_an_explicit_denial_names_its_rule(node: Node) -> None:
    event = replace(
        DENIED,
        source="10.0.0.1",
        destination="192.0.2.7",
        reason=181,
        reason_words="",
        direction=Direction.EGRESS,
        source_endpoint=11,
        source_identity=WEB,
        destination_endpoint=0,
        destination_identity=WORLD,
        rule=8,
    )
    node.events.add([event])
    verdict = node.flows()[0]
    assert [policy.name for policy in verdict.egress_denied_by] == ["no-world"]
    assert verdict.policy_log == ("egressDeny[0] policies/deny.yaml:4: Policy denied by denylist",)
    assert verdict.policy_match_type == PolicyMatch.L3_ONLY


ALLOWED = replace(
    DENIED,
    kind=EventKind.VERDICT,
    verdict=Verdict.REDIRECTED,
    reason=0,
    reason_words="",
    rule=7,
    source_identity=WEB,
)


def test_an_allowed_first_packet(node: Node) -> None:
    node.events.add([ALLOWED])
    (flow,) = node.flows()
    assert (flow.verdict, type_word(flow)) == (Verdict.REDIRECTED, "policy-verdict:L3-L4 INGRESS")
    assert [policy.name for policy in flow.ingress_allowed_by] == ["api"]
    assert (flow.policy_log, flow.drop_reason) == ((), 0)


def test_both_ends_are_named(node: Node) -> None:
    node.events.add([replace(ALLOWED, rule=7, other_rule=8, source_endpoint=11)])
    (flow,) = node.flows()
    assert [policy.name for policy in flow.ingress_allowed_by] == ["api"]
    assert [policy.name for policy in flow.egress_allowed_by] == ["no-world"]


def test_our_own_rules_are_no_policies(node: Node) -> None:
    node.events.add([replace(ALLOWED, rule=9, verdict=Verdict.FORWARDED)])
    (flow,) = node.flows()
    assert flow.ingress_allowed_by == ()
    assert flow.deciding is not None
    assert flow.deciding.rule == "host access"


def test_no_enforcement_matches_all(node: Node) -> None:
    node.events.add([replace(ALLOWED, rule=0, verdict=Verdict.FORWARDED)])
    assert type_word(node.flows()[0]) == "policy-verdict:all INGRESS"
    assert node.flows()[0].deciding is None


def test_audit(node: Node) -> None:
    node.events.add([replace(ALLOWED, rule=0, verdict=Verdict.AUDIT, reason=133)])
    (flow,) = node.flows()
    assert (flow.verdict, flow.drop_reason, flow.drop_reason_desc) == (Verdict.AUDIT, 0, "")
    assert [policy.name for policy in flow.ingress_denied_by] == ["api"]


def test_the_kernels_own_match_wins(node: Node) -> None:
    node.events.add([replace(ALLOWED, match=3)])
    assert type_word(node.flows()[0]) == "policy-verdict:L4-Only INGRESS"


@pytest.mark.parametrize(
    ("protocol", "more", "summary"),
    [
        (Protocol.UDP, {}, "UDP"),
        (Protocol.SCTP, {}, "SCTP"),
        (Protocol.ICMP, {"icmp_type": 8}, "ICMPv4 EchoRequest"),
        (Protocol.ICMPV6, {"icmp_type": 129}, "ICMPv6 EchoReply"),
        (Protocol.ICMP, {"icmp_type": 99}, "ICMPv4 99"),
        (47, {}, ""),
        (Protocol.TCP, {"tcp_flags": 0x12}, "TCP Flags: SYN, ACK"),
    ],
)
def test_summaries(node: Node, protocol: int, more: dict[str, int], summary: str) -> None:
    node.events.add([replace(ALLOWED, protocol=protocol, **more)])  # type: ignore[arg-type]
    assert node.flows()[0].summary == summary


def test_pods_of_other_nodes_are_known_by_address(node: Node) -> None:
    node.events.add([replace(ALLOWED, source="10.0.9.9", source_identity=3003)])
    source = node.flows()[0].source
    assert (source.pod_name, source.id, source.identity) == ("far", 0, 3003)


def test_a_full_kernel_buffer_is_told(node: Node) -> None:
    node.events.lost(4, cpu=1)
    (lost,) = node.observations()
    assert isinstance(lost, LostEvents)
    assert (lost.source, lost.count, lost.cpu) == (LostSource.PERF_EVENT_RING_BUFFER, 4, 1)


def test_reasons_are_the_datapaths() -> None:
    from bpf.reasons import DropReason, reason_text

    assert {int(reason): (reason.name, reason_text(reason)) for reason in DropReason}.items() <= DROP_REASONS.items()


def test_reserved_identities_are_those_of_the_policies() -> None:
    from config.identity import RESERVED_LABELS

    of_policies = {number: label_texts(labels) for number, labels in RESERVED_LABELS.items()}
    assert of_policies == {number: (f"reserved:{name}",) for number, name in RESERVED_IDENTITIES.items() if number}


def test_frames_that_are_not_ip(node: Node) -> None:
    node.events.add([replace(DENIED, source="", destination="", protocol=0, reason=139)])
    (drop,) = node.flows()
    assert (drop.ip, drop.l4, type_word(drop)) == (None, None, "Unsupported L3 protocol")


def test_addresses_elsewhere_have_the_names_that_pods_know_them_by() -> None:
    known = {(12, "203.0.113.9"): ("client.test",), (11, "192.0.2.7"): ("api.test", "cdn.test")}
    node = Node(names_of=lambda endpoint, address: known.get((endpoint, address), ()))
    out = replace(DENIED, source="10.0.0.1", destination="192.0.2.7", source_endpoint=11, destination_endpoint=0)
    inside = replace(DENIED, source="10.0.0.1", destination="10.0.0.2", source_endpoint=11)
    node.events.add([DENIED, out, inside])
    assert [(flow.source_names, flow.destination_names) for flow in node.flows()] == [
        (("client.test",), ()),
        (("client.test",), ()),
        ((), ("api.test", "cdn.test")),
        ((), ("api.test", "cdn.test")),
        ((), ()),
        ((), ()),
    ]
