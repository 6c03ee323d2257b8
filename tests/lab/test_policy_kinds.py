"""Policies of every kind on real traffic, and the commands that tell about them, asking a real agent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.flows.model import Verdict
from tests.lab.support import Node, eventually

pytestmark = pytest.mark.lab

NETWORK_POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: more, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: stranger}}}]
    ports: [{port: 82}]
"""
TRIED_OUT = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: tried, namespace: shop, annotations: {policy.penstock.io/audit: "true"}}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints: [{matchLabels: {app: server}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: GET, path: /drip}]}
  egressDeny:
  - toPorts: [{ports: [{port: "81", protocol: TCP}]}]
"""
KAFKA = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: kafka, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - toPorts:
    - ports: [{port: "82", protocol: TCP}]
      rules: {kafka: [{role: produce, topic: orders}]}
"""

Add = Callable[[str], None]


@pytest.fixture
def added(policies: Path, node: Node) -> Iterator[Add]:
    """Puts a further policy file in force; it is gone afterwards."""
    file = policies / "more.yaml"

    def add(text: str) -> None:
        revision = node.revision()
        file.write_text(text, encoding="utf-8")
        eventually(lambda: node.revision() > revision)

    yield add
    revision = node.revision()
    file.unlink()
    eventually(lambda: node.revision() > revision)


def penstock(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", *arguments, "--socket", str(node.lab.agent.socket)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_network_policy_of_kubernetes(node: Node, added: Add) -> None:
    node.is_silent(82, source="shop/stranger")
    added(NETWORK_POLICY)
    with node.connection(82, source="shop/stranger") as connection:
        assert connection.getpeername()[1] == 82
    node.is_silent(82)


@pytest.mark.parametrize("ip", [4, 6])
def test_a_policy_that_is_only_tried_out_refuses_nothing_and_reports(node: Node, added: Add, ip: int) -> None:
    added(TRIED_OUT)
    with node.http(ip) as http:
        assert http.request("GET", "/public").status == 200
        flow = node.flow(http.local_port, lambda flow: flow.verdict is Verdict.AUDIT and flow.l7 is not None)
        assert flow.deciding is not None
        assert "/drip" in flow.deciding.reason
    with node.connection(81, ip) as connection:
        port = connection.getsockname()[1]
        connection.sendall(b"through")
        assert connection.recv(64) == b"through"
    assert node.flow(port, lambda flow: flow.verdict is Verdict.AUDIT)
    # What a policy in earnest refuses stays refused.
    node.is_silent(82, ip)


def test_kafka_rules_end_what_is_not_kafka(node: Node, added: Add) -> None:
    added(KAFKA)
    with pytest.raises(ConnectionError):
        _talk(node)


def _talk(node: Node) -> None:
    with node.connection(82) as connection:
        connection.sendall(b"\0\0\0\4abcd")
        if not connection.recv(64):
            raise ConnectionResetError


def test_explain_tells_what_the_traffic_sees(node: Node) -> None:
    asked = ("policy", "explain", "--from", "shop/client", "--to", "shop/server")
    for path, status in (("/public", 200), ("/secret", 403)):
        done = penstock(node, *asked, "--port", "80/tcp", "--http", f"GET {path}", "-o", "json")
        assert done.returncode == (0 if status == 200 else 3), done.stderr
        answer = json.loads(done.stdout)
        assert answer["verdict"] == ("allow" if status == 200 else "deny")
        assert answer["revision"] == node.revision()
        assert answer["ingress"]["l4"] == "redirect"
        with node.http() as http:
            assert http.request("GET", path).status == status
    closed = penstock(node, *asked, "--port", "82/tcp")
    assert closed.returncode == 3
    assert closed.stdout.startswith("DENIED")
    node.is_silent(82)


def test_selectors_and_wait(node: Node, added: Add) -> None:
    revision = node.revision()
    late = penstock(node, "policy", "wait", str(revision + 1), "--max-wait-time", "0.1")
    assert late.returncode == 1
    added(NETWORK_POLICY)
    assert penstock(node, "policy", "wait", str(revision + 1)).returncode == 0
    listed = json.loads(penstock(node, "policy", "selectors", "-o", "json").stdout)
    stranger = next(item for item in listed if "stranger" in item["selector"])
    assert stranger["labels"] == [{"kind": "NetworkPolicy", "namespace": "shop", "name": "more"}]
    assert len(stranger["identities"]) == 1
