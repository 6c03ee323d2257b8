"""DNS queries and answers as flows: records, their words, their JSON, and filters."""

from __future__ import annotations

import io
import json

import pytest

from proxy.flows import wire
from proxy.flows.flags import FilterBuilder
from proxy.flows.from_workers import MAX_NAME
from proxy.flows.jsonpb import decode_line, encode_line, flow_to_json
from proxy.flows.model import L4, L7, Dns, Flow, L7Type, Policy, Verdict
from proxy.flows.printers import Output, Printer, Style
from proxy.flows.summary import summary, type_word
from tests.proxy.flows.samples import (
    DNS_SERVER,
    MS,
    NOON,
    Node,
    batch,
    connection,
    datagrams,
    dns,
    exchange,
    refused_dns,
)

GOLDEN = """\
Jan  2 03:04:05.678: default/web:5353 (ID:3001) -> default/api:53 (ID:3002) dns-request proxy FORWARDED (DNS Query api.stripe.com. A)
Jan  2 03:04:05.679: default/web:5353 (ID:3001) <- default/api:53 (ID:3002) dns-response proxy FORWARDED (DNS Answer "192.0.2.7,192.0.2.8" TTL: 30 (Proxy api.stripe.com. A))
Jan  2 03:04:05.678: default/web:5353 (ID:3001) -> default/api:53 (ID:3002) dns-request proxy DROPPED (DNS Query evil.test. A)
Jan  2 03:04:05.679: default/web:5353 (ID:3001) <- default/api:53 (ID:3002) dns-response proxy FORWARDED (DNS Answer RCode: Query Refused TTL: 0 (Proxy evil.test. A))
"""  # noqa: E501


def flows(*exchanges: wire.DnsExchange, told: wire.Connection | None = None) -> list[Flow]:
    node = Node()
    node.workers.add(batch(dns=list(exchanges), connections=[told or datagrams()]))
    return node.flows()


def show(items: list[Flow], output: Output) -> str:
    out = io.StringIO()
    printer = Printer(out, Style(output))
    for item in items:
        printer.write(item)
    printer.close()
    return out.getvalue()


def test_a_permitted_query_is_two_flows() -> None:
    request, response = flows(dns())
    assert (request.verdict, response.verdict) == (Verdict.FORWARDED, Verdict.FORWARDED)
    assert request.ingress_allowed_by == (Policy("api", "default", "CiliumNetworkPolicy", 3),)
    assert (request.time_ns, response.time_ns) == (NOON, NOON + MS)
    assert (request.source, request.destination) == (response.destination, response.source)
    asked = Dns("api.stripe.com.", observation_source="proxy", qtypes=("A",))
    assert request.l7 == L7(L7Type.REQUEST, 0, "dns", dns=asked)
    told = Dns("api.stripe.com.", ("192.0.2.7", "192.0.2.8"), 30, (), "proxy", 0, ("A",), ("A", "A"))
    assert response.l7 == L7(L7Type.RESPONSE, MS, "dns", dns=told)


def test_a_refused_query_is_a_drop_and_an_answer_that_says_so() -> None:
    request, response = flows(refused_dns())
    assert (request.verdict, request.drop_reason_desc) == (Verdict.DROPPED, "POLICY_DENIED")
    assert request.ingress_denied_by == (Policy("api", "default", "CiliumNetworkPolicy", 3),)
    assert request.policy_log == ('default deny of default/api: name "evil.test" is not "*.stripe.com"',)
    assert response.l7 is not None
    assert response.l7.dns is not None
    assert (response.verdict, response.l7.dns.rcode) == (Verdict.FORWARDED, 5)
    assert (response.drop_reason, response.ingress_denied_by, response.deciding) == (0, (), None)


def test_the_deciding_rule_of_a_query() -> None:
    deciding = flows(dns())[0].deciding
    assert deciding is not None
    assert (deciding.rule, deciding.file, deciding.line) == ("ingress[0]", "policies/api.yaml", 12)


def test_no_answer_no_second_flow() -> None:
    assert len(flows(dns(answered=False, rcode=-1))) == 1


def test_what_no_rule_got_to_see_blames_no_policy() -> None:
    request, _ = flows(dns(verdict=Verdict.ERROR, rcode=1, rule=0, reason="two questions"))
    assert (request.verdict, request.ingress_denied_by, request.policy_log) == (Verdict.ERROR, (), ("two questions",))


def test_udp_and_tcp() -> None:
    assert flows(dns())[0].l4 == L4("UDP", 5353, 53)
    assert flows(dns())[1].l4 == L4("UDP", 53, 5353)
    assert flows(dns(), told=connection())[0].l4 == L4("TCP", 41000, 8080)


