"""Explanations: verdicts of both ends, who decided, and which matcher of which entry said no."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from config.policy.explain import (
    DEFAULT_DENY,
    L4,
    MAX_CONSIDERED,
    Considered,
    Explanation,
    Side,
    Verdict,
    World,
    explain,
)
from config.policy.explain import Question as Asked
from config.policy.parties import find_party
from config.policy.resolve import resolve
from config.policy.rules import Document
from config.settings import Settings
from parsers.facts import ClientHello, HttpRequest
from tests.config.policy.builders import LINK, PODS, clusterwide, endpoints, http_request, load, policy

SERVER = "endpointSelector: {matchLabels: {id: a}}\n"
WEB = policy(
    SERVER
    + """
ingress:
- fromEndpoints: [{matchLabels: {id: foo}}]
  toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET, path: "/public(/.*)?"}]}}]
- fromEndpoints: [{matchLabels: {id: bar}}]
  toPorts: [{ports: [{port: http}]}]
- fromCIDR: [192.0.2.0/24]
"""
)


def world(*documents: str, settings: Settings | None = None, pods: str = PODS) -> World:
    file = load(*documents)
    assert file.ok, file.findings
    return World(resolve(file.documents, endpoints(pods), settings or Settings(), 7), file.documents)


def ask(
    of: World,
    source: str,
    destination: str,
    port: str,
    request: HttpRequest | None = None,
    *,
    everything: bool = False,
) -> Explanation:
    number, _, protocol = port.partition("/")
    one, other = (find_party(text, of.snapshot) for text in (source, destination))
    asked = Asked(one, other, LINK[protocol or "tcp"], int(number), request)
    return explain(of, asked, everything=everything)


def ingress(of: World, source: str, port: str, request: str = "") -> Side:
    """Of the pod `a`."""
    return ask(of, source, "a", port, http_request(request) if request else None).ingress


def with_http(rules: str) -> str:
    ports = '[{port: "80", protocol: TCP}]'
    return policy(f"{SERVER}ingress: [{{toPorts: [{{ports: {ports}, rules: {{http: [{rules}]}}}}]}}]")


def said(item: Considered) -> str:
    return "yes" if item.matched else item.matcher


@pytest.mark.parametrize(
    ("source", "port", "request_line", "verdict", "l4", "l7", "by", "considered"),
    [
        ("foo", "80", "GET /public", "allow", "redirect", "allow", ["ingress[0]"], ["yes", "peer", "peer"]),
        ("foo", "80", "PUT /public", "deny", "redirect", "deny", ["ingress[0]"], ["http.method", "peer", "peer"]),
        ("foo", "80", "GET /secret", "deny", "redirect", "deny", ["ingress[0]"], ["http.path", "peer", "peer"]),
        ("foo", "80", "", "allow", "redirect", None, ["ingress[0]"], ["yes", "peer", "peer"]),
        ("foo", "81", "", "deny", "deny", None, [DEFAULT_DENY], ["port", "peer", "peer"]),
        ("bar", "80", "GET /secret", "allow", "allow", None, ["ingress[1]"], ["peer", "yes", "peer"]),
        ("bar", "80/udp", "", "deny", "deny", None, [DEFAULT_DENY], ["peer", "port", "peer"]),
        ("other/foo", "80", "", "deny", "deny", None, [DEFAULT_DENY], ["peer", "peer", "peer"]),
        ("192.0.2.9", "9999/sctp", "", "allow", "allow", None, ["ingress[2]"], ["peer", "peer", "yes"]),
        ("world", "80", "", "deny", "deny", None, [DEFAULT_DENY], ["peer", "peer", "peer"]),
        ("host", "80", "", "allow", "allow", None, [""], ["peer", "peer", "peer", "yes"]),
    ],
)
def test_one_direction(
    source: str,
    port: str,
    request_line: str,
    verdict: str,
    l4: str,
    l7: str | None,
    by: list[str],
    considered: list[str],
) -> None:
    side = ingress(world(WEB), source, port, request_line)
    assert (side.enforced, side.verdict, side.l4, side.l7) == (True, verdict, l4, l7)
    assert [item.rule for item in side.by] == by
    assert [said(item) for item in side.considered] == considered


def test_the_destination_judges_headers_as_the_source_leaves_them() -> None:
    receives = with_http("{headers: ['X-Zone: eu']}")
    rules = "http: [{headerMatches: [{name: X-Zone, value: eu, mismatch: REPLACE}]}]"
    ports = f'[{{ports: [{{port: "80", protocol: TCP}}], rules: {{{rules}}}}}]'
    sends = policy(f"endpointSelector: {{matchLabels: {{id: foo}}}}\negress: [{{toPorts: {ports}}}]", name="sends")
    request = http_request("GET /", headers=(("x-zone", "us"),))
    assert ask(world(receives), "foo", "a", "80", request).verdict == "deny"
    assert ask(world(receives, sends), "bar", "a", "80", request).verdict == "deny"
    assert ask(world(receives, sends), "foo", "a", "80", request).verdict == "allow"


def test_places() -> None:
    side = ingress(world(WEB), "foo", "80", "GET /public/x")
    assert side.by[0].to_json() == {
        "policy": "p",
        "namespace": "default",
        "rule": "ingress[0]",
        "file": "policies.yaml",
        "line": 8,
    }
    refused = side.considered[1].to_json()
    assert refused == {
        "policy": "p",
        "namespace": "default",
        "kind": "CiliumNetworkPolicy",
        "rule": "ingress[1]",
        "file": "policies.yaml",
        "line": 10,
        "deny": False,
        "matched": False,
        "matcher": "peer",
        "reason": "peer: id=bar,k8s:io.kubernetes.pod.namespace=default does not select default/foo (id=foo)",
    }


@pytest.mark.parametrize(
    ("entry", "source", "port", "reason"),
    [
        ("fromEndpoints: []", "foo", "80", "peer: the entry selects nobody"),
        ("fromEntities: [world]", "foo", "80", "peer: entity world does not select default/foo (id=foo)"),
        (
            "fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]",
            "10.1.2.3",
            "80",
            "peer: 10.0.0.0/8 except 10.1.0.0/16 does not select 10.1.2.3 (cidr:10.1.0.0/16,reserved:world-ipv4)",
        ),
        ("fromCIDR: [192.0.2.1/32, 192.0.2.2/32]", "world", "80", "do not select world (reserved:world-ipv4)"),
        ('toPorts: [{ports: [{port: "80", protocol: TCP}]}]', "foo", "8080", "port: 8080/TCP is not 80/TCP"),
        ('toPorts: [{ports: [{port: "80"}]}]', "foo", "8080", "port: 8080/TCP is not 80/ANY"),
        ('toPorts: [{ports: [{port: "1", endPort: 9}]}]', "foo", "53/udp", "port: 53/UDP is not 1-9/ANY"),
        ("toPorts: [{ports: [{port: http, protocol: TCP}]}]", "foo", "81", "port: 81/TCP is not http/TCP (80/TCP)"),
        (
            "toPorts: [{ports: [{port: grpc, protocol: TCP}]}]",
            "foo",
            "80",
            "port: 80/TCP is not grpc/TCP (no port of the destination)",
        ),
        (
            'toPorts: [{ports: [{port: "1", protocol: TCP}, {port: "2", protocol: UDP}]}]',
            "foo",
            "3",
            "port: 3/TCP is none of 1/TCP, 2/UDP",
        ),
        ("icmps: [{fields: [{type: 8, family: IPv4}]}]", "foo", "0/icmp", "port: 0/ICMP is not 8/ICMP"),
        ("icmps: [{fields: [{type: 128, family: IPv6}]}]", "foo", "1/icmpv6", "port: 1/ICMPv6 is not 128/ICMPv6"),
    ],
)
def test_reasons(entry: str, source: str, port: str, reason: str) -> None:
    side = ingress(world(policy(f"{SERVER}ingress:\n- {entry}\n")), source, port)
    [considered] = side.considered
    assert reason in considered.reason
    assert considered.reason.startswith(f"{considered.matcher}: ")
    assert not considered.matched
    assert side.verdict == "deny"


@pytest.mark.parametrize(
    ("rule", "request_line", "headers", "matcher", "reason"),
    [
        ("{method: GET}", "PUT /", (), "http.method", 'method "PUT" does not match "GET"'),
        ("{path: /a}", "GET /b", (), "http.path", 'path "/b" does not match "/a"'),
        ('{host: "b\\\\..*"}', "GET /", (), "http.host", 'host "a.example" does not match "b\\..*"'),
        ('{headers: ["X-Token: 1"]}', "GET /", (), "http.header x-token", 'header "x-token" is missing'),
        ('{headers: ["X-Token: 1"]}', "GET /", (("x-token", "2"),), "http.header x-token", "has another value"),
        ("{method: GET, path: /a}", "PUT /b", (), "http.method", 'match "GET" and path "/b" does not match "/a"'),
        ("{path: /a, method: GET}, {path: /b}", "PUT /c", (), "http.path", 'match "/b"; and 1 more HTTP rules'),
    ],
)
def test_reasons_of_http(
    rule: str, request_line: str, headers: tuple[tuple[str, str], ...], matcher: str, reason: str
) -> None:
    side = ask(world(with_http(rule)), "foo", "a", "80", http_request(request_line, headers=headers)).ingress
    assert (side.verdict, side.l7) == ("deny", "deny")
    assert side.considered[0].matcher == matcher
    assert reason in side.considered[0].reason


def test_values_of_headers_are_not_told() -> None:
    side = ask(
        world(with_http('{headers: ["t 1"]}')), "foo", "a", "80", http_request("GET /", headers=(("t", "s3cret"),))
    ).ingress
    assert side.verdict == "deny"
    assert "s3cret" not in str(side)


def test_both_ends() -> None:
    of = world(
        policy(
            "endpointSelector: {matchLabels: {id: foo}}\negress: [{toEndpoints: [{matchLabels: {id: bar}}]}]",
            name="out",
        ),
        WEB,
    )
    refused = ask(of, "foo", "a", "80", http_request("GET /public"))
    assert (refused.verdict, refused.egress.verdict, refused.ingress.verdict) == ("deny", "deny", "allow")
    assert [item.policy for item in refused.egress.by] == ["out"]
    assert [said(item) for item in refused.egress.considered] == ["peer"]
    allowed = ask(of, "foo", "bar", "1")
    assert (allowed.verdict, allowed.egress.l4, allowed.ingress.l4) == ("allow", "allow", "none")
    assert allowed.revision == 7


@pytest.mark.parametrize(
    ("source", "note"), [("192.0.2.1", "is no pod"), ("world", "is no pod"), ("far", "another node")]
)
def test_an_end_that_is_not_of_this_node_enforces_nothing(source: str, note: str) -> None:
    side = ask(world(WEB), source, "a", "80").egress
    assert (side.enforced, side.verdict, side.l4, side.l7, side.by) == (False, Verdict.ALLOW, L4.NONE, None, ())
    assert note in side.note


def test_l4_rule_beside_http_rules_lets_everything_pass() -> None:
    beside = policy(f"{SERVER}ingress: [{{fromEndpoints: [{{matchLabels: {{id: foo}}}}]}}]", name="wide")
    side = ingress(world(WEB, beside), "foo", "80", "PUT /secret")
    assert (side.verdict, side.l4, side.l7) == ("allow", "redirect", "allow")
    assert [(item.policy, item.rule) for item in side.by] == [("wide", "ingress[0]")]
    assert "whatever L7 rules say" in side.note
    # The HTTP rule is still told to have said no.
    assert ("p", "http.method") in [(item.policy, said(item)) for item in side.considered]


def test_deny_rules() -> None:
    never = clusterwide(
        "endpointSelector: {}\ningressDeny: [{fromEntities: [all], toPorts: [{ports: [{port: '80'}]}]}]"
    )
    side = ingress(world(WEB, never), "foo", "80", "GET /public")
    assert (side.verdict, side.l4, side.l7) == ("deny", "deny", None)
    assert [(item.policy, item.namespace, item.rule) for item in side.by] == [("c", "", "ingressDeny[0]")]
    assert [(item.rule, item.deny) for item in side.considered if item.matched] == [
        ("ingress[0]", False),
        ("ingressDeny[0]", True),
    ]


def test_modes() -> None:
    never = ingress(world(WEB, settings=Settings(enable_policy="never")), "other/foo", "80")
    assert (never.enforced, never.l4, never.verdict) == (False, "none", "allow")
    assert "enable-policy is never" in never.note
    always = ingress(world(settings=Settings(enable_policy="always")), "other/foo", "80")
    assert (always.enforced, always.verdict, always.by) == (True, "deny", ())
    assert "enable-policy is always" in always.note
    default = ingress(world(), "other/foo", "80")
    assert (default.enforced, default.verdict) == (False, "allow")
    assert "no policy is about ingress of default/a" in default.note


def test_default_allow() -> None:
    denies = "ingressDeny: [{fromEndpoints: [{matchLabels: {id: foo}}]}]"
    of = world(policy(f"{SERVER}enableDefaultDeny: {{ingress: false}}\n{denies}"))
    assert ingress(of, "foo", "80").verdict == "deny"
    side = ingress(of, "bar", "80")
    assert side.verdict == "allow"
    assert [item.policy for item in side.by] == ["default-allow"]
    assert "default allow" in side.note


@pytest.mark.parametrize("request_line", ["", "PUT /secret"])
def test_audit_mode(request_line: str) -> None:
    of = world(WEB, settings=Settings(policy_audit_mode=True))
    side = ingress(of, "foo", "80", request_line) if request_line else ingress(of, "world", "80")
    assert side.verdict == "audit"
    assert (side.l4, side.l7) == (("redirect", "deny") if request_line else ("deny", None))
    assert "audit" in side.note
    assert ask(of, "world", "a", "80").verdict == "audit"


def test_policies_that_are_tried_out() -> None:
    of = world(WEB)
    tried = tuple(replace(item, rules=tuple(replace(rule, audit=True) for rule in item.rules)) for item in of.documents)
    of = World(resolve(tried, endpoints(), Settings(), 1), tried)
    side = ingress(of, "world", "80")
    assert (side.verdict, side.l4) == ("audit", "deny")
    assert [item.rule for item in side.by] == [DEFAULT_DENY]
    assert ingress(of, "foo", "80", "PUT /secret").verdict == "audit"
    assert ingress(of, "foo", "80", "GET /public").verdict == "allow"


def test_deny_rules_that_are_tried_out() -> None:
    never = policy(f"{SERVER}ingressDeny: [{{fromEntities: [all]}}]\ningress: [{{fromEntities: [all]}}]", name="never")
    [document] = world(never).documents
    tried: tuple[Document, ...] = (
        replace(document, rules=tuple(replace(rule, audit=True) for rule in document.rules)),
    )
    side = ingress(World(resolve(tried, endpoints(), Settings(), 1), tried), "foo", "80")
    # The kernel lets it pass.
    assert (side.verdict, side.l4) == ("audit", "allow")
    assert [item.rule for item in side.by] == ["ingressDeny[0]"]


def test_entries_about_other_pods() -> None:
    of = world(WEB)
    assert ask(of, "a", "bar", "80").ingress.considered == ()
    [first, *_] = ask(of, "a", "bar", "80", everything=True).ingress.considered
    assert (first.matched, first.matcher) == (False, "subject")
    assert first.reason == (
        "subject: id=a,k8s:io.kubernetes.pod.namespace=default does not select default/bar (id=bar,tier=front)"
    )


def test_named_ports_of_peers() -> None:
    ports = "toPorts: [{ports: [{port: http, protocol: TCP}]}]"
    of = world(policy(f"endpointSelector: {{matchLabels: {{id: foo}}}}\negress: [{{toEndpoints: [{{}}], {ports}}}]"))
    assert ask(of, "foo", "a", "80").verdict == "allow"
    [refused] = ask(of, "foo", "a", "8080").egress.considered
    assert (refused.matcher, refused.reason) == ("port", "port: 8080/TCP is not http/TCP (80/TCP)")
    # The rule does select a peer that has no port of that name.
    [refused] = ask(of, "foo", "bar", "8080").egress.considered
    assert (refused.matcher, refused.reason) == ("port", "port: 8080/TCP is not http/TCP (no port of the destination)")


def test_of_two_documents_about_one_object_the_first_counts() -> None:
    second = policy(f"{SERVER}ingress: [{{fromEntities: [all]}}]")
    side = ingress(world_with_errors(WEB, second), "other/foo", "80")
    assert side.verdict == "deny"
    assert len(side.considered) == 3


def world_with_errors(*documents: str) -> World:
    found = load(*documents).documents
    return World(resolve(found, endpoints(), Settings(), 1), found)


def test_lists_have_an_end() -> None:
    entries = "\n".join(f"- fromCIDR: [192.0.2.{number % 256}/32]" for number in range(MAX_CONSIDERED))
    of = world(policy(f"{SERVER}ingress:\n{entries}\n- fromEndpoints: [{{matchLabels: {{id: foo}}}}]"))
    side = ingress(of, "foo", "80")
    assert len(side.considered) == MAX_CONSIDERED
    assert side.considered[0].matched
    assert "1 more entries" in side.note


def test_a_pod_that_has_no_policy_yet_is_closed() -> None:
    of = world(WEB)
    of = World(replace(of.snapshot, policies={}), of.documents)
    assert ingress(of, "foo", "80").verdict == "deny"


def test_json_has_the_keys_that_others_read() -> None:
    body = ask(world(WEB), "foo", "a", "80", http_request("GET /public")).to_json()
    assert set(body) == {"verdict", "egress", "ingress", "revision"}
    assert set(body["ingress"]) == {"enforced", "verdict", "l4", "l7", "by", "considered"}
    assert "none was given" in ask(world(WEB), "foo", "a", "80").to_json()["ingress"]["note"]


# -- names and what is asked for behind them ---------------------------------------------------------------------------

CDN = "192.0.2.7"
ALLOWED, NEIGHBOUR = "allowed.cdn.test", "neighbour.cdn.test"
BY_NAME = f"""
endpointSelector: {{matchLabels: {{id: foo}}}}
egress:
- toFQDNs: [{{matchName: {ALLOWED}}}]
  toPorts:
  - {{ports: [{{port: "443", protocol: TCP}}], serverNames: ["*.cdn.test"]}}
