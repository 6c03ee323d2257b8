"""What policies mean for traffic. Ids are those of the conformance table of the policy language."""

from __future__ import annotations

import pickle
from ipaddress import ip_network
from typing import Literal

import pytest

from config.identity import Reserved
from config.policy.decide import Allowed, Denied
from config.policy.resolved import Direction
from config.settings import Settings
from tests.config.policy.builders import clusterwide, load, policy, snapshot_of, world

A = "endpointSelector: {matchLabels: {id: a}}\n"
FOO = "fromEndpoints: [{matchLabels: {id: foo}}]"
P80 = '{ports: [{port: "80", protocol: TCP}]}'
H80 = '{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: /public}]}}'

L3 = f"- {FOO}"
L4 = f"- toPorts: [{P80}]"
L3L4 = f"- {FOO}\n  toPorts: [{P80}]"
L4L7 = f"- toPorts: [{H80}]"
L3L4L7 = f"- {FOO}\n  toPorts: [{H80}]"
NAMED = {rule: rule.replace('"80"', "http") for rule in (L4, L3L4, L4L7, L3L4L7)}


def a(*rules: str, deny: tuple[str, ...] = (), direction: str = "ingress") -> str:
    allowed = f"{direction}:\n" + "\n".join(rules) + "\n" if rules else ""
    return policy(A + allowed + (f"{direction}Deny:\n" + "\n".join(deny) if deny else ""))


# Merging of L3, L4 and L7 rules: (rules, denied, bar on 80, foo on 80, foo on 81)
MERGE = [
    ("M02", [L3], [], "deny", "allow", "allow"),
    ("M03", [L4], [], "allow", "allow", "deny"),
    ("M04", [L4, L3], [], "allow", "allow", "allow"),
    ("M05", [L3L4], [], "deny", "allow", "deny"),
    ("M06", [L3L4, L4], [], "allow", "allow", "deny"),
    ("M07", [L4L7], [], "http", "http", "deny"),
    ("M08", [L4L7, L3], [], "http", "allow", "allow"),
    ("M10", [L4L7, L3L4], [], "http", "allow", "deny"),
    ("M11", [L3L4L7], [], "deny", "http", "deny"),
    ("M13", [L3L4L7, L4], [], "allow", "allow", "deny"),
    ("M14", [L3L4L7, L3L4], [], "deny", "allow", "deny"),
    ("M15", [L3L4L7, L4L7], [], "http", "http", "deny"),
    ("M16", [L3, L4, L3L4, L4L7, L3L4L7], [], "allow", "allow", "allow"),
    ("M17", [L3, L4, L3L4], [L3], "allow", "deny", "deny"),
    ("M18", [L3, L4, L4L7], [L4], "deny", "deny", "allow"),
    ("M19", [L3, L4], [L4, L3], "deny", "deny", "deny"),
    ("M20", [L3], [L3L4], "deny", "deny", "allow"),
    ("M21", [L4L7], [L3L4], "http", "deny", "deny"),
    ("M31", [L4, L4], [], "allow", "allow", "deny"),
]


@pytest.mark.parametrize("named", [False, True], ids=["by number", "M22 by name"])
@pytest.mark.parametrize(
    ("rules", "denied", "bar", "foo", "other"), [row[1:] for row in MERGE], ids=[r[0] for r in MERGE]
)
def test_merge(rules: list[str], denied: list[str], bar: str, foo: str, other: str, named: bool) -> None:
    chosen = [NAMED.get(rule, rule) if named else rule for rule in rules]
    refused = [NAMED.get(rule, rule) if named else rule for rule in denied]
    for order in (1, -1):
        asked = world(a(*chosen[::order], deny=tuple(refused[::order])))
        seen = (asked.into("a", "bar", "80/tcp"), asked.into("a", "foo", "80/tcp"), asked.into("a", "foo", "81/tcp"))
        assert seen == (bar, foo, other)
        assert asked.into("a", "foo", "80/udp") == other