@pytest.mark.parametrize(
    ("told", "request_", "response"),
    [
        (dns(addresses=(), ttl=0), "DNS Query api.stripe.com. A", "DNS Answer  TTL: 0 (Proxy api.stripe.com. A)"),
        (
            dns("", query_type="NS", addresses=(), types=("NS",)),
            "DNS Query . NS",
            "DNS Answer  TTL: 30 (Proxy . NS)",
        ),
        (
            dns("a.b", query_type="AAAA", addresses=(bytes(15) + b"\1",), cnames=("x.y", "z")),
            "DNS Query a.b. AAAA",
            'DNS Answer "::1" CNAMEs: "x.y.,z." TTL: 30 (Proxy a.b. AAAA)',
        ),
        (
            dns("a", addresses=(), cnames=("x\\046y",)),
            "DNS Query a. A",
            'DNS Answer CNAMEs: "x\\\\046y." TTL: 30 (Proxy a. A)',
        ),
        (
            dns("a", rcode=3, addresses=(), ttl=0),
            "DNS Query a. A",
            "DNS Answer RCode: Non-Existent Domain TTL: 0 (Proxy a. A)",
        ),
        (dns("a", rcode=77, ttl=0), "DNS Query a. A", "DNS Answer RCode: Unknown TTL: 0 (Proxy a. A)"),
    ],
)
def test_summaries(told: wire.DnsExchange, request_: str, response: str) -> None:
    found = flows(told)
    assert [flow.summary for flow in found] == [request_, response]
    for flow in found:
        read = decode_line(encode_line(flow).replace(json.dumps(flow.summary), '""'))
        assert isinstance(read, Flow)
        assert summary(read) == flow.summary


def test_compact_lines() -> None:
    assert show(flows(dns(), refused_dns()), Output.COMPACT) == GOLDEN


def test_other_formats_say_the_same() -> None:
    items = flows(refused_dns())
    assert "       TYPE: dns-request proxy\n    VERDICT: DROPPED\n" in show(items, Output.DICT)
    row = show(items, Output.TABLE).splitlines()[2]
    assert "dns-response proxy   FORWARDED   DNS Answer RCode" in row


def test_a_name_cannot_move_the_cursor() -> None:
    shown = show(flows(dns("\x1b[2J\nfake", cnames=("\x1b",))), Output.COMPACT)
    assert "\x1b" not in shown
    assert shown.count("\n") == 2


def test_json_has_the_fields_of_the_schema() -> None:
    told = dns(cnames=("edge.test",), query_type="AAAA", types=("CNAME", "AAAA"), rcode=3)
    request, response = (flow_to_json(flow) for flow in flows(told))
    assert request["l7"] == {
        "type": "REQUEST",
        "dns": {"query": "api.stripe.com.", "observation_source": "proxy", "qtypes": ["AAAA"]},
    }
    assert response["l7"] == {
        "type": "RESPONSE",
        "latency_ns": "1000000",
        "dns": {
            "query": "api.stripe.com.",
            "ips": ["192.0.2.7", "192.0.2.8"],
            "ttl": 30,
            "cnames": ["edge.test."],
            "observation_source": "proxy",
            "rcode": 3,
            "qtypes": ["AAAA"],
            "rrtypes": ["CNAME", "AAAA"],
        },
    }
    assert list(response["l7"]["dns"]) == [
        "query",
        "ips",
        "ttl",
        "cnames",
        "observation_source",
        "rcode",
        "qtypes",
        "rrtypes",
    ]
    assert (request["l4"], request["is_reply"]) == ({"UDP": {"source_port": 5353, "destination_port": 53}}, False)


def test_json_reads_back() -> None:
    for flow in flows(dns(cnames=("a", "b")), refused_dns(), dns(answered=False, rcode=-1)):
        assert decode_line(encode_line(flow)) == flow


def test_a_flow_of_another_agent() -> None:
    record = {"query": "a.test.", "observation_source": "agent", "qtypes": ["A", "AAAA"], "ips": ["192.0.2.1"]}
    flow = decode_line(json.dumps({"flow": {"l7": {"type": "RESPONSE", "dns": record}}}))
    assert isinstance(flow, Flow)
    assert type_word(flow) == "dns-response agent"
    assert summary(flow) == 'DNS Answer "192.0.2.1" TTL: 0 (Query a.test. A,AAAA)'
    bare = decode_line('{"flow":{"l7":{"type":"REQUEST","dns":{}}}}')
    assert isinstance(bare, Flow)
    assert type_word(bare) == "dns-request"


@pytest.mark.parametrize("record", [5, {"query": 1}, {"ips": [1]}, {"ttl": "x"}])
def test_records_that_are_none(record: object) -> None:
    with pytest.raises(ValueError, match="not a flow"):
        decode_line(json.dumps({"flow": {"l7": {"dns": record}}}))


def test_numbers_of_a_lying_worker_are_taken_as_errors() -> None:
    request, response = flows(dns(verdict=77, direction=5, rule=-1, rcode=-9, addresses=(b"abc",)))  # type: ignore[arg-type]
    assert request.verdict is Verdict.ERROR
    assert response.l7 is not None
    assert response.l7.dns is not None
    assert (response.l7.dns.rcode, response.l7.dns.ips) == (0, ("616263",))


# -- what is kept of a connection --------------------------------------------------------------------------------------


