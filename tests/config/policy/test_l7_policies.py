"""L7 rules of every kind in policies: DNS as in the reference's table, and what becomes of kinds that meet."""

from __future__ import annotations

import pytest

from config.policy.decide import Denied, Inspect
from config.policy.requests import judge
from config.policy.resolved import Direction, DnsRule, HttpRule, L7Kind, ServerName
from config.settings import Settings
from parsers.facts import ClientHello, DnsQuery, KafkaRequest
from tests.config.policy.builders import World, http_request, policy, world

PODS = """
endpoints:
- {name: ep1, labels: {id: ep1}, addresses: [10.9.0.1], interface: a0}
- {name: ep3, labels: {id: ep3}, addresses: [10.9.0.3], interface: c0}
- {name: dst1, labels: {id: dst1}, addresses: [10.9.1.1]}
- {name: dst2, labels: {id: dst2}, addresses: [10.9.1.2]}
- {name: dst3, labels: {id: dst3}, addresses: [10.9.1.3]}
- {name: dst4, labels: {id: dst4}, addresses: [10.9.1.4]}
"""


def dns(subject: str, server: str, port: str, protocol: str, names: str | None) -> str:
    peer = f"toEndpoints: [{{matchLabels: {{id: {server}}}}}]\n  " if server else ""
    rules = f", rules: {{dns: [{names}]}}" if names is not None else ""
    entry = f"- {peer}toPorts: [{{ports: [{{port: '{port}', protocol: {protocol}}}]{rules}}}]"
    name = f"{subject}-{server or 'any'}-{port}-{protocol}".lower()
    return policy(f"endpointSelector: {{matchLabels: {{id: {subject}}}}}\negress:\n{entry}\n", name=name)


RULES = [
    dns("ep1", "dst1", "53", "UDP", "{matchPattern: '*.ubuntu.com'}, {matchName: aws.amazon.com}"),
    dns("ep1", "dst1", "53", "TCP", "{matchName: sub.ubuntu.com}"),
    dns("ep1", "dst2", "53", "UDP", "{matchName: cilium.io}"),
    dns("ep1", "", "54", "UDP", "{matchName: example.com}"),
    dns("ep3", "dst1", "53", "UDP", "{matchName: example.com}"),
    dns("ep3", "dst3", "53", "UDP", "{matchPattern: '*'}"),
    dns("ep3", "dst3", "53", "TCP", "{matchName: example.com}"),
    dns("ep3", "dst4", "53", "UDP", None),
]


def permits(found: World, subject: str, server: str, port: str, name: str) -> bool:
    decision = found.ask(subject, server, port, Direction.EGRESS)
    if isinstance(decision, Inspect):
        return decision.kind is L7Kind.DNS and judge(decision.rules, DnsQuery(name)) is not None
    return not isinstance(decision, Denied)


@pytest.fixture(scope="module")
def table() -> World:
    return world(*RULES, pods=PODS)


@pytest.mark.parametrize(
    ("subject", "server", "port", "name", "permitted"),
    [
        pytest.param("ep1", "dst1", "53/udp", "www.ubuntu.com", True, id="Q01"),
        pytest.param("ep1", "dst1", "53/tcp", "www.ubuntu.com", False, id="Q02"),
        pytest.param("ep1", "dst1", "53/tcp", "sub.ubuntu.com", True, id="Q03"),
        pytest.param("ep1", "dst1", "53/udp", "sub.ubuntu.com", True, id="Q04"),
        pytest.param("ep1", "dst1", "54/udp", "cilium.io", False, id="Q05"),
        pytest.param("ep1", "dst2", "53/udp", "cilium.io", True, id="Q06"),
        pytest.param("ep1", "dst2", "53/udp", "aws.amazon.com", False, id="Q07"),
        pytest.param("ep1", "dst1", "54/udp", "example.com", True, id="Q08"),
        pytest.param("ep3", "dst1", "53/udp", "example.com", True, id="Q10"),
        pytest.param("ep3", "dst1", "53/udp", "www.ubuntu.com", False, id="Q11"),
        pytest.param("ep3", "dst1", "54/udp", "example.com", False, id="Q12"),
        pytest.param("ep3", "dst2", "53/udp", "example.com", False, id="Q13"),
        pytest.param("ep3", "dst3", "53/tcp", "example.com", True, id="Q15"),
        pytest.param("ep3", "dst3", "53/tcp", "amazon.com", False, id="Q16"),
        pytest.param("ep3", "dst4", "53/tcp", "example.com", False, id="Q17"),
        pytest.param("ep3", "dst4", "53/udp", "any.name", True, id="Q28"),
    ],
)
def test_dns_rules(table: World, subject: str, server: str, port: str, name: str, permitted: bool) -> None:
    assert permits(table, subject, server, port, name) is permitted


