"""Whom rules are about."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from config import codes
from config.policy.references import references_of
from config.policy.rules import CidrGroup, Entry, GroupPeer, Service, ServicePeer
from tests.config.policy.builders import PODS, clusterwide
from tests.config.policy.lint.builders import a, document, entry, found, notes_about, notes_of


@pytest.mark.parametrize(
    ("told", "spec"),
    [
        (True, "egress: [{toCIDR: [0.0.0.0/0]}]"),
        (True, 'ingress: [{fromCIDRSet: [{cidr: "::/0", except: [fd00::/8]}]}]'),
        (False, "egress: [{toCIDR: [0.0.0.0/1]}]"),
        (False, "ingressDeny: [{fromCIDR: [0.0.0.0/0]}]"),
    ],
)
def test_every_address_is_no_pod(told: bool, spec: str) -> None:
    assert (codes.WORLD_CIDR.id in found(notes_of(a(spec)))) is told


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (True, clusterwide("endpointSelector: {}\ningress: [{}]")),
        (True, clusterwide("endpointSelector: {}\negress: [{toEntities: [cluster]}]")),
        (False, clusterwide("endpointSelector: {matchLabels: {app: a}}\ningress: [{}]")),
        (False, clusterwide("endpointSelector: {}\ningress: [{}]\nenableDefaultDeny: {ingress: false}")),
        (False, clusterwide("endpointSelector: {}\ningress: [{fromEntities: [all]}]")),
        (False, a("ingress: [{}]", subject="{}")),
    ],
)
def test_default_deny_for_everybody(told: bool, text: str) -> None:
    assert (codes.EVERYBODY_DENIED.id in found(notes_of(text))) is told


GROUP = CidrGroup("office", frozenset(("cidrgroup:site=a",)), (ip_network("10.0.0.0/8"),), "g.yaml", 1)
SERVICE = Service("shop", "db", frozenset(), None, "s.yaml", 1)


@pytest.mark.parametrize(
    ("peer", "known", "expected"),
    [
        (GroupPeer("office"), (GROUP,), []),
        (GroupPeer("home"), (GROUP,), [codes.GROUP_UNKNOWN.id]),
        (GroupPeer("home"), (), [codes.GROUP_UNKNOWN.id]),
        (ServicePeer("shop", "web"), (SERVICE,), [codes.SERVICE_UNKNOWN.id]),
        # Without any Service nobody meant to give them.
        (ServicePeer("shop", "web"), (GROUP,), []),
    ],
)
def test_references(peer: GroupPeer | ServicePeer, known: tuple[CidrGroup | Service, ...], expected: list[str]) -> None:
    rule: Entry = entry(peer)
    assert found(notes_about(document(rule), references=references_of(known)), but=[codes.EGRESS_NO_DNS.id]) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ingress: [{fromEndpoints: [{matchLabels: {id: foo}}]}]", []),
        ("ingress: [{fromEndpoints: [{matchLabels: {id: nobody}}]}]", [codes.PEER_NOBODY]),
        ("ingress: [{fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': x}}]}]", [codes.PEER_NOBODY]),
        ("ingress: [{fromEndpoints: [{matchLabels: {'reserved:host': ''}}]}]", []),
        ("ingress: [{fromEntities: [host]}]", []),
        ("ingress: [{fromCIDR: [10.9.0.0/16]}]", [codes.CIDR_OF_PODS]),
        ("ingress: [{fromCIDR: ['fd09::1']}]", [codes.CIDR_OF_PODS]),
        ("ingress: [{fromCIDR: [10.8.0.0/16]}]", []),
        ("ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}]}]", []),
        ("ingressDeny: [{fromCIDR: [10.9.0.0/16]}]", []),
        ("ingress: [{toPorts: [{ports: [{port: http, protocol: TCP}]}]}]", []),
        # `foo` has such a port, but the rule is about `a`.
        ("ingress: [{toPorts: [{ports: [{port: metrics}]}]}]", [codes.PORT_NOBODY]),
        ("ingress: [{toPorts: [{ports: [{port: dns, protocol: TCP}]}]}]", [codes.PORT_NOBODY]),
        ("ingress: [{toPorts: [{ports: [{port: dns}]}]}]", []),
        ("egress: [{toPorts: [{ports: [{port: dns}]}]}]", []),
        ("egress: [{toPorts: [{ports: [{port: dnsx}]}]}]", [codes.PORT_NOBODY]),
    ],
)
def test_with_endpoints(spec: str, expected: list[object]) -> None:
    assert found(notes_of(a(spec), pods=PODS)) == [code.id for code in expected]  # type: ignore[attr-defined]
    assert found(notes_of(a(spec))) == []


def test_a_subject_that_is_not_there() -> None:
    notes = notes_of(a("ingress: [{}]", subject="{matchLabels: {id: nobody}}"), pods=PODS)
    assert [(note.code, note.path) for note in notes] == [(codes.SUBJECT_NOBODY, ("spec", "endpointSelector"))]
    assert found(notes_of(a("ingress: [{}]", subject="{matchLabels: {'reserved:init': ''}}"), pods=PODS)) == []