def test_datagrams_are_forgotten_with_their_batch() -> None:
    node = Node()
    for number in range(2, 500):
        node.workers.add(batch(dns=[dns(number=number)], connections=[datagrams(number)]))
    assert node.workers.connections(0) == 0
    assert {flow.l4.protocol for flow in node.flows() if flow.l4} == {"UDP"}
    node.workers.add(batch(dns=[dns()], connections=[connection(1)]))
    assert node.workers.connections(0) == 1


# -- names -------------------------------------------------------------------------------------------------------------


def names_of(endpoint: int, address: str) -> tuple[str, ...]:
    return ("Dns.Cluster.Local", "other.test") if (endpoint, address) == (11, DNS_SERVER) else ()


def named_node() -> Node:
    node = Node(names_of=names_of)
    node.workers.add(batch(exchange(), dns=[dns(number=2), refused_dns()], connections=[connection(), datagrams(2)]))
    return node


def test_addresses_have_the_names_that_their_peer_knows() -> None:
    request, response = named_node().flows()[:2]
    assert (request.source_names, request.destination_names) == ((), ("Dns.Cluster.Local", "other.test"))
    assert (response.source_names, response.destination_names) == (("Dns.Cluster.Local", "other.test"), ())
    node = Node(names_of=lambda endpoint, address: ("web.test",) if address == "10.0.0.1" else ())
    node.workers.add(batch(exchange(), failures=[wire.Failure(1, NOON, Verdict.ERROR, 0, "r", "")]))
    assert [flow.source_names for flow in node.flows()] == [("web.test",), (), ("web.test",)]


def test_not_more_names_than_can_be_read() -> None:
    node = Node(names_of=lambda endpoint, address: tuple(f"name-{number}.test" for number in range(1000)))
    node.workers.add(batch(exchange()))
    assert len(node.flows()[0].destination_names) == 16


def matching(*flags: tuple[str, str]) -> list[str]:
    builder = FilterBuilder()
    for name, value in flags:
        builder.add(name, value)
    return [flow.summary.partition(" (")[0] for flow in named_node().flows() if builder.build().matches(flow)]


HTTP_REQUEST, HTTP_RESPONSE = "HTTP/1.1 GET http://api:8080/v1/items", "HTTP/1.1 200 1ms"
QUERY, REFUSED = "DNS Query api.stripe.com. A", "DNS Query evil.test. A"
ANSWER, REFUSAL = 'DNS Answer "192.0.2.7,192.0.2.8" TTL: 30', "DNS Answer RCode: Query Refused TTL: 0"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([("protocol", "dns")], [QUERY, ANSWER, REFUSED, REFUSAL]),
        ([("protocol", "dns"), ("verdict", "DROPPED")], [REFUSED]),
        ([("protocol", "udp")], [QUERY, ANSWER]),
        ([("dns-query", r"stripe\.com\.$")], [QUERY, ANSWER]),
        ([("dns-query", "^evil"), ("dns-query", "^api")], [QUERY, ANSWER, REFUSED, REFUSAL]),
        ([("dns-query", "EVIL")], []),
        ([("to-fqdn", "dns.cluster.local"), ("protocol", "http")], [HTTP_REQUEST]),
        ([("from-fqdn", "DNS.*.local."), ("protocol", "http")], [HTTP_RESPONSE]),
        ([("fqdn", "*.test"), ("protocol", "http")], [HTTP_REQUEST, HTTP_RESPONSE]),
        ([("fqdn", "cluster.local")], []),
        ([("fqdn", "other-test")], []),
        ([("fqdn", "other.tes*x")], []),
    ],
)
def test_filters(flags: list[tuple[str, str]], expected: list[str]) -> None:
    assert matching(*flags) == expected


# -- what is learnt ----------------------------------------------------------------------------------------------------


def test_what_was_learnt_is_handed_on_first() -> None:
    known: dict[str, str] = {}

    def learn(told: list[wire.Learnt]) -> None:
        known[DNS_SERVER] = told[0].name

    def names(endpoint: int, address: str) -> tuple[str, ...]:
        return (known[address],) if address in known else ()

    node = Node(names_of=names, on_learnt=learn)
    learnt = wire.Learnt(11, "api.test", [b"\x0a\0\0\2"], 30, NOON)
    node.workers.add(batch(exchange(), learnt=[learnt]))
    assert node.flows()[0].destination_names == ("api.test",)


def test_what_a_lying_worker_has_learnt_is_left_out() -> None:
    taken: list[wire.Learnt] = []
    node = Node(on_learnt=taken.extend)
    sound = wire.Learnt(11, "a" * MAX_NAME, [bytes(4), bytes(16)], 0, NOON)
    bad = [
        wire.Learnt(11, "a", [bytes(5)], 30, NOON),
        wire.Learnt(11, "a" * (MAX_NAME + 1), [bytes(4)], 30, NOON),
        wire.Learnt(11, "a", [bytes(4)], -1, NOON),
        wire.Learnt(0, "a", [bytes(4)], 30, NOON),
    ]
    node.workers.add(batch(learnt=[*bad, sound]))
    assert taken == [sound]