@pytest.mark.parametrize(
    ("rules", "public", "secret"),
    [
        pytest.param([L4L7], True, False, id="any peer HTTP"),
        pytest.param([L4L7, L3L4], True, True, id="another rule for the peer and port"),
        pytest.param([L4L7, L3], True, True, id="another rule for the peer"),
        pytest.param([L3L4L7, L4], True, True, id="another rule for the port"),
        pytest.param([L3L4L7, L3L4L7.replace("/public", "/secret")], True, True, id="union"),
        pytest.param([L3L4L7, L4L7.replace("/public", "/secret")], True, True, id="union across selectors"),
        pytest.param([L4L7.replace("[{path: /public}]", "[]")], True, True, id="an empty list is no L7"),
        pytest.param([L4L7.replace("{path: /public}", "{}")], True, True, id="an empty rule allows all"),
        pytest.param([L4L7, L3L4L7.replace("{path: /public}", "{}")], True, True, id="M24, M25"),
    ],
)
def test_http_of_several_rules(rules: list[str], public: bool, secret: bool) -> None:
    asked = world(a(*rules))
    assert asked.http("a", "foo", "80/tcp", "GET /public") is public
    assert asked.http("a", "foo", "80/tcp", "GET /secret") is secret


@pytest.mark.parametrize(
    ("rule", "foo", "world_", "remote"),
    [
        pytest.param("- {}", "deny", "deny", "deny", id="an empty entry allows nothing"),
        pytest.param("- fromEndpoints: []\n  toPorts: [" + P80 + "]", "deny", "deny", "deny", id="M30, M32"),
        pytest.param("- fromEndpoints: []", "deny", "deny", "deny", id="no peer"),
        pytest.param("- fromCIDR: []", "deny", "deny", "deny", id="no CIDR"),
        pytest.param("- fromEntities: []", "deny", "deny", "deny", id="no entity"),
        pytest.param("- toPorts: []", "deny", "deny", "deny", id="toPorts [] is missing"),
        pytest.param("- toPorts: [{}]", "deny", "deny", "deny", id="no ports"),
        pytest.param(
            "- fromEndpoints: null\n  toPorts: [" + P80 + "]", "allow", "allow", "allow", id="null is missing"
        ),
        pytest.param("- fromEndpoints: [{}]", "allow", "deny", "deny", id="pods of the namespace"),
        pytest.param("- fromEntities: [all]", "allow", "allow", "allow", id="M33"),
        pytest.param("- fromEntities: [world]", "deny", "allow", "deny", id="world"),
        pytest.param("- fromEntities: [cluster]", "allow", "deny", "allow", id="cluster"),
        pytest.param("- fromEntities: [remote-node]", "deny", "deny", "allow", id="remote-node"),
        pytest.param("- fromEntities: [none]", "deny", "deny", "deny", id="none"),
        pytest.param("- fromEntities: [none, world]", "deny", "allow", "deny", id="entities are OR-ed"),
        pytest.param('- fromCIDR: ["0.0.0.0/0"]', "deny", "allow", "deny", id="pods and nodes are in no CIDR"),
        pytest.param("- fromCIDR: [10.9.0.2]", "deny", "deny", "deny", id="nor by their address"),
        pytest.param("- fromCIDR: [192.168.0.0/16]", "deny", "deny", "deny", id="nodes neither"),
        pytest.param(
            '- toPorts: [{ports: [{port: "0", protocol: TCP}]}]', "allow", "allow", "allow", id="port 0 is any"
        ),
        pytest.param('- toPorts: [{ports: [{port: "80"}]}]', "allow", "allow", "allow", id="no protocol is any"),
        pytest.param('- toPorts: [{ports: [{port: "0120"}]}]', "allow", "allow", "allow", id="octal"),
        pytest.param("- toPorts: [{ports: [{port: nowhere}]}]", "deny", "deny", "deny", id="a name that nobody has"),
    ],
)
def test_one_entry(rule: str, foo: str, world_: str, remote: str) -> None:
    asked = world(a(rule))
    assert asked.enforced("a") == (True, False)
    seen = tuple(asked.into("a", peer, "80/tcp") for peer in ("foo", "198.51.100.7", "192.168.9.2"))
    assert seen == (foo, world_, remote)