def test_without_rules_nothing_is_permitted() -> None:
    """Q19: the rules are gone, the default deny is not."""
    found = world(policy("endpointSelector: {}\negress: [{}]"), pods=PODS)
    assert not permits(found, "ep1", "dst1", "53/udp", "www.ubuntu.com")


def test_an_empty_list_of_dns_rules_allows_all_names() -> None:
    """Q28."""
    assert permits(world(dns("ep1", "dst1", "53", "UDP", ""), pods=PODS), "ep1", "dst1", "53/udp", "x.y")


def test_a_rule_given_twice_and_taken_away_once() -> None:
    """Q29: what counts is the set of policies that are there."""
    one = dns("ep1", "dst1", "53", "UDP", "{matchName: a.b}")
    both = world(one, one.replace("name: ep1-dst1", "name: twice"), pods=PODS)
    assert permits(both, "ep1", "dst1", "53/udp", "a.b")
    assert not permits(
        world(dns("ep1", "dst1", "53", "UDP", "{matchName: c.d}"), pods=PODS), "ep1", "dst1", "53/udp", "a.b"
    )


A = "endpointSelector: {matchLabels: {id: a}}\n"
FOO = "toEndpoints: [{matchLabels: {id: foo}}]"
HTTP = "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: /x}]}}]"
DNS = "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {dns: [{matchName: x.y}]}}]"
PLAIN = "toPorts: [{ports: [{port: '80', protocol: TCP}]}]"


def egress(*entries: str, more: str = "") -> World:
    return world(policy(f"{A}{more}egress:\n" + "\n".join(f"- {entry}" for entry in entries)))


def inspected(found: World, peer: str) -> Inspect:
    decision = found.ask("a", peer, "80/tcp", Direction.EGRESS)
    assert isinstance(decision, Inspect)
    return decision


@pytest.mark.parametrize("entries", [(DNS, HTTP), (HTTP, DNS)])
@pytest.mark.parametrize("peer", ["", f"{FOO}\n  "])
def test_two_kinds_for_the_same_peers_exclude_each_other(entries: tuple[str, str], peer: str) -> None:
    """M27, and the last part of M29: nothing is permitted, and the reason is told."""
    decision = inspected(egress(*(peer + entry for entry in entries)), "foo")
    assert "exclude each other" in decision.fault
    assert not decision.rules


def test_two_kinds_for_different_peers() -> None:
    """M28: each peer has its own parser; where both rules are about a peer, HTTP goes first."""
    found = egress(f"{FOO}\n  {DNS}", HTTP)
    assert (inspected(found, "foo").kind, inspected(found, "foo").fault) == (L7Kind.HTTP, "")
    assert inspected(found, "bar").kind is L7Kind.HTTP


def test_identical_rules_are_one() -> None:
    """M23."""
    found = world(policy(f"{A}egress:\n- {HTTP}\n- {HTTP}"), policy(f"{A}egress: [{{{HTTP}}}]", name="q"))
    assert {rule for rule, _ in inspected(found, "foo").rules} == {HttpRule(path="/x")}
    assert len(inspected(egress(HTTP), "foo").rules) == 1


def test_rules_of_different_peers_stay_apart() -> None:
    """M26: the peer with HTTP rules is inspected, and allowed everything by the rule for anybody."""
    found = egress(f"{FOO}\n  {HTTP}", PLAIN)
    assert found.out("a", "foo", "80/tcp") == "allow"
    policy_of_a = found.policy("a").egress
    assert [rule.l7 is not None for rule in policy_of_a.rules] == [True, False]


def test_dns_rules_without_default_deny() -> None:
    """M35."""
    entry = "toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchName: example.com}]}}]"
    found = egress(entry, more="enableDefaultDeny: {egress: false}\n")
    decision = found.ask("a", "foo", "53/udp", Direction.EGRESS)
    assert found.out("a", "foo", "80/tcp") == "allow"
    listed = [rule.l7 for rule in found.policy("a").egress.rules if rule.l7]
    assert listed == [(DnsRule("example.com"), DnsRule(pattern="*"))]
    assert not isinstance(decision, Denied)


def test_server_names_add_up() -> None:
    """M39."""
    names = "toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [%s]}]"
    found = egress(names % "a.example", names % "b.example")
    decision = found.ask("a", "foo", "443/tcp", Direction.EGRESS)
    assert isinstance(decision, Inspect)
    assert {rule for rule, _ in decision.rules} == {ServerName("a.example"), ServerName("b.example")}
    assert judge(decision.rules, ClientHello("b.example")) is not None
    assert judge(decision.rules, ClientHello("c.example")) is None


