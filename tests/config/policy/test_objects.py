"""Objects that policies refer to: how they are read, and what they make of policies."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

import pytest

from config import codes
from config.endpoints import EndpointsFile
from config.policy.load import LoadedFile
from config.policy.name_groups import name_matcher
from config.policy.references import references_of
from config.policy.resolve import resolve
from config.policy.rules import CidrGroup, Service, ServiceBackends
from config.settings import Settings
from tests.config.policy.builders import World, clusterwide, codes_of, endpoints, load, policy

A = "endpointSelector: {matchLabels: {id: a}}\n"
GROUP = """\
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: partners, labels: {kind: trusted}}
spec: {externalCIDRs: [192.0.2.0/24, 2001:db8::/32]}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: s, namespace: default, labels: {tier: web}}
spec: {selector: {id: foo}, ports: [{port: 80}]}
"""
BARE = SERVICE.replace("selector: {id: foo}, ", "")
ENDPOINTS = """\
apiVersion: v1
kind: Endpoints
metadata: {name: s, namespace: default}
subsets: [{addresses: [{ip: 192.0.2.7}], ports: [{port: 80}]}]
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-abc, namespace: default, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints:
- {addresses: [192.0.2.8], conditions: {ready: true}}
- {addresses: [192.0.2.9], conditions: {ready: false}}
"""


def world(*texts: str, names: Mapping[str, tuple[str, ...]] | None = None, pods: EndpointsFile | None = None) -> World:
    file = load(*texts)
    references = references_of(file.objects)
    return World(resolve(file.documents, pods or endpoints(), Settings(), 1, references), names or {})


def from_group(rule: str, section: str = "ingress") -> str:
    return policy(f"{A}{section}:\n- fromCIDRSet: [{rule}]\n")


# CIDR groups


def test_a_group_as_it_is_read() -> None:
    file = load(GROUP)
    assert not file.findings
    (group,) = file.objects
    assert isinstance(group, CidrGroup)
    assert group.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert group.labels == {
        "cidrgroup:kind=trusted",
        "cidrgroup:io.cilium.policy.cidrgroupname/partners=",
    }
    assert load(GROUP.replace("cilium.io/v2", "cilium.io/v2alpha1")).objects == (group,)


@pytest.mark.parametrize(
    ("rule", "allowed", "denied"),
    [
        ("{cidrGroupRef: partners}", ["192.0.2.1", "2001:db8::1"], ["203.0.113.1", "foo"]),
        ("{cidrGroupRef: partners, except: [192.0.2.0/28]}", ["192.0.2.99", "2001:db8::1"], ["192.0.2.1"]),
        ("{cidrGroupRef: partners, except: [192.0.0.0/16]}", ["2001:db8::1"], ["192.0.2.1"]),
        ("{cidrGroupRef: others}", [], ["192.0.2.1"]),
        ("{cidrGroupSelector: {matchLabels: {kind: trusted}}}", ["192.0.2.1"], ["203.0.113.1"]),
        ("{cidrGroupSelector: {matchLabels: {'cidrgroup:kind': trusted}}}", ["192.0.2.1"], []),
        ("{cidrGroupSelector: {matchLabels: {kind: other}}}", [], ["192.0.2.1"]),
        ("{cidrGroupSelector: {}}", ["192.0.2.1"], ["203.0.113.1"]),
    ],
)
def test_groups_in_rules(rule: str, allowed: list[str], denied: list[str]) -> None:
    found = world(GROUP, from_group(rule))
    for peer in allowed:
        assert found.into("a", peer, "80/tcp") == "allow", peer
    for peer in denied:
        assert found.into("a", peer, "80/tcp") == "deny", peer


@pytest.mark.parametrize(
    "broken", [GROUP.replace("192.0.2.0/24", "192.0.2.0/99"), GROUP.replace("externalCIDRs", "externalCidrs")]
)
def test_a_broken_group_denies_where_it_was_to_deny_and_allows_nothing(broken: str) -> None:
    file = load(broken)
    assert not file.ok
    assert [summary.valid for summary in file.summaries] == [False]
    allowing = policy(f"{A}ingress: [{{fromEntities: [all]}}]", name="open")
    denied = world(broken, allowing, from_group("{cidrGroupRef: partners}", "ingressDeny"))
    assert [denied.into("a", peer, "80/tcp") for peer in ("192.0.2.1", "203.0.113.1", "foo")] == [
        "deny",
        "deny",
        "allow",
    ]
    allowed = world(broken, from_group("{cidrGroupRef: partners}"))
    assert allowed.into("a", "192.0.2.1", "80/tcp") == "deny"


# Services


@pytest.mark.parametrize(
    ("objects", "peer", "allowed", "denied"),
    [
        ([SERVICE], "{k8sService: {serviceName: s}}", ["foo"], ["bar", "other/foo"]),
        ([SERVICE], "{k8sService: {serviceName: s, namespace: other}}", [], ["foo"]),
        ([SERVICE], "{k8sServiceSelector: {selector: {matchLabels: {tier: web}}}}", ["foo"], ["bar"]),
        ([SERVICE], "{k8sServiceSelector: {selector: {matchLabels: {tier: db}}}}", [], ["foo"]),
        ([BARE, ENDPOINTS], "{k8sService: {serviceName: s}}", ["192.0.2.7"], ["192.0.2.8", "foo"]),
        ([BARE, SLICE], "{k8sService: {serviceName: s}}", ["192.0.2.8"], ["192.0.2.9"]),
        ([BARE, ENDPOINTS, SLICE], "{k8sService: {serviceName: s}}", ["192.0.2.7", "192.0.2.8"], []),
        ([], "{k8sService: {serviceName: s}}", [], ["foo"]),
        (
            [SERVICE.replace("{selector:", "{type: ExternalName, externalName: x.example, selector:")],
            "{k8sService: {serviceName: s}}",
            [],
            ["foo"],
        ),
    ],
)
def test_services(objects: list[str], peer: str, allowed: list[str], denied: list[str]) -> None:
    """V57: with the ports of the pods behind."""
    ports = "toPorts: [{ports: [{port: '80', protocol: TCP}]}]"
    found = world(*objects, policy(f"{A}egress:\n- toServices: [{peer}]\n  {ports}\n"))
    for name in allowed:
        assert found.out("a", name, "80/tcp") == "allow", name
        assert found.out("a", name, "81/tcp") == "deny", name
    for name in denied:
        assert found.out("a", name, "80/tcp") == "deny", name


def test_services_of_any_namespace_in_a_cluster_wide_policy() -> None:
    text = clusterwide(f"{A}egress:\n- toServices: [{{k8sServiceSelector: {{selector: {{}}}}}}]\n")
    assert world(SERVICE, text).out("a", "foo", "80/tcp") == "allow"
    file = load(clusterwide(f"{A}egress:\n- toServices: [{{k8sService: {{serviceName: s}}}}]\n"))
    assert codes_of(file.findings) == [codes.SERVICE_CHOICE.id]


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: 5\n",
        "apiVersion: v1\nkind: Service\nmetadata: [1]\nspec: {selector: [a]}\n",
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: s}\nsubsets: [{addresses: [{ip: x}, 5]}, 7]\n",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {labels: {a: 1}}\nendpoints: x\n",
        SLICE.replace("[192.0.2.8]", "5").replace("conditions: {ready: true}", "conditions: 7"),
    ],
)
def test_odd_objects_of_kubernetes_select_nobody(text: str) -> None:
    file: LoadedFile = load(text)
    assert file.ok, file.findings
    for item in file.objects:
        assert isinstance(item, Service | ServiceBackends)
        assert not (item.selector if isinstance(item, Service) else item.networks)


# Names


def test_names_open_their_addresses() -> None:
    """Z23."""
    selectors = ["{matchName: cilium.io}", "{matchPattern: '*cilium.io.'}", "{matchName: github.com}"]
    names = ["cilium.io", "awesomecilium.io", "github.com", "nomatch.local"]
    addresses = {f"192.0.2.{number}": (name,) for number, name in enumerate(names, 1)}
    texts = [
        policy(f"{A}egress: [{{toFQDNs: [{selector}]}}]", name=f"p{number}")
        for number, selector in enumerate(selectors)
    ]
    found = world(*texts, names=addresses)
    matcher = name_matcher(found.policy("a").egress)
    labels = [
        {text for group in matcher.groups(name) for text in found.snapshot.identities[group] if "fqdn" in text}
        for name in names
    ]
    assert labels == [{"fqdn:cilium.io=", "fqdn:*cilium.io.="}, {"fqdn:*cilium.io.="}, {"fqdn:github.com="}, set()]
    assert [found.out("a", f"192.0.2.{number}", "443/tcp") for number in range(1, 5)] == ["allow"] * 3 + ["deny"]


def test_a_name_opens_addresses_beside_what_they_are() -> None:
    names = dict.fromkeys(("192.0.2.7", "10.9.0.2"), ("a.example",))
    found = world(
        policy(f"{A}egress: [{{toFQDNs: [{{matchName: a.example}}]}}]"),
        policy("endpointSelector: {matchLabels: {id: bar}}\negress: [{toCIDR: [192.0.2.0/24]}]", name="q"),
        policy("endpointSelector: {matchLabels: {id: foo}}\negress: [{toEntities: [world]}]", name="r"),
        names=names,
    )
    assert found.out("bar", "192.0.2.7", "80/tcp") == "allow"
    assert found.out("foo", "192.0.2.7", "80/tcp") == "allow"
    assert found.out("a", "192.0.2.7", "80/tcp") == "allow"
    assert found.out("a", "192.0.2.8", "80/tcp") == "deny"
    # A pod stays a pod, whatever name a server gives its address.
    assert found.identity("10.9.0.2") == found.endpoint("foo").identity
    assert found.out("a", "foo", "80/tcp") == "deny"
    assert found.out("a", "10.9.0.2", "80/tcp") == "deny"


def test_deny_rules_for_addresses_are_stronger_than_names() -> None:
    found = world(
        policy(f"{A}egress: [{{toFQDNs: [{{matchName: a.example}}]}}]\negressDeny: [{{toCIDR: [192.0.2.8/29]}}]"),
        names={f"192.0.2.{number}": ("a.example",) for number in (7, 8)},
    )
    assert [found.out("a", f"192.0.2.{number}", "80/tcp") for number in (7, 8)] == ["allow", "deny"]


def test_nodes_by_their_labels() -> None:
    """N08."""
    pods = endpoints(
        "endpoints: [{name: a, labels: {id: a}, addresses: [10.9.0.1], interface: a0}]\n"
        "nodes: [{name: n1, labels: {zone: x}, addresses: [192.168.9.1]}, {name: n2, addresses: [192.168.9.2]}]\n"
    )
    found = world(policy(f"{A}ingress: [{{fromNodes: [{{matchLabels: {{zone: x}}}}]}}]"), pods=pods)
    assert [found.into("a", f"192.168.9.{number}", "80/tcp") for number in (1, 2)] == ["allow", "deny"]
    both = world(policy(f"{A}ingress: [{{fromNodes: [{{}}]}}]"), pods=pods)
    assert [both.into("a", f"192.168.9.{number}", "80/tcp") for number in (1, 2)] == ["allow", "allow"]
    entity = world(policy(f"{A}ingress: [{{fromEntities: [remote-node]}}]"), pods=pods)
    assert [entity.into("a", f"192.168.9.{number}", "80/tcp") for number in (1, 2)] == ["allow", "allow"]
    assert entity.into("a", "host", "22/tcp") == "allow"


def test_objects_given_twice() -> None:
    file = load(GROUP, GROUP)
    assert len(file.objects) == 2
    found = world(GROUP, GROUP.replace("192.0.2.0/24", "198.51.100.0/24"), from_group("{cidrGroupRef: partners}"))
    assert found.into("a", "192.0.2.1", "80/tcp") == "allow"
