"""Kubernetes NetworkPolicies, as Cilium reads them. Ids are those of the conformance table of the policy language."""

from __future__ import annotations

from textwrap import indent

import pytest

from config import codes
from config.findings import Code
from config.policy.resolved import Direction
from config.policy.rules import CidrBlock
from config.policy.selectors import Selector
from tests.config.policy.builders import World, codes_of, load, world

PODS = """
namespaces:
- {name: myns, labels: {team: own}}
- {name: other, labels: {team: far}}
endpoints:
- {name: a, namespace: myns, labels: {role: backend, id: a}, addresses: [10.9.0.1], interface: a0,
   ports: [{name: redis, containerPort: 6379}]}
- {name: front, namespace: myns, labels: {role: frontend}, addresses: [10.9.0.2], interface: f0}
- {name: db, namespace: myns, labels: {role: db}, addresses: [10.9.0.3], interface: d0}
- {name: front, namespace: other, labels: {role: frontend}, addresses: [10.9.0.4], interface: o0}
"""
A = "podSelector: {matchLabels: {id: a}}\n"


def knp(spec: str, annotations: str = "", version: str = "networking.k8s.io/v1") -> str:
    head = f"apiVersion: {version}\nkind: NetworkPolicy\nmetadata: {{name: k, namespace: myns{annotations}}}\nspec:\n"
    return head + indent(spec.strip("\n"), "  ") + "\n"


def asked(spec: str) -> World:
    return world(knp(spec), pods=PODS)


def test_one_peer_and_port() -> None:
    """K01."""
    peer = "from: [{podSelector: {matchLabels: {role: frontend}}}]"
    found = asked(f"podSelector: {{matchLabels: {{role: backend}}}}\ningress:\n- {peer}\n  ports: [{{port: 6379}}]")
    assert found.into("myns/a", "myns/front", "6379/tcp") == "allow"
    for source, port in (
        ("myns/front", "6379/udp"),
        ("myns/front", "6378/tcp"),
        ("other/front", "6379/tcp"),
        ("myns/db", "6379/tcp"),
    ):
        assert found.into("myns/a", source, port) == "deny", (source, port)


@pytest.mark.parametrize(
    ("spec", "enforced"),
    [
        pytest.param("podSelector: {}", (True, False), id="K07"),
        pytest.param(A + "policyTypes: [Egress]", (False, True), id="egress only"),
        pytest.param(A + "policyTypes: [Ingress, Egress]", (True, True), id="both"),
        pytest.param(A + "egress: [{}]", (True, True), id="rules without their type, and ingress by default"),
    ],
)
def test_default_deny(spec: str, enforced: tuple[bool, bool]) -> None:
    assert asked(spec).enforced("myns/a") == enforced


@pytest.mark.parametrize(
    ("entry", "allowed", "denied"),
    [
        pytest.param("{}", ["myns/db", "other/front", "192.0.2.1", "host"], [], id="K04, K08"),
        pytest.param(
            "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.96.0.0/12]}}, "
            "{namespaceSelector: {matchLabels: {team: far}}}]}",
            ["10.1.0.1", "other/front"],
            ["10.96.0.1", "192.0.2.1", "myns/db"],
            id="K11",
        ),
        pytest.param(
            "{from: [{podSelector: {matchLabels: {role: frontend}}}]}", ["myns/front"], ["other/front"], id="K13"
        ),
        pytest.param(
            "{from: [{podSelector: {matchLabels: {role: frontend}}, namespaceSelector: {matchLabels: {team: far}}}]}",
            ["other/front"],
            ["myns/front"],
            id="K14",
        ),
        pytest.param(
            "{from: [{namespaceSelector: {}}]}", ["myns/db", "other/front"], ["192.0.2.1"], id="any namespace"
        ),
        pytest.param("{from: []}", ["other/front", "192.0.2.1"], [], id="K15: no peers are any peers"),
        pytest.param("{from: [{ipBlock: {cidr: 192.0.2.0/24, except: []}}]}", ["192.0.2.1"], ["203.0.113.1"], id="K16"),
    ],
)
def test_peers(entry: str, allowed: list[str], denied: list[str]) -> None:
    found = asked(f"{A}ingress: [{entry}]")
    for peer in allowed:
        assert found.into("myns/a", peer, "80/tcp") == "allow", peer
    for peer in denied:
        assert found.into("myns/a", peer, "80/tcp") == "deny", peer


