"""Probe files, the command they become, and the table of what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.flows.model import L4, L7, Deciding, Flow, FlowType, Kafka, L7Type, Policy, TrafficDirection, Verdict
from proxy.lab.attribution import deciding_flow, describe
from proxy.lab.errors import LabError
from proxy.lab.prober import Result, curl_command, kafka_command
from proxy.lab.probes import Probe, read_probes
from proxy.lab.report import Row, Section, render, summary


def write(folder: Path, probe: str) -> Path:
    file = folder / "probes.yaml"
    file.write_text(f"title: T\nprobes:\n- {probe}\n", encoding="utf-8")
    return file


def test_a_probe(tmp_path: Path) -> None:
    text = '{name: n, from: a/b, request: "POST http://{a/c}:80/x", ip: 6, data: "{}", expect: 403}'
    read = read_probes(write(tmp_path, text))
    assert read.title == "T"
    assert read.probes == (
        Probe("n", "a/b", "POST", "http://{a/c}:80/x", "403", 6, "{}", f"{tmp_path}/probes.yaml:3:3"),
    )


def test_a_tcp_probe(tmp_path: Path) -> None:
    probe = read_probes(write(tmp_path, '{name: n, from: a/b, request: "TCP db:5432", expect: connected}')).probes[0]
    assert (probe.method, probe.target, probe.ip) == ("TCP", "db:5432", 4)


def test_a_kafka_probe(tmp_path: Path) -> None:
    text = '{name: n, from: a/b, request: "PRODUCE kafka://broker:9092/new-orders", data: seven, expect: kafka 29}'
    probe = read_probes(write(tmp_path, text)).probes[0]
    assert (probe.method, probe.target, probe.data) == ("PRODUCE", "kafka://broker:9092/new-orders", "seven")
    assert (probe.is_kafka, probe.expect) == (True, "kafka 29")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: n, from: a/b, request: GET x, expect: 200}", "'GET x' is no request"),
        ('{name: n, from: a/b, request: "GET kafka://x:1/t", expect: kafka 0}', "'GET kafka://x:1/t' is no request"),
        (
            '{name: n, from: a/b, request: "CONSUME kafka://x/t", expect: kafka 0}',
            "'CONSUME kafka://x/t' is no request",
        ),
        ('{name: n, from: a/b, request: "CONSUME kafka://x:1/t", expect: 403}', "'403' cannot be expected"),
        ('{name: n, from: a/b, request: "GET http://x/", expect: kafka 0}', "'kafka 0' cannot be expected"),
        ('{name: n, from: a/b, request: "GET http://x/", expect: nothing}', "'nothing' cannot be expected"),
        ('{name: n, from: a/b, request: "GET http://x/", expect: 200, ip: 5}', "ip is 4 or 6"),
        ('{name: n, from: a/b, request: "GET http://x/", expect: 200, method: GET}', "unknown key method"),
        ('{from: a/b, request: "GET http://x/", expect: 200}', "probes.0.name is missing"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabError) as caught:
        read_probes(write(tmp_path, text))
    assert "probes.yaml:3:" in caught.value.message
    assert message in caught.value.message


def probe(expect: str = "200", **changes: Any) -> Probe:
    return Probe(**{"name": "n", "source": "a/b", "method": "GET", "target": "http://x/", "expect": expect, **changes})


def test_addresses_take_the_place_of_names() -> None:
    def address(name: str, ip: int) -> str:
        return {("a/c", 4): "10.0.0.1", ("a/c", 6): "fd00::1"}[name, ip]

    assert probe(target="http://{a/c}:80/").resolved(address) == "http://10.0.0.1:80/"
    assert probe(target="http://{a/c}:80/", ip=6).resolved(address) == "http://[fd00::1]:80/"


def test_curl_sends_what_is_written() -> None:
    command = curl_command(probe(data="x", method="PUT", ip=6), "http://x/../y", range(20000, 20008))
    assert command[-1] == "http://x/../y"
    assert {"--path-as-is", "--globoff", "-6"} <= set(command)
    assert command[command.index("--local-port") + 1] == "20000-20007"
    assert command[command.index("--request") + 1] == "PUT"


def test_kafka_clients_are_told_everything_they_need() -> None:
    asked = probe(method="CONSUME", ip=6, data="seven")
    command = kafka_command(asked, "kafka://[fd00::1]:9092/new-orders", range(20000, 20008))
    assert command[3:7] == ["consume", "fd00::1", "9092", "new-orders"]
    assert command[command.index("--local-ports") + 1] == "20000-20007"
    assert command[command.index("--ip") + 1] == "6"
    assert command[command.index("--value") + 1] == "seven"


PORTS = range(20000, 20008)
RESULT = Result(probe(), "200", PORTS, 1.5)
TCP = L4("TCP", source_port=20003, destination_port=80)
FIRST_PACKET = Flow(time_ns=1, verdict=Verdict.REDIRECTED, l4=TCP, type=FlowType.L3_L4)
REQUEST = Flow(time_ns=2, verdict=Verdict.DROPPED, l4=TCP, type=FlowType.L7, l7=L7(L7Type.REQUEST))
RESPONSE = Flow(time_ns=3, verdict=Verdict.FORWARDED, l4=TCP, type=FlowType.L7, l7=L7(L7Type.RESPONSE))
STRANGER = Flow(time_ns=4, verdict=Verdict.DROPPED, l4=L4("TCP", source_port=20008, destination_port=80))


def test_the_deciding_flow_is_the_connections_own() -> None:
    assert deciding_flow([FIRST_PACKET, REQUEST, RESPONSE, STRANGER], RESULT) is REQUEST
    assert deciding_flow([FIRST_PACKET, STRANGER], RESULT) is FIRST_PACKET
    assert deciding_flow([STRANGER], RESULT) is None


def kafka_request(api_key: str, verdict: Verdict = Verdict.FORWARDED) -> Flow:
    l7 = L7(L7Type.REQUEST, kind="kafka", kafka=Kafka(0, 9, api_key, 1, "t"))
    return Flow(verdict=verdict, l4=TCP, type=FlowType.L7, l7=l7)


def test_of_a_kafka_clients_requests_the_one_that_was_meant_tells() -> None:
    asks, writes, reads = (kafka_request(key) for key in ("metadata", "produce", "fetch"))
    wrote = Result(probe("kafka 0", method="PRODUCE", target="kafka://b:1/t"), "kafka 0", PORTS)
    read = Result(probe("kafka 0", method="CONSUME", target="kafka://b:1/t"), "kafka 0", PORTS)
    assert deciding_flow([asks, writes, asks], wrote) is writes
    assert deciding_flow([FIRST_PACKET, asks, reads, asks], read) is reads
    assert deciding_flow([FIRST_PACKET, asks], read) is asks


def test_of_a_kafka_clients_requests_the_refused_one_tells() -> None:
    refused = kafka_request("listoffsets", Verdict.DROPPED)
    others = [kafka_request(key) for key in ("metadata", "fetch")]
    asked = probe("kafka 29", method="CONSUME", target="kafka://b:1/t")
    assert deciding_flow([others[0], refused, others[1]], Result(asked, "kafka 29", PORTS)) is refused
    assert deciding_flow([others[0], refused, others[1]], Result(asked, "kafka 0", PORTS)) is others[1]


def test_rules_are_named_with_their_place() -> None:
    flow = Flow(
        verdict=Verdict.FORWARDED,
        ingress_allowed_by=(Policy("allow-it", "a"),),
        deciding=Deciding("ingress[0]", "/etc/policies/x.yaml", 12),
    )
    assert describe(flow) == "allow-it ingress[0] x.yaml:12"
    assert describe(None) == "no flow record"


def test_default_deny_says_so() -> None:
    flow = Flow(
        verdict=Verdict.DROPPED,
        drop_reason_desc="POLICY_DENIED",
        traffic_direction=TrafficDirection.INGRESS,
        ingress_denied_by=(Policy("locks-it", "a"),),
        deciding=Deciding(default_deny=True),
    )
    assert describe(flow) == "locks-it: default deny, ingress"
    assert describe(Flow(verdict=Verdict.DROPPED, drop_reason_desc="INVALID_SOURCE_IP")) == "invalid source ip"


def test_a_refused_request_names_the_matcher() -> None:
    flow = Flow(
        verdict=Verdict.DROPPED,
        l7=L7(L7Type.REQUEST),
        deciding=Deciding(
            reason='method "PUT" does not match "GET" (p ingress[0], /run/x/y.yaml:12)', default_deny=True
        ),
    )
    assert describe(flow) == 'p ingress[0] y.yaml:12: method "PUT" does not match "GET"'


def test_of_several_rules_the_nearest_is_named() -> None:
    first, second = (
        'path "/x; y" does not match "/y" (p ingress[0], y.yaml:12)',
        'method "PUT" does not match "GET" (q r[1], z:1)',
    )
    flow = Flow(verdict=Verdict.DROPPED, l7=L7(L7Type.REQUEST), deciding=Deciding(reason=f"{first}; {second}"))
    assert describe(flow) == 'q r[1] z:1: method "PUT" does not match "GET" (and 1 more)'
    flow = Flow(verdict=Verdict.DROPPED, l7=L7(L7Type.REQUEST), deciding=Deciding(reason=f"{first}; {first}; {first}"))
    assert describe(flow) == 'p ingress[0] y.yaml:12: path "/x; y" does not match "/y" (and 2 more)'


def test_of_several_kafka_rules_one_for_another_topic_is_named() -> None:
    role, topic = (
        "ListOffsets is not of role produce (p ingress[0], y.yaml:12)",
        'topic "a" is not "b" (p ingress[0], y.yaml:14)',
    )
    flow = Flow(verdict=Verdict.DROPPED, l7=L7(L7Type.REQUEST), deciding=Deciding(reason=f"{role}; {topic}"))
    assert describe(flow) == 'p ingress[0] y.yaml:14: topic "a" is not "b" (and 1 more)'
    flow = Flow(verdict=Verdict.DROPPED, l7=L7(L7Type.REQUEST), deciding=Deciding(reason=f"{role}; {role}"))
    assert describe(flow) == "p ingress[0] y.yaml:12: ListOffsets is not of role produce (and 1 more)"


def test_a_policy_of_both_ends_is_named_once() -> None:
    both = (Policy("p", "a"),)
    assert describe(Flow(verdict=Verdict.FORWARDED, egress_allowed_by=both, ingress_allowed_by=both)) == "p"
    assert describe(Flow(verdict=Verdict.FORWARDED)) == "no policy selects it"


def test_the_table() -> None:
    good = Row(RESULT, "allow-it")
    bad = Row(Result(probe("timeout"), "200", PORTS, 2.0), "x" * 40)
    section = Section("Title", (good, bad))
    lines = list(render([section], colour=False))
    assert lines[0].split() == ["PROBE", "REQUEST", "EXPECTED", "SEEN", "LATENCY", "DECIDED", "BY"]
    assert lines[1] == "Title"
    assert "200 !" not in lines[2]
    assert "200 !" in lines[3]
    assert not any("\x1b" in line for line in lines)
    assert any("\x1b" in line for line in render([section], colour=True))
    widest = max(map(len, lines))
    assert list(render([section], colour=False, width=widest)) == lines
    narrow = list(render([section], colour=False, width=widest - 1))
    assert narrow[0].split() == ["PROBE", "EXPECTED", "SEEN", "LATENCY", "DECIDED", "BY"]
    assert max(map(len, narrow)) < widest
    cut = list(render([section], colour=False, width=60))
    assert max(map(len, cut)) == 60
    assert cut[3].endswith("…")
    assert summary([section], colour=False) == "1 of 2 probes did not come out as expected"
    assert summary([Section("Title", (good,))], colour=False) == "all 1 probes came out as expected"
