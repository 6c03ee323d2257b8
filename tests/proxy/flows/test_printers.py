"""The text formats, byte for byte."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from proxy.flows.model import Endpoint, Flow, LostEvents, LostSource, Observation, Service
from proxy.flows.printers import Output, Printer, Style, clean
from proxy.flows.times import TimeFormat
from tests.proxy.flows.samples import NOON, golden_node

GOLDEN = """\
Jan  2 03:04:05.678: default/web:41000 (ID:3001) -> default/api:8080 (ID:3002) http-request FORWARDED (HTTP/1.1 GET http://api:8080/v1/items)
Jan  2 03:04:05.679: default/web:41000 (ID:3001) <- default/api:8080 (ID:3002) http-response FORWARDED (HTTP/1.1 200 1ms (GET http://api:8080/v1/items))
Jan  2 03:04:06.001: default/web:41002 (ID:3001) -> default/api:8080 (ID:3002) http-request DROPPED (HTTP/1.1 DELETE http://api:8080/v1/items)
Jan  2 03:04:06.001: default/web:41002 (ID:3001) <- default/api:8080 (ID:3002) http-response FORWARDED (HTTP/1.1 403 0ms (DELETE http://api:8080/v1/items))
Jan  2 03:04:07.000: default/web:41003 (ID:3001) -> 192.0.2.7:443 (world) policy-verdict:none EGRESS DENIED (TCP Flags: SYN)
"""  # noqa: E501


def show(observations: list[Observation], style: Style) -> str:
    out = io.StringIO()
    printer = Printer(out, style)
    for item in observations:
        printer.write(item)
    printer.close()
    return out.getvalue()


@pytest.fixture
def flows() -> list[Observation]:
    return golden_node().observations()


def test_compact(flows: list[Observation]) -> None:
    assert show(flows, Style()) == GOLDEN


def test_why_names_rule_place_and_reason(flows: list[Observation]) -> None:
    lines = show(flows, Style(why=True)).splitlines()
    assert lines[0].endswith("/v1/items) [default/api ingress[0] policies/api.yaml:12]")
    assert lines[2].endswith('/v1/items) [default deny of default/api: method "DELETE" is not "GET"]')
    assert lines[4].endswith("(TCP Flags: SYN) [default deny of no-world: no rule allows it]")


def test_dict(flows: list[Observation]) -> None:
    shown = show(flows[:2], Style(Output.DICT, node_name=True))
    assert shown == (
        "  TIMESTAMP: Jan  2 03:04:05.678\n"
        "       NODE: node-1\n"
        "     SOURCE: default/web:41000\n"
        "DESTINATION: default/api:8080\n"
        "       TYPE: http-request\n"
        "    VERDICT: FORWARDED\n"
        "    SUMMARY: HTTP/1.1 GET http://api:8080/v1/items\n"
        "------------\n"
        "  TIMESTAMP: Jan  2 03:04:05.679\n"
        "       NODE: node-1\n"
        "     SOURCE: default/api:8080\n"
        "DESTINATION: default/web:41000\n"
        "       TYPE: http-response\n"
        "    VERDICT: FORWARDED\n"
        "    SUMMARY: HTTP/1.1 200 1ms (GET http://api:8080/v1/items)\n"
    )


def test_table(flows: list[Observation]) -> None:
    assert show([flows[0], flows[4]], Style(Output.TABLE)) == (
        "TIMESTAMP             SOURCE              DESTINATION        TYPE                         VERDICT     "
        "SUMMARY\n"
        "Jan  2 03:04:05.678   default/web:41000   default/api:8080   http-request                 FORWARDED   "
        "HTTP/1.1 GET http://api:8080/v1/items\n"
        "Jan  2 03:04:07.000   default/web:41003   192.0.2.7:443      policy-verdict:none EGRESS   DENIED      "
        "TCP Flags: SYN\n"
    )


def test_json_is_one_object_a_line(flows: list[Observation]) -> None:
    lines = show(flows, Style(Output.JSON)).splitlines()
    assert [json.loads(line)["flow"]["verdict"] for line in lines] == [
        "FORWARDED",
        "FORWARDED",
        "DROPPED",
        "FORWARDED",
        "DROPPED",
    ]


def test_colours(flows: list[Observation]) -> None:
    cyan, yellow, magenta, red, off = "\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[31m", "\x1b[0m"
    line = show([flows[2]], Style(colour=True))
    assert f"{cyan}default/web{off}:{yellow}41002{off} {magenta}(ID:3001){off} -> " in line
    assert f" http-request {red}DROPPED{off} (" in line


def test_policy_names_stand_on_verdict_lines_only(flows: list[Observation]) -> None:
    lines = show(flows, Style(policy_names=True)).splitlines()
    assert "EGRESS DENIED BY no-world (CiliumClusterwideNetworkPolicy) (TCP" in lines[4]
    assert "DROPPED (HTTP" in lines[2]


def test_numeric_and_ipv6(flows: list[Observation]) -> None:
    flow = flows[0]
    assert isinstance(flow, Flow)
    assert flow.ip is not None
    six = replace(flow, ip=replace(flow.ip, source="fd00::1", version=6))
    assert ": [fd00::1]:41000 (ID:3001) -> 10.0.0.2:8080 (ID:3002) " in show([six], Style(translate=False))


def test_hosts_by_service_and_name(flows: list[Observation]) -> None:
    flow = flows[4]
    assert isinstance(flow, Flow)
    named = replace(flow, destination_names=("example.com", "www.example.com"))
    assert "-> example.com,www.example.com:443 (world)" in show([named], Style())
    assert "-> shop/cart:443 (world)" in show([replace(named, destination_service=Service("cart", "shop"))], Style())


def test_direction_is_not_known(flows: list[Observation]) -> None:
    flow = flows[4]
    assert isinstance(flow, Flow)
    assert "(ID:3001) <> 192.0.2.7:443 (unknown)" in show(
        [replace(flow, is_reply=None, destination=Endpoint())], Style()
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("/a\x1b[2Jb", "/a^[[2Jb"),
        ("/a\rb", "/a\\rb"),
        ("/a\nJan  2 forged", "/a\\nJan  2 forged"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\udc80", "\\udc80"),
        ("grüße/日本", "grüße/日本"),
    ],
)
def test_hostile_bytes_do_not_reach_the_terminal(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@pytest.mark.parametrize("output", [Output.COMPACT, Output.DICT, Output.TABLE])
def test_every_field_is_cleaned(output: Output, flows: list[Observation]) -> None:
    flow = flows[2]
    assert isinstance(flow, Flow)
    assert flow.deciding is not None
    evil = "\x1b[31m\r\n"
    hostile = replace(
        flow,
        summary=evil,
        node_name=evil,
        source=Endpoint(pod_name=evil, namespace=evil),
        destination=Endpoint(),
        destination_names=(evil,),
        deciding=replace(flow.deciding, reason=evil, file=evil, rule=evil),
    )
    text = show([hostile], Style(output, node_name=True, why=True))
    assert "\x1b" not in text
    assert "\r" not in text
    assert len(text.splitlines()) == {Output.COMPACT: 1, Output.TABLE: 2, Output.DICT: 8}[output]


def test_lost_events() -> None:
    lost = LostEvents(LostSource.HUBBLE_RING_BUFFER, 17, NOON, None, "node-1")
    assert show([lost], Style()) == "Jan  2 03:04:05.678: EVENTS LOST: HUBBLE_RING_BUFFER CPU(0) 17\n"
    assert "EVENTS LOST             CPU(0) - 17" in show([lost], Style(Output.TABLE))


def test_time_formats(flows: list[Observation]) -> None:
    assert show(flows[:1], Style(time_format=TimeFormat.RFC3339_NANO)).startswith("2026-01-02T03:04:05.678000000Z: ")