def test_namespaces_of_peers() -> None:
    asked = world(a(L3))
    assert asked.into("a", "foo", "1/tcp") == "allow"
    assert asked.into("a", "other/foo", "1/tcp") == "deny"
    asked = world(a("- fromEndpoints: [{namespaceSelector: {matchLabels: {team: far}}, matchLabels: {id: foo}}]"))
    assert asked.into("a", "foo", "1/tcp") == "deny"
    assert asked.into("a", "other/foo", "1/tcp") == "allow"
    asked = world(a('- fromEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": other}}]'))
    assert asked.into("a", "other/foo", "1/tcp") == "allow"
    assert asked.into("a", "bar", "1/tcp") == "deny"


def test_cluster_wide_peers_are_pods_of_any_namespace() -> None:
    asked = world(clusterwide(A + "ingress: [{fromEndpoints: [{}]}]"))
    assert [asked.into("a", peer, "1/tcp") for peer in ("foo", "other/foo", "far", "192.168.9.2", "1.1.1.1")] == [
        "allow",
        "allow",
        "allow",
        "deny",
        "deny",
    ]


def test_service_accounts_and_clusters_are_labels() -> None:
    rule = '- fromEndpoints: [{matchLabels: {"io.cilium.k8s.policy.serviceaccount": runner}}]'
    asked = world(a(rule, '- fromEndpoints: [{matchLabels: {"k8s:io.cilium.k8s.policy.cluster": far-away}}]'))
    assert asked.into("a", "bar", "1/tcp") == "allow"
    assert asked.into("a", "foo", "1/tcp") == "deny"


@pytest.mark.parametrize(
    ("entity", "peer"),
    [
        ("host", "host"),
        ("remote-node", "192.168.9.2"),
        ("kube-apiserver", "192.168.9.3"),
        ("init", "init"),
        ("ingress", "ingress"),
        ("health", "health"),
        ("unmanaged", "unmanaged"),
        ("kube-dns", "kube-system/coredns"),
        ("world-ipv4", "1.1.1.1"),
        ("world-ipv6", "2001:db8::1"),
    ],
)
def test_entities_select_themselves(entity: str, peer: str) -> None:
    asked = world(a(f"- fromEntities: [{entity}]"), settings=Settings(allow_localhost="policy"))
    others = {"host", "192.168.9.2", "192.168.9.3", "init", "foo", "kube-system/coredns", "1.1.1.1", "2001:db8::1"}
    assert asked.into("a", peer, "1/tcp") == "allow"
    assert {other for other in others - {peer} if asked.into("a", other, "1/tcp") != "deny"} == set()


def test_the_world_by_label() -> None:
    asked = world(a('- fromEndpoints: [{matchLabels: {"reserved:world": ""}}]', "- fromCIDR: [203.0.113.7/32]"))
    assert asked.into("a", "203.0.113.7", "1/tcp") == "allow"
    assert asked.into("a", "198.51.100.1", "1/tcp") == "allow"
    assert asked.into("a", "foo", "1/tcp") == "deny"


# Deny precedence


SUBNET, ADDRESS = "192.0.2.0/24", "192.0.2.3"


def cidr(*prefixes: str, ports: str = "") -> str:
    return "- fromCIDR: [" + ", ".join(f'"{prefix}"' for prefix in prefixes) + "]" + ports


