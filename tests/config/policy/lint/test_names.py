"""Rules about DNS names and what they need beside them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from config import codes
from config.policy.resolved import DnsRule, FqdnPeer, HttpRule
from config.policy.rules import CidrBlock, Entity, Entry, PortSpec
from config.policy.selectors import equals, selector
from tests.config.policy.lint.builders import SUBJECT, TCP, UDP, a, document, entry, found, notes_about, notes_of

DNS = selector(equals("k8s:k8s-app", "kube-dns"))
API = FqdnPeer("api.example")
HTTPS = (PortSpec((TCP,), 443, 443),)
NO_DNS, NOT_ASKED, NO_PORTS, VOID, EGRESS = (
    codes.FQDN_NO_DNS.id,
    codes.FQDN_NOT_ASKED.id,
    codes.FQDN_NO_PORTS.id,
    codes.FQDN_VOID.id,
    codes.EGRESS_NO_DNS.id,
)


def dns(*rules: DnsRule) -> Entry:
    return entry(DNS, ports=(PortSpec((UDP, TCP), 53, 53),), l7=rules or None)


@pytest.mark.parametrize(
    ("names", "rules", "expected"),
    [
        ([API], None, [NO_DNS, EGRESS]),
        ([API], (), [NO_DNS]),
        ([API], (DnsRule(pattern="*"),), []),
        ([API], (DnsRule("api.example"),), []),
        ([API], (DnsRule(pattern="*.example"),), []),
        ([API], (DnsRule("www.example"),), [NOT_ASKED]),
        ([API], (DnsRule(pattern="*.other"),), [NOT_ASKED]),
        ([API, FqdnPeer("b.example")], (DnsRule("api.example"),), [NOT_ASKED]),
        ([API, FqdnPeer("b.example")], (DnsRule("api.example"), DnsRule("b.example")), []),
        ([FqdnPeer(pattern="*.example")], (DnsRule(pattern="*.example"),), []),
        ([FqdnPeer(pattern="*.example")], (DnsRule("api.example"),), [NOT_ASKED]),
        ([FqdnPeer(pattern="*.a.example")], (DnsRule(pattern="*.b.example"),), [NOT_ASKED]),
    ],
)
def test_names_need_dns_rules(names: list[FqdnPeer], rules: tuple[DnsRule, ...] | None, expected: list[str]) -> None:
    entries = [entry(*names, ports=HTTPS)] + ([dns(*rules)] if rules is not None else [])
    assert found(notes_about(document(*entries))) == expected


def test_which_name_is_missing() -> None:
    notes = notes_about(document(entry(API, FqdnPeer("b.example"), ports=HTTPS), dns(DnsRule("api.example"))))
    assert [note.path for note in notes] == [("spec", "egress", 0, "toFQDNs", 1)]


def test_dns_rules_of_other_policies_count_if_they_are_about_the_same_pods() -> None:
    policy = document(entry(API, ports=HTTPS))
    everybody = selector(equals("k8s:io.kubernetes.pod.namespace", "default"))
    rules = dns(DnsRule(pattern="*"))
    assert found(notes_about(policy, document(rules, name="q", subject=everybody))) == []
    other = selector(equals("id", "b"))
    assert found(notes_about(policy, document(rules, name="q", subject=other))) == [NO_DNS, EGRESS]


def test_names_on_all_ports() -> None:
    assert found(notes_about(document(entry(API), dns(DnsRule(pattern="*"))))) == [NO_PORTS]


@pytest.mark.parametrize(
    ("void", "other"),
    [
        (True, entry(Entity.WORLD)),
        (True, entry(Entity.WORLD, ports=HTTPS)),
        (True, entry(Entity.ALL, ports=HTTPS)),
        (True, entry(ports=HTTPS)),
        (True, entry(CidrBlock(ip_network("0.0.0.0/0")), ports=HTTPS)),
        (False, entry(Entity.WORLD, ports=(PortSpec((TCP,), 80, 80),))),
        (False, entry(Entity.WORLD, ports=HTTPS, l7=(HttpRule(),))),
        (False, entry(Entity.CLUSTER)),
        (False, entry(CidrBlock(ip_network("10.0.0.0/8")))),
        (False, entry(FqdnPeer("b.example"), ports=HTTPS)),
    ],
)
def test_names_beside_the_world(void: bool, other: Entry) -> None:
    notes = notes_about(document(entry(API, ports=HTTPS), other, dns(DnsRule(pattern="*"))))
    assert (VOID in found(notes)) is void


@pytest.mark.parametrize(
    ("told", "spec"),
    [
        (True, "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: '80'}]}]}]"),
        (True, "egress: [{toCIDR: [10.0.0.0/8], toPorts: [{ports: [{port: '53', protocol: SCTP}]}]}]"),
        (False, "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: '53', protocol: UDP}]}]}]"),
        (False, "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: '50', endPort: 60}]}]}]"),
        (False, "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: dns-udp, protocol: UDP}]}]}]"),
        (False, "egress: [{toEndpoints: [{}]}]"),
        # What denies everything is meant to.
        (False, "egress: [{}]"),
        (False, "egressDeny: [{toEntities: [world]}]"),
        (
            False,
            "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: '80'}]}]}]\nenableDefaultDeny: {egress: false}",
        ),
    ],
)
def test_egress_needs_dns(told: bool, spec: str) -> None:
    assert (EGRESS in found(notes_of(a(spec)))) is told


def test_the_subject_of_this_table_is_the_one_of_files() -> None:
    """Both builders speak about the same pods."""
    (note,) = notes_of(a("ingress: [{fromCIDR: [0.0.0.0/0]}]"))
    assert note.document.rules[0].subject == SUBJECT