- toFQDNs: [{{matchName: {ALLOWED}}}]
  toPorts:
  - {{ports: [{{port: "80", protocol: TCP}}], rules: {{http: [{{path: "/public.*"}}]}}}}
"""
NAMES_TOLD = f"is none of the names that opened this address (toFQDNs {ALLOWED})"


def behind_name(
    asked: str, *, bind_names: str = "tls", more: str = "", settings: Settings | None = None, tls: bool = True
) -> Side:
    """What egress of `foo` says of TLS or HTTP with that name, to the address of both names."""
    of = replace(world(policy(BY_NAME + more), settings=settings), bind_names=bind_names)
    source = find_party("foo", of.snapshot)
    names = {name: (ip_address(CDN),) for name in (ALLOWED, NEIGHBOUR)}
    destination = find_party(CDN, of.snapshot, names=names)
    request = ClientHello(asked) if tls else http_request("GET /public", host=asked)
    return explain(of, Asked(source, destination, LINK["tcp"], 443 if tls else 80, request)).egress


@pytest.mark.parametrize(
    ("bind_names", "tls", "is_bound"),
    [
        ("off", True, False),
        ("tls", True, True),
        ("all", True, True),
        ("off", False, False),
        ("tls", False, False),
        ("all", False, True),
    ],
)
def test_a_neighbour_at_the_same_address(bind_names: str, tls: bool, is_bound: bool) -> None:
    side = behind_name(NEIGHBOUR, bind_names=bind_names, tls=tls)
    assert (side.verdict, side.l4, side.l7) == (
        ("deny", "redirect", "deny") if is_bound else ("allow", "redirect", "allow")
    )
    what = "server name" if tls else "host"
    assert side.note == (f'{what} "{NEIGHBOUR}" {NAMES_TOLD}' if is_bound else "")
    assert [item.rule for item in side.by] == [f"egress[{0 if tls else 1}]"]
    # It is not the rule that said no.
    assert side.considered[0 if tls else 1].matched
    for name in (ALLOWED, ALLOWED.upper(), *([] if tls else [f"{ALLOWED}.", f"{ALLOWED}:8080"])):
        assert behind_name(name, bind_names=bind_names, tls=tls).verdict == "allow"


def test_names_do_not_matter_where_rules_refuse_already() -> None:
    side = behind_name("neighbour.other.test", bind_names="all")
    assert (side.verdict, side.note) == ("deny", "no TLS rule permits this request")


@pytest.mark.parametrize("peer", [f"toCIDR: [{CDN}/32]", "toEntities: [world]"])
def test_an_address_that_is_also_allowed_without_names_is_not_bound(peer: str) -> None:
    ports = '[{port: "443", protocol: TCP}]'
    same = f"- {peer}\n  toPorts:\n  - {{ports: {ports}, serverNames: ['*.cdn.test']}}\n"
    assert behind_name(NEIGHBOUR, more=same).verdict == "allow"
    assert behind_name(NEIGHBOUR, more=f"- {peer}\n  toPorts: [{{ports: {ports}}}]\n").verdict == "allow"
    # Other ports are another matter.
    assert behind_name(NEIGHBOUR, more=f'- {peer}\n  toPorts: [{{ports: [{{port: "80"}}]}}]\n').verdict == "deny"


def test_all_names_of_all_entries_count() -> None:
    ports = '{ports: [{port: "443", protocol: TCP}], serverNames: [www.cdn.test]}'
    more = f'- toFQDNs: [{{matchPattern: "n*.cdn.test"}}]\n  toPorts: [{ports}]\n'
    assert behind_name(NEIGHBOUR, more=more).verdict == "allow"
    side = behind_name("other.cdn.test", more=more)
    assert side.note == (
        f'server name "other.cdn.test" is none of the names that opened this address (toFQDNs {ALLOWED}, n*.cdn.test)'
    )


@pytest.mark.parametrize("tls", [True, False])
def test_a_wrong_name_in_audit_mode(tls: bool) -> None:
    side = behind_name(NEIGHBOUR, bind_names="all", settings=Settings(policy_audit_mode=True), tls=tls)
    assert (side.verdict, side.l4, side.l7) == ("audit", "redirect", "deny")
    assert side.note.startswith("passes only because of audit: ")
    assert NAMES_TOLD in side.note