@pytest.mark.parametrize(
    ("rules", "denied", "outside", "subnet", "address"),
    [
        pytest.param([cidr(ADDRESS)], ["- fromEntities: [world]"], "deny", "deny", "deny", id="X01"),
        pytest.param([cidr(ADDRESS)], [cidr(SUBNET)], "deny", "deny", "deny", id="X02"),
        pytest.param([cidr(SUBNET)], [cidr(ADDRESS)], "deny", "allow", "deny", id="X03"),
        pytest.param([cidr(SUBNET)], [], "deny", "allow", "allow", id="the subnet has the address in it"),
        pytest.param([cidr(ADDRESS)], [], "deny", "deny", "allow", id="only the address"),
        pytest.param([cidr("0.0.0.0/0")], [cidr(SUBNET)], "allow", "deny", "deny", id="all but the subnet"),
        pytest.param(
            [f"- fromCIDRSet: [{{cidr: 0.0.0.0/0, except: [{SUBNET}]}}]"], [], "allow", "deny", "deny", id="except"
        ),
        pytest.param(
            [f"- fromCIDRSet: [{{cidr: 0.0.0.0/0, except: [{SUBNET}]}}]", cidr(ADDRESS)],
            [],
            "allow",
            "deny",
            "allow",
            id="except is no deny",
        ),
    ],
)
def test_cidrs(rules: list[str], denied: list[str], outside: str, subnet: str, address: str) -> None:
    asked = world(a(*rules, deny=tuple(denied)))
    seen = tuple(asked.into("a", peer, "80/tcp") for peer in ("198.51.100.1", "192.0.2.9", ADDRESS))
    assert seen == (outside, subnet, address)
    assert asked.into("a", "2001:db8::1", "80/tcp") == "deny"


def test_deny_world_on_a_port() -> None:  # X04
    denied = "- fromEntities: [world]\n  toPorts: [{ports: [{port: '8080', protocol: ANY}]}]"
    asked = world(a(cidr(ADDRESS), deny=(denied,)))
    for protocol in ("tcp", "udp", "sctp"):
        assert asked.into("a", ADDRESS, f"8080/{protocol}") == "deny"
        assert asked.into("a", ADDRESS, f"8081/{protocol}") == "allow"


def test_deny_except_lets_others_allow() -> None:  # X06
    denied = "- toCIDRSet: [{cidr: 1.0.0.0/8, except: [1.1.1.1/32]}]"
    asked = world(a('- toCIDR: ["0.0.0.0/0"]', deny=(denied,), direction="egress"))
    assert [asked.out("a", peer, "443/tcp") for peer in ("1.1.1.1", "1.2.3.4", "9.9.9.9")] == ["allow", "deny", "allow"]


def test_named_port_from_prefixes() -> None:  # X07
    asked = world(a(cidr(SUBNET, ports="\n  toPorts: [{ports: [{port: http, protocol: TCP}]}]")))
    assert asked.into("a", "192.0.2.9", "80/tcp") == "allow"
    assert asked.into("a", "192.0.2.9", "8080/tcp") == "deny"


def ranges(*pairs: tuple[int, int]) -> list[str]:
    return [f"- {FOO}\n  toPorts: [{{ports: [{{port: '{first}', endPort: {last}}}]}}]" for first, last in pairs]


@pytest.mark.parametrize(
    ("allowed", "denied", "probes", "verdict"),
    [
        pytest.param([(80, 0)], [(1, 1024)], [79, 80, 81], "deny", id="R01"),
        pytest.param([(80, 0)], [(1, 1024)], [1023, 1024, 1025], "deny", id="R02"),
        pytest.param([(1, 1024)], [(80, 0)], [1, 2, 79, 81, 1023, 1024], "allow", id="R03"),
        pytest.param([(1, 1024)], [(80, 0)], [80, 1025, 1026], "deny", id="R04"),
        pytest.param([(0, 0)], [(1, 1024)], [1, 1024], "deny", id="R06 denied"),
        pytest.param([(0, 0)], [(1, 1024)], [1025, 1026], "allow", id="R06 allowed"),
        pytest.param([(80, 90), (90, 100)], [(85, 95)], [80, 84, 96, 100], "allow", id="R07"),
        pytest.param([(80, 90), (90, 100)], [(85, 95)], [79, 85, 90, 95, 101], "deny", id="R08"),
    ],
)
def test_port_ranges(
    allowed: list[tuple[int, int]], denied: list[tuple[int, int]], probes: list[int], verdict: str
) -> None:
    asked = world(a(*ranges(*allowed), deny=tuple(ranges(*denied))))
    assert {asked.into("a", "foo", f"{port}/tcp") for port in probes} == {verdict}