def test_server_names_without_default_deny_are_none() -> None:
    names = "toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [a.example]}]"
    found = egress(names, more="enableDefaultDeny: {egress: false}\n")
    assert found.out("a", "foo", "443/tcp") == "allow"


def test_kafka_rules() -> None:
    rules = "toPorts: [{ports: [{port: '9092', protocol: TCP}], rules: {kafka: [{role: produce, topic: orders}]}}]"
    found = world(policy(f"{A}ingress: [{{{rules}}}]"))
    decision = found.ask("a", "foo", "9092/tcp")
    assert isinstance(decision, Inspect)
    assert decision.kind is L7Kind.KAFKA
    assert judge(decision.rules, KafkaRequest(0, topics=("orders",))) is not None
    assert judge(decision.rules, KafkaRequest(0, topics=("secret",))) is None
    assert judge(decision.rules, KafkaRequest(1, topics=("orders",))) is None
    assert judge(decision.rules, http_request("GET /")) is None


# Policies as a proxy's engine sees them


def ingress(*entries: str) -> World:
    return world(policy(f"{A}ingress:\n" + "\n".join(f"- {entry}" for entry in entries)))


BAR_80 = "{fromEndpoints: [{matchLabels: {id: bar}}], toPorts: [{ports: [{port: '80'%s, protocol: TCP}]%s}]}"
ALLOWED = ", rules: {http: [{path: /allowed}]}"


@pytest.mark.parametrize(
    ("entries", "allowed", "denied"),
    [
        pytest.param(
            [BAR_80 % ("", ALLOWED)],
            [("bar", "80/tcp", "GET /allowed")],
            [
                ("foo", "80/tcp", "GET /allowed"),
                ("bar", "8080/tcp", "GET /allowed"),
                ("bar", "80/tcp", "GET /notallowed"),
            ],
            id="G02",
        ),
        pytest.param([BAR_80 % ("", "")], [("bar", "80/tcp", "GET /any")], [("foo", "80/tcp", "GET /any")], id="G05"),
        pytest.param(
            [BAR_80 % (", endPort: 8080", "")],
            [("bar", "80/tcp", "GET /"), ("bar", "4040/tcp", "GET /"), ("bar", "8080/tcp", "GET /")],
            [("bar", "79/tcp", "GET /"), ("bar", "8081/tcp", "GET /")],
            id="G06",
        ),
        pytest.param(
            [
                f"{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}]{ALLOWED}}}]}}",
                "{toPorts: [{ports: [{port: '80'}]}]}",
            ],
            [("foo", "80/tcp", "GET /x"), ("bar", "80/tcp", "GET /allowed")],
            [],
            id="G10",
        ),
        pytest.param(
            [BAR_80 % ("", ALLOWED), BAR_80 % ("", ALLOWED)],
            [("bar", "80/tcp", "GET /allowed")],
            [("bar", "80/tcp", "GET /x")],
            id="G11",
        ),
        pytest.param(
            [BAR_80 % (", endPort: 60", "")], [("bar", "80/tcp", "GET /")], [("bar", "70/tcp", "GET /")], id="no range"
        ),
        pytest.param(
            [BAR_80 % ("", ", rules: {http: [{path: /a}]}"), BAR_80 % ("", ", rules: {http: [{path: /b}]}")],
            [("bar", "80/tcp", "GET /a"), ("bar", "80/tcp", "GET /b")],
            [("bar", "80/tcp", "GET /c")],
            id="H16",
        ),
        pytest.param(
            ["{fromEntities: [all]}"], [("foo", "1/tcp", "GET /"), ("192.0.2.1", "65535/tcp", "GET /")], [], id="G15"
        ),
    ],
)
def test_as_the_engine_of_a_proxy(
    entries: list[str], allowed: list[tuple[str, str, str]], denied: list[tuple[str, str, str]]
) -> None:
    found = ingress(*entries)
    for peer, port, request in allowed:
        assert found.http("a", peer, port, request), (peer, port, request)
    for peer, port, request in denied:
        assert not found.http("a", peer, port, request), (peer, port, request)
    assert found.enforced("a") == (True, False)


def test_a_rule_that_is_gone_enforces_nothing() -> None:
    """E05."""
    assert world(policy(f"{A}ingress: [{{}}]")).enforced("a") == (True, False)
    assert world().enforced("a") == (False, False)
    assert world(settings=Settings(enable_policy="always")).enforced("a") == (True, True)
