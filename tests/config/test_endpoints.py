from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from config import codes
from config.endpoints import Node, load_endpoints, parse_endpoints
from config.findings import Code
from config.policy.resolved import ContainerPort, Protocol

FILE = """
cluster: east
namespaces: [{name: web, labels: {team: a}}]
endpoints:
- {name: frontend-0, namespace: web, labels: {app: frontend}, addresses: [10.9.1.5, "fd09::5"], interface: veth12,
   ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}], serviceAccount: sa}
- {name: db-0, addresses: [10.9.1.6], netns: /run/netns/db, audit: true}
nodes: [{name: n2, labels: {zone: a}, addresses: [192.0.2.9]}]
kubeApiServer: [192.0.2.10]
"""


def test_everything() -> None:
    file = parse_endpoints(FILE.encode(), "endpoints.yaml")
    assert file.ok
    database, frontend = file.endpoints
    assert (frontend.namespace, frontend.name, frontend.interface, frontend.netns) == (
        "web",
        "frontend-0",
        "veth12",
        "",
    )
    assert frontend.addresses == (ip_address("10.9.1.5"), ip_address("fd09::5"))
    assert frontend.ports == (ContainerPort("http", 80), ContainerPort("dns", 53, Protocol.UDP))
    assert "k8s:io.cilium.k8s.namespace.labels.team=a" in frontend.labels
    assert "k8s:io.cilium.k8s.policy.serviceaccount=sa" in frontend.labels
    assert "k8s:io.cilium.k8s.policy.cluster=east" in frontend.labels
    assert (database.namespace, database.netns, database.audit) == ("default", "/run/netns/db", True)
    assert "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=default" in database.labels
    assert file.nodes == (Node("n2", frozenset(("reserved:remote-node=", "node:zone=a")), (ip_address("192.0.2.9"),)),)
    assert file.api_servers == (ip_address("192.0.2.10"),)


def test_ids_depend_on_the_name_only() -> None:
    first = {item.name: item.id for item in parse_endpoints(FILE.encode(), "").endpoints}
    other = FILE.replace("10.9.1.6", "10.9.1.66") + "\n"
    more = other.replace("nodes:", "- {name: new, addresses: [10.9.1.7]}\nnodes:")
    second = {item.name: item.id for item in parse_endpoints(more.encode(), "").endpoints}
    assert first.items() <= second.items()
    assert len(set(second.values())) == 3
    assert all(1 <= number <= 65535 for number in second.values())


@pytest.mark.parametrize("text", ["", "# nothing", "{}", "endpoints: []"])
def test_nobody(text: str) -> None:
    file = parse_endpoints(text.encode(), "e.yaml")
    assert file.ok
    assert file.endpoints == ()


@pytest.mark.parametrize(
    ("text", "code", "line", "message"),
    [
        ("endpoints:\n- {name: x}", codes.EPF_SCHEMA, 2, '"addresses" is missing'),
        ("endpoints:\n- {name: x, addresses: [], adresses: []}", codes.EPF_SCHEMA, 2, 'unknown field "adresses"'),
        ("endpoints:\n- {name: 5, addresses: []}", codes.EPF_SCHEMA, 2, '"name" must be text, not the number 5'),
        ("endpoints: {}", codes.EPF_SCHEMA, 1, '"endpoints" must be a list, not a mapping'),
        ("[]", codes.EPF_SCHEMA, 1, "must be a mapping"),
        ("endpoints: []\n---\nendpoints: []", codes.EPF_SCHEMA, 3, "one document"),
        ("endpoints:\n- {name: x, addresses: [10.0.0.300]}", codes.EPF_ADDRESS, 2, '"10.0.0.300" is not an IP address'),
        ("endpoints:\n- {name: x, addresses: [10.0.0.1/32]}", codes.EPF_ADDRESS, 2, "not an IP address"),
        (
            "endpoints:\n- {name: x, addresses: [10.0.0.1]}\n- {name: y, addresses: [10.0.0.1]}",
            codes.EPF_DUPLICATE,
            3,
            'address "10.0.0.1" is given twice (first by default/x)',
        ),
        (
            "endpoints:\n- {name: x, addresses: [10.0.0.1]}\nnodes:\n- {addresses: [10.0.0.1]}",
            codes.EPF_DUPLICATE,
            4,
            "given twice",
        ),
        ("endpoints:\n- {name: x, addresses: []}\n- {name: x, addresses: []}", codes.EPF_DUPLICATE, 3, "default/x"),
        (
            "endpoints:\n- {name: x, interface: e, addresses: []}\n- {name: y, interface: e, addresses: []}",
            codes.EPF_DUPLICATE,
            3,
            'interface "e"',
        ),
        ("namespaces: [{name: a}, {name: a}]", codes.EPF_DUPLICATE, 1, 'namespace "a"'),
        ("endpoints:\n- {name: x, addresses: [], interface: e, netns: n}", codes.EPF_SCHEMA, 2, "exclude each other"),
        ("endpoints:\n- {name: x, addresses: [], interface: abcdefghijklmnop}", codes.EPF_SCHEMA, 2, "at most 15"),
        ('endpoints:\n- {name: x, addresses: [], labels: {"k8s:a": b}}', codes.EPF_LABEL, 2, "sources are added"),
        (
            "endpoints:\n- {name: x, addresses: [], ports: [{name: a, containerPort: 0}]}",
            codes.EPF_SCHEMA,
            2,
            "greater than or equal to 1",
        ),
        ("endpoints: [", codes.YAML_SYNTAX, 2, "not valid YAML"),
    ],
)
def test_what_is_wrong_is_located(text: str, code: Code, line: int, message: str) -> None:
    file = parse_endpoints((text + ("\n" if code is codes.YAML_SYNTAX else "")).encode(), "e.yaml")
    assert not file.ok
    assert file.endpoints == ()
    (finding,) = file.findings
    assert (finding.code, finding.line) == (code.id, line)
    assert message in finding.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (finding,) = load_endpoints(tmp_path / "e.yaml").findings
    assert finding.code == codes.FILE_UNREADABLE.id


@pytest.mark.parametrize(
    "text", ["127.0.0.1/31", "127.0.0.1/33", "127.0.0.1/32a", "127.0.0.1/ 32", "255.256.0.0", "128.0.0.0/0"]
)
def test_addresses_that_are_none(text: str) -> None:
    """I05; one that is given twice has a test of its own."""
    file = parse_endpoints(f'endpoints: [{{name: a, addresses: ["{text}"]}}]'.encode(), "e.yaml")
    assert [finding.code for finding in file.findings] == [codes.EPF_ADDRESS.id]