# Enforcement and default deny


ALWAYS, NEVER = Settings(enable_policy="always"), Settings(enable_policy="never")


@pytest.mark.parametrize(
    ("rule", "settings", "enforced"),
    [
        pytest.param("", None, (False, False), id="E01"),
        pytest.param("ingress: [{}]", None, (True, False), id="E02"),
        pytest.param("egress: [{}]", None, (False, True), id="E03"),
        pytest.param("ingress: [{}]\negress: [{}]", None, (True, True), id="E04"),
        pytest.param("ingress: [{}]", NEVER, (False, False), id="E09"),
        pytest.param("", ALWAYS, (True, True), id="always"),
        pytest.param("enableDefaultDeny: {ingress: false}\ningress: [{}]", None, (True, False), id="E10"),
        pytest.param("ingressDeny: [{}]", None, (True, False), id="E12"),
        pytest.param("ingress: []", None, (True, False), id="[] is default deny"),
        pytest.param("ingress: []\negress: [{}]", None, (True, True), id="[] beside another direction"),
        pytest.param("ingress: null\negress: [{}]", None, (False, True), id="null is absent"),
        pytest.param("ingressDeny: []\negress: [{}]", None, (False, True), id="an empty deny list is absent"),
        pytest.param("enableDefaultDeny: {egress: true}\ningress: [{}]", None, (True, True), id="asked for"),
    ],
)
def test_enforcement(rule: str, settings: Settings | None, enforced: tuple[bool, bool]) -> None:
    documents = [policy(A + rule)] if rule else []
    asked = world(*documents, settings=settings)
    assert asked.enforced("a") == enforced
    assert asked.enforced("foo") == ((True, True) if settings is ALWAYS else (False, False))


@pytest.mark.parametrize(
    ("mode", "settings", "foo"),
    [("never", NEVER, "allow"), ("default", Settings(), "deny"), ("always", ALWAYS, "deny")],
)
def test_modes(mode: Literal["never", "default", "always"], settings: Settings, foo: str) -> None:
    assert world(a("- {}"), settings=settings).into("a", "foo", "80/tcp") == foo


def test_a_direction_that_is_not_enforced_ignores_deny_rules() -> None:  # P15
    assert world(a(deny=(L3,)), settings=NEVER).into("a", "foo", "80/tcp") == "allow"


def test_deny_rules_alone_are_default_deny() -> None:
    asked = world(a(deny=(L3,)))
    assert asked.into("a", "foo", "80/tcp") == asked.into("a", "bar", "80/tcp") == "deny"


NOT_DENYING = "enableDefaultDeny: {ingress: false}\n"


def test_without_default_deny_the_rest_is_allowed() -> None:  # E10
    asked = world(policy(A + NOT_DENYING + f"ingressDeny:\n{L3}"))
    assert asked.into("a", "foo", "80/tcp") == "deny"
    assert asked.into("a", "bar", "80/tcp") == "allow"
    origins = {rule.origin.name for rule in asked.policy("a").ingress.rules}
    assert origins == {"p", "default-allow", "allow-localhost"}


def test_without_default_deny_http_rules_only_watch() -> None:  # M36
    asked = world(policy(A + NOT_DENYING + f"ingress:\n{L4L7}"))
    assert asked.http("a", "foo", "80/tcp", "GET /public")
    assert asked.http("a", "foo", "80/tcp", "GET /secret")
    watched = [rule.l7 for rule in asked.policy("a").ingress.rules if rule.l7 is not None]
    assert [len(http) for http in watched] == [2]


def test_one_default_deny_rule_is_enough() -> None:  # E11
    asked = world(
        policy(A + NOT_DENYING + "ingress: [{}]"),
        policy("endpointSelector: {}\ningress: [{fromEntities: [remote-node]}]", name="q"),
    )
    assert asked.into("a", "bar", "80/tcp") == "deny"
    assert "default-allow" not in {rule.origin.name for rule in asked.policy("a").ingress.rules}