@pytest.mark.parametrize(
    ("ports", "allowed", "denied"),
    [
        pytest.param("[]", ["80/tcp", "80/udp", "8/icmp"], [], id="none"),
        pytest.param("[{}]", ["80/tcp", "1/tcp"], ["80/udp"], id="TCP, any port"),
        pytest.param("[{protocol: UDP}]", ["53/udp"], ["53/tcp"], id="UDP, any port"),
        pytest.param("[{port: redis}]", ["6379/tcp"], ["80/tcp"], id="K17"),
        pytest.param("[{port: 80, endPort: 90}]", ["80/tcp", "90/tcp"], ["79/tcp", "91/tcp", "85/udp"], id="range"),
    ],
)
def test_ports(ports: str, allowed: list[str], denied: list[str]) -> None:
    found = asked(f"{A}ingress: [{{ports: {ports}}}]")
    for port in allowed:
        assert found.into("myns/a", "myns/db", port) == "allow", port
    for port in denied:
        assert found.into("myns/a", "myns/db", port) == "deny", port


def test_a_range_on_the_way_out() -> None:
    """K18."""
    found = asked(f"{A}policyTypes: [Egress]\negress: [{{ports: [{{port: 80, endPort: 90}}]}}]")
    assert [found.out("myns/a", "myns/db", port) for port in ("79/tcp", "80/tcp", "90/tcp", "91/tcp")] == [
        "deny",
        "allow",
        "allow",
        "deny",
    ]


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        pytest.param(A + "ingress: [{ports: [{port: 80, protocol: unknown}]}]", codes.PROTOCOL_BAD, id="K10"),
        pytest.param(A + "ingress: [{ports: [{protocol: ANY}]}]", codes.PROTOCOL_BAD, id="no ANY here"),
        pytest.param(A + "ingress: [{ports: [{port: 0}]}]", codes.PORT_BAD, id="port 0"),
        pytest.param(A + "ingress: [{ports: [{port: 70000}]}]", codes.PORT_BAD, id="port too high"),
        pytest.param(A + "ingress: [{ports: [{port: [80]}]}]", codes.SCHEMA_TYPE, id="list for a port"),
        pytest.param(A + "ingress: [{ports: [{endPort: 90}]}]", codes.PORT_BAD, id="endPort alone"),
        pytest.param(A + "ingress: [{from: [{}]}]", codes.SCHEMA_MISSING, id="empty peer"),
        pytest.param(
            A + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]", codes.PEERS_COMBINED, id="both"
        ),
        pytest.param(A + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]", codes.CIDR_BAD, id="no prefix"),
        pytest.param(
            A + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]",
            codes.CIDR_EXCEPT,
            id="except outside",
        ),
        pytest.param(A + "policyTypes: [ingress]", codes.SCHEMA_VALUE, id="type in lower case"),
        pytest.param(A + "ingress: [{form: []}]", codes.SCHEMA_UNKNOWN, id="misspelt"),
        pytest.param(A + "ingress: [{from: [{podSelector: {matchLabels: {a: [b]}}}]}]", codes.SCHEMA_TYPE, id="V64"),
    ],
)
def test_refused(spec: str, code: Code) -> None:
    file = load(knp(spec))
    assert not file.documents
    assert code.id in codes_of(file.findings)
    assert all(finding.line > 0 for finding in file.findings)
    assert file.lockdowns


def test_rules_of_a_direction_that_is_not_listed_apply_with_a_warning() -> None:
    file = load(knp(A + "policyTypes: [Ingress]\negress: [{to: [{podSelector: {}}]}]"))
    assert codes_of(file.findings) == [codes.UNLISTED_DIRECTION.id]
    assert file.documents[0].rules[0].governs == (True, True)


def test_the_old_version_and_the_default_namespace() -> None:
    file = load(knp(A, version="extensions/v1beta1").replace(", namespace: myns", ""))
    assert file.ok
    assert file.documents[0].namespace == "default"


def test_what_it_becomes() -> None:
    spec = "ingress:\n- from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]\n- {}"
    (document,) = load(knp(A + spec)).documents
    first, second = document.rules[0].entries
    assert (first.name, first.direction, second.name) == ("ingress[0]", Direction.INGRESS, "ingress[1]")
    assert [type(peer) for peer in first.peers or ()] == [Selector, CidrBlock]
    assert second.peers is None
    assert second.port_rules is None


@pytest.mark.parametrize(("text", "audit"), [("true", True), ("false", False)])
def test_tried_out(text: str, audit: bool) -> None:
    file = load(knp(A, f", annotations: {{policy.penstock.io/audit: '{text}'}}"))
    assert file.documents[0].rules[0].audit is audit


def test_a_bad_annotation() -> None:
    file = load(knp(A, ", annotations: {policy.penstock.io/audit: 'maybe'}"))
    assert codes_of(file.findings) == [codes.AUDIT_BAD.id]
