"""Selectors, their namespaces, and labels. Ids are those of the conformance table of the policy language."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

import pytest

from config.labels import cidr_key, cidr_labels, parse_cidr_key, pod_labels
from config.policy.resolved import Network
from config.policy.rules import Document
from config.policy.selectors import Operator, Selector, SelectorIndex, Term, equals, exists, selector
from tests.config.policy.builders import clusterwide, codes_of, load, policy

NAMESPACE = "k8s:io.kubernetes.pod.namespace"
NAMESPACE_LABEL = "k8s:io.cilium.k8s.namespace.labels."


def only(text: str) -> Document:
    file = load(text)
    assert file.ok, file.findings
    return file.documents[0]


def subject(text: str) -> str:
    return str(only(text).rules[0].subject)


def peer(text: str) -> str:
    (found,) = only(text).rules[0].entries[0].peers or ()
    assert isinstance(found, Selector)
    return str(found)


def from_peer(selector_text: str, subject_text: str = "{}") -> str:
    return f"endpointSelector: {subject_text}\ningress:\n- fromEndpoints:\n  - {selector_text}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            policy("endpointSelector: {matchLabels: {role: backend}}\ningress: [{}]"),
            f"role=backend,{NAMESPACE}=default",
            id="N01",
        ),
        pytest.param(
            policy(f'endpointSelector: {{matchLabels: {{role: backend, "{NAMESPACE}": foo}}}}\ningress: [{{}}]'),
            f"role=backend,{NAMESPACE}=default",
            id="N02",
        ),
        pytest.param(
            clusterwide('endpointSelector: {matchLabels: {"reserved:init": ""}}\ningress: [{}]'),
            "reserved:init=",
            id="N03",
        ),
        pytest.param(clusterwide("endpointSelector: {}\ningress: [{}]"), "{}", id="everybody"),
        pytest.param(
            policy(
                "endpointSelector: {matchExpressions: [{key: 'reserved:init', operator: DoesNotExist}]}\ningress: [{}]"
            ),
            f"{NAMESPACE}=default,!reserved:init",
            id="N04",
        ),
    ],
)
def test_subjects(text: str, expected: str) -> None:
    assert subject(text) == expected


def test_a_namespace_of_the_subject_is_replaced_with_a_warning() -> None:
    file = load(policy(f'endpointSelector: {{matchLabels: {{"{NAMESPACE}": foo}}}}\negress: [{{toEntities: [all]}}]'))
    assert codes_of(file.findings) == ["CNP306"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(policy(from_peer("{}")), f"{NAMESPACE}=default", id="N04"),
        pytest.param(
            policy(from_peer('{matchLabels: {"any:io.kubernetes.pod.namespace": ns-2}}')),
            "io.kubernetes.pod.namespace=ns-2",
            id="N05",
        ),
        pytest.param(
            policy(from_peer(f'{{matchLabels: {{"{NAMESPACE}": ns-2, a: b}}}}')), f"a=b,{NAMESPACE}=ns-2", id="other"
        ),
        pytest.param(
            policy(from_peer(f"{{matchExpressions: [{{key: '{NAMESPACE}', operator: Exists}}]}}")), NAMESPACE, id="any"
        ),
        pytest.param(
            policy(from_peer(f'{{matchLabels: {{"{NAMESPACE_LABEL}team": x}}}}')), f"{NAMESPACE_LABEL}team=x", id="N06"
        ),
        pytest.param(policy(from_peer('{matchLabels: {"reserved:host": ""}}')), "reserved:host=", id="reserved"),
        pytest.param(clusterwide(from_peer("{}")), NAMESPACE, id="N07"),
        pytest.param(clusterwide(from_peer("{matchLabels: {a: b}}")), f"a=b,{NAMESPACE}", id="cluster-wide"),
        pytest.param(clusterwide(from_peer('{matchLabels: {"reserved:host": ""}}')), "reserved:host=", id="ccnp host"),
        pytest.param(
            clusterwide(from_peer("{matchLabels: {a: b}}", '{matchLabels: {"reserved:init": ""}}')), "a=b", id="init"
        ),
        pytest.param(
            policy(from_peer("{matchLabels: {a: b}, namespaceSelector: {matchLabels: {team: x}}}")),
            f"a=b,{NAMESPACE_LABEL}team=x,{NAMESPACE}",
            id="namespaceSelector",
        ),
        pytest.param(
            policy(
                from_peer(
                    "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, "
                    "values: [b, a]}]}}"
                )
            ),
            f"{NAMESPACE_LABEL}kubernetes.io/metadata.name in (a,b),{NAMESPACE}",
            id="namespaceSelector expression",
        ),
        pytest.param(policy(from_peer("{namespaceSelector: {}}")), NAMESPACE, id="any namespace"),
    ],
)
def test_peers(text: str, expected: str) -> None:
    assert peer(text) == expected


HOST = IPv4Network("10.0.0.1/32")
LABELS = {
    1: frozenset(("k8s:foo=bar", "k8s:tier=front")),
    2: frozenset(("any:foo=bar",)),
    3: frozenset(("k8s:foo=other",)),
    5: frozenset(("reserved:host=",)),
}


class Outside:
    """One address outside, with identity 4."""

    def within(self, network: Network) -> frozenset[int]:
        return frozenset((4,)) if network.version == 4 and HOST.subnet_of(network) else frozenset()

    def of_family(self, version: int) -> frozenset[int]:
        return frozenset((4,)) if version == 4 else frozenset()


INDEX = SelectorIndex(LABELS, Outside())


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param([], {1, 2, 3, 4, 5}, id="everything"),
        pytest.param([equals("foo", "bar")], {1, 2}, id="L01"),
        pytest.param([equals("k8s:foo", "bar")], {1}, id="L02"),
        pytest.param([equals("cidr:10.0.0.0/24", "")], {4}, id="L03"),
        pytest.param([equals("cidr:10.0.0.1/32", "")], {4}, id="itself"),
        pytest.param([equals("cidr:10.1.0.0/24", "")], set(), id="L03 outside"),
        pytest.param([exists("cidr:10.0.0.0/8")], {4}, id="containment by key"),
        pytest.param([equals("cidr:10.0.0.0/8", "x")], set(), id="prefixes have no value"),
        pytest.param([equals("cidr:nonsense", "")], set(), id="no prefix"),
        pytest.param([exists("foo")], {1, 2, 3}, id="exists"),
        pytest.param([equals("host", "")], {5}, id="any: also finds reserved labels"),
        pytest.param([equals("reserved:world", "")], {4}, id="the world of either family"),
        pytest.param([exists("world-ipv4")], {4}, id="the world of one family"),
        pytest.param([equals("reserved:world-ipv6", "")], set(), id="the world of the other family"),
        pytest.param([Term("any", "foo", Operator.IN, ("bar", "other"))], {1, 2, 3}, id="in"),
        pytest.param([Term("any", "foo", Operator.NOT_IN, ("bar",))], {3, 4, 5}, id="not in, or without the key"),
        pytest.param([Term("any", "foo", Operator.DOES_NOT_EXIST)], {4, 5}, id="does not exist"),
        pytest.param([exists("foo"), Term("k8s", "tier", Operator.DOES_NOT_EXIST)], {2, 3}, id="and"),
        pytest.param([equals("foo", "bar"), equals("foo", "other")], set(), id="contradiction"),
    ],
)
def test_index(terms: list[Term], expected: set[int]) -> None:
    assert INDEX.select(selector(*terms)) == expected


def test_equal_selectors_are_equal_in_any_order() -> None:
    assert selector(equals("a", "1"), exists("b")) == selector(exists("b"), equals("a", "1"), exists("b"))


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("::1/128", "0--1/128"),  # L04
        ("2001:db8::/32", "2001-db8--0/32"),
        ("::/0", "0--0/0"),
        ("fd00::1:0/112", "fd00--1-0/112"),
    ],
)
def test_labels_of_prefixes(prefix: str, key: str) -> None:
    network = ip_network(prefix)
    world = "reserved:world-ipv4=" if network.version == 4 else "reserved:world-ipv6="
    assert cidr_key(network) == key
    assert parse_cidr_key(key) == network
    assert cidr_labels(network) == {f"cidr:{key}=", world}  # L06


def test_labels_of_pods() -> None:
    assert pod_labels({"app": "x"}, "web", {"team": "a"}, "east", "runner") == {
        "k8s:app=x",
        "k8s:io.kubernetes.pod.namespace=web",
        "k8s:io.cilium.k8s.policy.cluster=east",
        "k8s:io.cilium.k8s.policy.serviceaccount=runner",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=web",
    }