def test_always_mode_has_no_default_allow() -> None:
    asked = world(policy(A + NOT_DENYING + f"ingress:\n{L3}"), settings=ALWAYS)
    assert asked.into("a", "bar", "80/tcp") == "deny"


@pytest.mark.parametrize(("setting", "verdict"), [("auto", "allow"), ("always", "allow"), ("policy", "deny")])
def test_the_node_reaches_its_endpoints(setting: Literal["auto", "always", "policy"], verdict: str) -> None:  # M34
    settings = Settings(allow_localhost=setting)
    assert world(a(L3L4), settings=settings).into("a", "host", "9/tcp") == verdict
    assert world(a(L4L7), settings=settings).into("a", "host", "80/tcp") == ("allow" if verdict == "allow" else "http")
    assert world(a(L3L4, deny=("- fromEntities: [host]",)), settings=settings).into("a", "host", "80/tcp") == "deny"


def test_who_decided() -> None:
    asked = world(a(L3, deny=(L4,)))
    denied, allowed = asked.ask("a", "foo", "80/tcp"), asked.ask("a", "foo", "81/tcp")
    assert isinstance(denied, Denied)
    assert isinstance(allowed, Allowed)
    origins = asked.snapshot.origins
    assert (origins[denied.origin_id].rule, origins[allowed.origin_id].rule) == ("ingressDeny[0]", "ingress[0]")
    assert asked.ask("a", "bar", "81/tcp") == Denied(0, "no rule allows this peer and port")
    host = asked.ask("a", "host", "81/tcp")
    assert isinstance(host, Allowed)
    assert (origins[host.origin_id].kind, origins[host.origin_id].name) == ("Penstock", "allow-localhost")


def test_origins_tell_file_and_line() -> None:
    text = policy(A + "log: {value: web}\ningress:\n- {}\n- fromEntities: [world]\negressDeny:\n- toEntities: [world]")
    specs = text.replace("spec:\n", "specs:\n-\n", 1)
    found = {origin.rule: (origin.file, origin.line, origin.log) for origin in snapshot_of(text).origins.values()}
    assert found["ingress[1]"] == ("policies.yaml", 9, "web")
    assert found["egressDeny[0]"] == ("policies.yaml", 11, "web")
    listed = {origin.rule for origin in snapshot_of(specs).origins.values()}
    assert "specs[0].ingress[1]" in listed


# ICMP


def test_icmp() -> None:  # V43, V44
    asked = world(
        policy(
            A
            + "ingress: [{icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}]}]}]\n"
            + "egress: [{icmps: [{fields: [{type: 9}]}]}]"
        )
    )
    assert asked.into("a", "foo", "8/icmp") == "allow"
    assert asked.into("a", "foo", "9/icmp") == "deny"
    assert asked.into("a", "foo", "128/icmpv6") == "allow"
    assert asked.into("a", "foo", "8/tcp") == "deny"
    assert asked.out("a", "foo", "9/icmp") == "allow"


def test_icmp_passes_rules_without_ports_only() -> None:
    assert world(a(L3)).into("a", "foo", "8/icmp") == "allow"
    any_port = "- toPorts: [{ports: [{port: '0', protocol: ANY}]}]"
    assert world(a(any_port)).into("a", "foo", "8/icmp") == "deny"


# Named ports


def test_named_ports_of_the_subject() -> None:
    asked = world(policy("endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: HTTP, protocol: TCP}]}]}]"))
    assert [asked.into("a", "bar", f"{port}/tcp") for port in (80, 8080)] == ["allow", "deny"]
    assert [asked.into("foo", "bar", f"{port}/tcp") for port in (80, 8080)] == ["deny", "allow"]
    assert asked.into("bar", "foo", "80/tcp") == "deny"


