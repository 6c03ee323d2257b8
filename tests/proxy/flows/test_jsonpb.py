"""Flows as proto3 JSON: what is written, and that it reads back."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.flows import model
from proxy.flows.jsonpb import FormatError, decode_line, encode_line, flow_to_json
from proxy.flows.model import Flow, LostEvents, LostSource
from tests.proxy.flows.samples import NOON, golden_node

GOLDEN_REFUSAL = (
    '{"flow":{"time":"2026-01-02T03:04:06.001Z","uuid":"UUID","verdict":"DROPPED","drop_reason":133,'
    '"IP":{"source":"10.0.0.1","destination":"10.0.0.2","ipVersion":"IPv4"},'
    '"l4":{"TCP":{"source_port":41002,"destination_port":8080}},'
    '"source":{"ID":11,"identity":3001,"namespace":"default",'
    '"labels":["k8s:app=web","k8s:io.kubernetes.pod.namespace=default"],"pod_name":"web"},'
    '"destination":{"ID":12,"identity":3002,"namespace":"default",'
    '"labels":["k8s:app=api","k8s:io.kubernetes.pod.namespace=default"],"pod_name":"api"},'
    '"Type":"L7","node_name":"node-1",'
    '"l7":{"type":"REQUEST","http":{"method":"DELETE","url":"http://api:8080/v1/items","protocol":"HTTP/1.1"}},'
    '"event_type":{"type":129},"traffic_direction":"INGRESS","drop_reason_desc":"POLICY_DENIED","is_reply":false,'
    '"Summary":"HTTP/1.1 DELETE http://api:8080/v1/items",'
    '"extensions":{"@type":"type.googleapis.com/google.protobuf.Struct","value":{"penstock":'
    '{"reason":"method \\"DELETE\\" is not \\"GET\\"","default_deny":true,"revision":"3"}}},'
    '"ingress_denied_by":[{"name":"api","namespace":"default","revision":"3","kind":"CiliumNetworkPolicy"}],'
    '"policy_log":["default deny of default/api: method \\"DELETE\\" is not \\"GET\\""]},'
    '"node_name":"node-1","time":"2026-01-02T03:04:06.001Z"}'
)


def test_a_refusal_is_written_exactly() -> None:
    flow = golden_node().flows()[2]
    assert encode_line(flow).replace(flow.uuid, "UUID") == GOLDEN_REFUSAL


def test_responses_carry_code_latency_and_reply() -> None:
    data = flow_to_json(golden_node().flows()[1])
    assert data["l7"]["http"]["code"] == 200
    assert data["l7"]["latency_ns"] == "1000000"
    assert data["is_reply"] is True
    assert data["source"]["pod_name"] == "api"  # packet direction: the responder sends


def test_requests_have_no_code() -> None:
    assert "code" not in flow_to_json(golden_node().flows()[0])["l7"]["http"]


def test_everything_reads_back() -> None:
    for flow in golden_node().flows():
        assert decode_line(encode_line(flow)) == flow


def test_lost_events_read_back() -> None:
    lost = LostEvents(LostSource.PERF_EVENT_RING_BUFFER, 2**40, NOON, 0, "node-1")
    line = encode_line(lost)
    assert json.loads(line)["lost_events"] == {
        "source": "PERF_EVENT_RING_BUFFER",
        "num_events_lost": str(2**40),
        "cpu": 0,
    }
    assert decode_line(line) == lost


def test_a_flow_of_another_agent() -> None:
    """Fields that are not ours are passed over; names of a newer schema count as unknown."""
    line = json.dumps(
        {
            "flow": {
                "time": "2026-08-05T10:11:12.123456789Z",
                "verdict": "SOMETHING_NEW",
                "ethernet": {"source": "aa:bb"},
                "IP": {"source": "fd00::1", "destination": "fd00::2", "ipVersion": "IPv6"},
                "l4": {"TCP": {"source_port": 1, "destination_port": 2, "flags": {"SYN": True, "ACK": True}}},
                "event_type": {"type": 4, "sub_type": 3},
                "trace_observation_point": "TO_STACK",
                "is_reply": False,
                "Summary": "TCP Flags: SYN, ACK",
            },
            "node_name": "other",
        }
    )
    flow = decode_line(line)
    assert isinstance(flow, Flow)
    assert flow.verdict is model.Verdict.VERDICT_UNKNOWN
    assert flow.time_ns % 10**9 == 123456789
    assert flow.l4 == model.L4("TCP", 1, 2, model.TcpFlag.SYN | model.TcpFlag.ACK)


def test_node_status_is_no_observation() -> None:
    assert decode_line('{"node_status":{"state_change":"NODE_CONNECTED"}}') is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        '{"flow":null}',
        '{"flow":{"uuid":5}}',
        '{"flow":{"time":"yesterday"}}',
        '{"flow":{"l4":{"TCP":{"flags":{"XYZ":true}}}}}',
        '{"flow":{"source":{"labels":[1]}}}',
        '{"flow":{"verdict":99}}',
        '{"flow":{"IP":5}}',
    ],
)
def test_what_is_no_flow_is_said_to_be_none(line: str) -> None:
    with pytest.raises(FormatError):
        decode_line(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
# Tests assert no time: other work on the machine shall not fail them.
LOADED_MACHINE = settings(suppress_health_check=[HealthCheck.too_slow])
FIELDS = ["time", "uuid", "verdict", "IP", "l4", "source", "Type", "l7", "event_type", "is_reply", "extensions"]


@LOADED_MACHINE
@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_any_json_is_a_flow_or_a_format_error(data: dict[str, object]) -> None:
    with contextlib.suppress(FormatError):
        assert isinstance(decode_line(json.dumps({"flow": data})), Flow)


def test_json_does_not_move_a_cursor() -> None:
    from tests.proxy.flows.samples import Node, batch, exchange

    node = Node()
    node.workers.add(batch(exchange(target="/\x1b\x7f\x9b\u202eä".encode())))
    flow = node.flows()[0]
    line = encode_line(flow)
    assert "/\\u001b\\u007f\\u009b\\u202eä" in line
    assert decode_line(line) == flow


@LOADED_MACHINE
@given(st.binary(max_size=40))
def test_any_bytes_are_json(target: bytes) -> None:
    from tests.proxy.flows.samples import Node, batch, exchange

    node = Node()
    node.workers.add(batch(exchange(target=b"/" + target)))
    for flow in node.flows():
        line = encode_line(flow)
        assert "\n" not in line
        assert decode_line(line.encode()) == flow
