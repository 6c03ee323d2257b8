"""Kafka requests as flows: records, their words, their JSON, and filters."""

from __future__ import annotations

import io
import json

import pytest

from proxy.flows import wire
from proxy.flows.flags import FilterBuilder
from proxy.flows.jsonpb import decode_line, encode_line, flow_to_json
from proxy.flows.kafka_records import api_name
from proxy.flows.model import L7, Flow, Kafka, L7Type, Policy, Verdict
from proxy.flows.printers import Output, Printer, Style
from proxy.flows.summary import summary, type_word
from tests.proxy.flows.samples import MS, NOON, Node, batch, exchange, kafka, refused_kafka

GOLDEN = """\
Jan  2 03:04:05.678: default/web:41000 (ID:3001) -> default/api:8080 (ID:3002) kafka-request FORWARDED (Kafka request produce correlation id 5 topic 'orders')
Jan  2 03:04:05.679: default/web:41000 (ID:3001) <- default/api:8080 (ID:3002) kafka-response FORWARDED (Kafka response produce correlation id 5 topic 'orders' return code 0)
Jan  2 03:04:05.678: default/web:41000 (ID:3001) -> default/api:8080 (ID:3002) kafka-request DROPPED (Kafka request produce correlation id 5 topic 'secret')
Jan  2 03:04:05.679: default/web:41000 (ID:3001) <- default/api:8080 (ID:3002) kafka-response FORWARDED (Kafka response produce correlation id 5 topic 'secret' return code 29)
"""  # noqa: E501


def flows(*exchanges: wire.KafkaExchange) -> list[Flow]:
    node = Node()
    node.workers.add(batch(kafka=list(exchanges)))
    return node.flows()


def show(items: list[Flow], output: Output) -> str:
    out = io.StringIO()
    printer = Printer(out, Style(output))
    for item in items:
        printer.write(item)
    printer.close()
    return out.getvalue()


def test_an_allowed_request_is_two_flows() -> None:
    request, response = flows(kafka())
    assert (request.verdict, response.verdict) == (Verdict.FORWARDED, Verdict.FORWARDED)
    assert request.ingress_allowed_by == (Policy("api", "default", "CiliumNetworkPolicy", 3),)
    assert (request.time_ns, response.time_ns) == (NOON, NOON + MS)
    assert (request.source, request.destination) == (response.destination, response.source)
    assert request.l7 == L7(L7Type.REQUEST, 0, "kafka", kafka=Kafka(0, 9, "produce", 5, "orders"))
    assert response.l7 == L7(L7Type.RESPONSE, MS, "kafka", kafka=Kafka(0, 9, "produce", 5, "orders"))


def test_a_refused_request_is_a_drop_and_an_answer_that_says_so() -> None:
    request, response = flows(refused_kafka())
    assert (request.verdict, request.drop_reason_desc) == (Verdict.DROPPED, "POLICY_DENIED")
    assert request.ingress_denied_by == (Policy("api", "default", "CiliumNetworkPolicy", 3),)
    assert request.policy_log == ('default deny of default/api: topic "secret" is not "orders"',)
    assert request.deciding is not None
    assert request.deciding.reason == 'topic "secret" is not "orders"'
    assert response.l7 is not None
    assert response.l7.kafka is not None
    assert (response.verdict, response.l7.kafka.error_code) == (Verdict.FORWARDED, 29)
    assert (response.drop_reason, response.ingress_denied_by, response.deciding) == (0, (), None)


def test_no_answer_no_second_flow() -> None:
    assert len(flows(kafka(answered=False))) == 1


def test_what_no_rule_got_to_see_blames_no_policy() -> None:
    (request,) = flows(kafka(verdict=Verdict.ERROR, answered=False, rule=0, reason="the server knows no such topic"))
    assert (request.verdict, request.ingress_denied_by) == (Verdict.ERROR, ())
    assert request.policy_log == ("the server knows no such topic",)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (kafka(()), ""),
        (kafka(("a", "b")), "a,b"),
        (kafka(("a", "b"), more=3), "a,b and 3 more"),
        (kafka(("a,b",)), "a\\x2cb"),
    ],
)
def test_several_topics_are_one_record(told: wire.KafkaExchange, shown: str) -> None:
    assert flows(told)[0].summary == f"Kafka request produce correlation id 5 topic '{shown}'"


@pytest.mark.parametrize(
    ("key", "name"), [(0, "produce"), (3, "metadata"), (18, "apiversions"), (9999, "9999"), (-1, "-1")]
)
def test_names_of_requests(key: int, name: str) -> None:
    assert api_name(key) == name


def test_compact_lines() -> None:
    assert show(flows(kafka(), refused_kafka()), Output.COMPACT) == GOLDEN


def test_other_formats_say_the_same() -> None:
    items = flows(refused_kafka())
    assert "       TYPE: kafka-request\n    VERDICT: DROPPED\n" in show(items, Output.DICT)
    row = show(items, Output.TABLE).splitlines()[2]
    assert "kafka-response   FORWARDED   Kafka response produce" in row


def test_a_topic_cannot_move_the_cursor() -> None:
    shown = show(flows(kafka(("\x1b[2J\nfake",))), Output.COMPACT)
    assert "\x1b" not in shown
    assert shown.count("\n") == 2


def test_json_has_the_fields_of_the_schema() -> None:
    request, response = (flow_to_json(flow) for flow in flows(refused_kafka()))
    assert request["l7"] == {
        "type": "REQUEST",
        "kafka": {"api_version": 9, "api_key": "produce", "correlation_id": 5, "topic": "secret"},
    }
    assert response["l7"] == {
        "type": "RESPONSE",
        "latency_ns": "1000000",
        "kafka": {
            "error_code": 29,
            "api_version": 9,
            "api_key": "produce",
            "correlation_id": 5,
            "topic": "secret",
        },
    }


def test_json_reads_back() -> None:
    for flow in flows(kafka(), refused_kafka(), kafka(client_id="reader-7"), kafka(answered=False)):
        assert decode_line(encode_line(flow)) == flow


def test_the_client_id_is_an_addition_of_ours() -> None:
    response = flow_to_json(flows(kafka(client_id="reader-7"))[1])
    assert response["extensions"]["value"] == {"penstock": {"kafka_client_id": "reader-7"}}


def test_a_flow_of_another_agent() -> None:
    record = {"api_key": "fetch", "topic": "t", "correlation_id": 2, "error_code": -1}
    line = json.dumps({"flow": {"l7": {"type": "RESPONSE", "kafka": record}}})
    flow = decode_line(line)
    assert isinstance(flow, Flow)
    assert type_word(flow) == "kafka-response"
    assert summary(flow) == "Kafka response fetch correlation id 2 topic 't' return code -1"


def test_the_protocol_filter() -> None:
    node = Node()
    node.workers.add(batch(exchange(), kafka=[kafka(), refused_kafka()]))
    builder = FilterBuilder()
    builder.add("protocol", "kafka", negate=False)
    builder.add("verdict", "DROPPED", negate=False)
    found = [flow for flow in node.flows() if builder.build().matches(flow)]
    assert [flow.summary for flow in found] == ["Kafka request produce correlation id 5 topic 'secret'"]


def test_numbers_of_a_lying_worker_are_taken_as_errors() -> None:
    request, _ = flows(kafka(verdict=77, direction=5, rule=-1, api_key=-9))  # type: ignore[arg-type]
    assert request.verdict is Verdict.ERROR
    assert request.l7 is not None
    assert request.l7.kafka is not None
    assert request.l7.kafka.api_key == "-9"