def test_named_ports_have_a_protocol() -> None:
    asked = world(a("- toPorts: [{ports: [{port: dns, protocol: ANY}]}]"))
    assert asked.into("a", "foo", "53/udp") == "allow"
    assert asked.into("a", "foo", "53/tcp") == "deny"


def test_named_ports_of_peers() -> None:
    rule = (
        "endpointSelector: {matchLabels: {id: bar}}\negress: [{toEndpoints: [{}], toPorts: [{ports: [{port: http}]}]}]"
    )
    asked = world(policy(rule))
    assert [asked.out("bar", "a", f"{port}/tcp") for port in (80, 8080)] == ["allow", "deny"]
    assert [asked.out("bar", "foo", f"{port}/tcp") for port in (80, 8080)] == ["deny", "allow"]
    assert asked.out("bar", "other/foo", "80/tcp") == "deny"


def test_named_ports_of_any_peer() -> None:
    rule = "endpointSelector: {matchLabels: {id: bar}}\negress: [{toPorts: [{ports: [{port: http}]}]}]"
    asked = world(policy(rule))
    assert [asked.out("bar", "1.1.1.1", f"{port}/tcp") for port in (80, 8080, 81)] == ["allow", "allow", "deny"]


# The snapshot itself


def test_ipcache() -> None:
    text = a("- fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.9.0.2/32]}]", '- fromCIDR: ["0.0.0.0/0"]')
    snapshot = world(text).snapshot
    assert snapshot.ipcache[ip_network("10.9.0.2/32")] == world(text).identity("foo")
    assert snapshot.identities[snapshot.ipcache[ip_network("10.0.0.0/8")]] == {
        "cidr:10.0.0.0/8=",
        "reserved:world-ipv4=",
    }
    assert snapshot.ipcache[ip_network("192.168.9.2/32")] == Reserved.REMOTE_NODE
    assert ip_network("0.0.0.0/0") not in snapshot.ipcache
    assert snapshot.ipcache[ip_network("fd09::1/128")] == snapshot.ipcache[ip_network("10.9.0.1/32")]


def test_only_local_endpoints_have_policies_and_equal_ones_share() -> None:
    asked = world(policy("endpointSelector: {}\ningress: [{fromEntities: [world]}]"))
    assert asked.endpoint("far").id not in asked.snapshot.policies
    assert asked.policy("a") is asked.policy("foo") is asked.policy("bar")
    assert asked.policy("other/foo") is asked.policy("kube-system/coredns")


def test_audit() -> None:
    assert not world(a(L3)).endpoint("a").audit
    assert world(a(L3), settings=Settings(policy_audit_mode=True)).endpoint("a").audit


def test_ids_do_not_move_when_policies_come_and_go() -> None:
    before = snapshot_of(a(L3))
    after = snapshot_of(a(L3), policy("endpointSelector: {}\ningress: [{fromCIDR: [10.0.0.0/8]}]", name="another"))
    assert before.origins.items() <= after.origins.items()
    assert before.ipcache.items() <= after.ipcache.items()
    assert before.endpoints == after.endpoints


def test_a_snapshot_can_be_sent_to_workers() -> None:
    snapshot = snapshot_of(a(L4L7))
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot


def test_directions_of_a_policy() -> None:
    asked = world(policy(A + "egress: [{toEndpoints: [{matchLabels: {id: foo}}]}]"))
    assert asked.policy("a").direction(Direction.EGRESS).enforced
    assert asked.out("a", "foo", "1/tcp") == "allow"
    assert asked.out("a", "bar", "1/tcp") == "deny"
    assert asked.into("a", "bar", "1/tcp") == "allow"


def test_rules_of_one_object_in_spec_and_specs_add_up() -> None:
    spec = policy(A + f"ingress:\n{L3}")
    more = "specs:\n- endpointSelector: {matchLabels: {id: a}}\n  ingress: [{fromEntities: [world]}]\n"
    asked = world(spec + more)
    assert [asked.into("a", peer, "1/tcp") for peer in ("foo", "1.1.1.1", "bar")] == ["allow", "allow", "deny"]
    assert len(load(spec + more).documents) == 1
