"""Policies as introductions to the language use them, with everything that they rely on; see config/examples, too."""

from __future__ import annotations

import pytest

from config import codes
from config.policy.decide import Denied, Inspect
from config.policy.requests import L7Facts, judge
from config.policy.resolve import resolve
from config.policy.resolved import Direction
from config.settings import Settings
from parsers.facts import DnsQuery, KafkaRequest
from tests.config.policy.builders import World, codes_of, endpoints, http_request, load, policy

PODS = """
endpoints:
- {name: broker, namespace: kafka, labels: {app: broker}, addresses: [10.9.0.1], interface: k0}
- {name: orders, namespace: kafka, labels: {app: orders}, addresses: [10.9.0.2], interface: o0}
- {name: stock, namespace: kafka, labels: {app: stock}, addresses: [10.9.0.3], interface: s0}
- {name: logs, namespace: kafka, labels: {app: logs}, addresses: [10.9.0.4], interface: l0}
- {name: bill, namespace: billing, labels: {app: bill}, addresses: [10.9.0.5], interface: b0}
- {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}, addresses: [10.9.0.53], interface: d0}
"""
KAFKA = policy(
    """
endpointSelector: {matchLabels: {app: broker}}
ingress:
- fromEndpoints: [{matchLabels: {app: orders}}]
  toPorts: [{ports: [{port: "9092", protocol: TCP}], rules: {kafka: [{role: produce, topic: new-orders}]}}]
- fromEndpoints: [{matchLabels: {app: stock}}]
  toPorts: [{ports: [{port: "9092", protocol: TCP}], rules: {kafka: [{role: consume, topic: new-orders}]}}]
""",
    namespace="kafka",
)
BILLING = policy(
    """
endpointSelector: {matchLabels: {app: bill}}
egress:
- toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, "k8s:k8s-app": kube-dns}}]
  toPorts: [{ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchPattern: "*"}]}}]
- toFQDNs: [{matchName: api.payments.example}]
  toPorts: [{ports: [{port: "443", protocol: TCP}]}]
""",
    namespace="billing",
)
GRPC = policy(
    """
endpointSelector: {matchLabels: {app: broker}}
ingress:
- fromEndpoints: [{matchLabels: {app: orders}}]
  toPorts:
  - ports: [{port: "50051", protocol: TCP}]
    rules: {http: [{method: POST, path: /com.example.Catalog/GetProduct}]}
""",
    namespace="kafka",
)


def world(*texts: str) -> World:
    file = load(*texts)
    assert file.ok, file.findings
    names = {"198.51.100.30": ("api.payments.example",)}
    return World(resolve(file.documents, endpoints(PODS), Settings(), 1), names)


def permits(found: World, subject: str, peer: str, port: str, direction: Direction, request: L7Facts | None) -> bool:
    decision = found.ask(subject, peer, port, direction)
    if isinstance(decision, Inspect):
        return request is not None and judge(decision.rules, request) is not None
    return not isinstance(decision, Denied)


@pytest.mark.parametrize(
    ("peer", "request_", "permitted"),
    [
        ("kafka/orders", KafkaRequest(0, topics=("new-orders",)), True),
        ("kafka/orders", KafkaRequest(1, topics=("new-orders",)), False),
        ("kafka/orders", KafkaRequest(0, topics=("secrets",)), False),
        ("kafka/stock", KafkaRequest(1, topics=("new-orders",)), True),
        ("kafka/stock", KafkaRequest(0, topics=("new-orders",)), False),
        ("kafka/logs", KafkaRequest(0, topics=("new-orders",)), False),
    ],
)
def test_kafka(peer: str, request_: KafkaRequest, permitted: bool) -> None:
    assert permits(world(KAFKA), "kafka/broker", peer, "9092/tcp", Direction.INGRESS, request_) is permitted


@pytest.mark.parametrize(
    ("peer", "port", "request_", "permitted"),
    [
        ("kube-system/dns", "53/udp", DnsQuery("api.payments.example"), True),
        ("kube-system/dns", "53/tcp", DnsQuery("api.payments.example"), False),
        ("198.51.100.30", "443/tcp", None, True),
        ("198.51.100.30", "80/tcp", None, False),
        ("198.51.100.31", "443/tcp", None, False),
        ("kafka/broker", "443/tcp", None, False),
    ],
)
def test_one_name_outside(peer: str, port: str, request_: L7Facts | None, permitted: bool) -> None:
    assert permits(world(BILLING), "billing/bill", peer, port, Direction.EGRESS, request_) is permitted


@pytest.mark.parametrize(("method", "permitted"), [("GetProduct", True), ("UpdateStock", False)])
def test_grpc(method: str, permitted: bool) -> None:
    request = http_request(f"POST /com.example.Catalog/{method}")
    assert permits(world(GRPC), "kafka/broker", "kafka/orders", "50051/tcp", Direction.INGRESS, request) is permitted


def test_cluster_dns_or_names_in_one_entry() -> None:
    """Cilium takes neither the entity nor the two kinds of peers together."""
    ports = 'toPorts: [{ports: [{port: "53", protocol: UDP}]}]'
    text = policy(
        "endpointSelector: {}\negress:\n- toEntities: [kube-dns]\n"
        f"  toFQDNs: [{{matchName: api.payments.example}}]\n  {ports}",
        namespace="billing",
    )
    warned = {codes.KUBE_DNS_ENTITY.id, codes.FQDN_WITH_ENTITIES.id}
    assert set(codes_of(load(text).findings)) == warned
    found = world(text)
    for peer, wanted in (("kube-system/dns", "allow"), ("198.51.100.30", "allow"), ("198.51.100.31", "deny")):
        assert found.out("billing/bill", peer, "53/udp") == wanted, peer


def test_http_rules_behind_a_name() -> None:
    text = policy(
        "endpointSelector: {}\negress:\n- toFQDNs: [{matchName: api.payments.example}]\n"
        '  toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET, path: /}]}}]',
        namespace="billing",
    )
    found = world(text)
    for request, wanted in (("GET /", True), ("GET /x", False), ("POST /", False)):
        asked = http_request(request)
        assert permits(found, "billing/bill", "198.51.100.30", "80/tcp", Direction.EGRESS, asked) is wanted
