"""Tables of expected verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import codes
from config.findings import Finding
from config.policy.offline import read_files
from config.settings import Settings
from proxy.cases import Case, read_cases, run_cases

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: cart, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: cart}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: front}}]
    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET, path: "/items.*"}]}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: front}}
  egress:
  - toFQDNs: [{matchName: api.example.com}]
  - toEndpoints: [{}]
"""
PODS = """\
endpoints:
- {name: front, namespace: shop, labels: {app: front}, addresses: [10.0.0.1]}
- {name: cart, namespace: shop, labels: {app: cart}, addresses: [10.0.0.2]}
"""
TABLE = """\
cases:
- {name: list, from: shop/front, to: shop/cart, port: 80/tcp, http: GET /items, expect: allow, by: cart}
- {from: shop/front, to: shop/cart, port: 80/tcp, http: PUT /items, expect: deny}
- {from: app=front, namespace: shop, to: shop/cart, port: 80/tcp, http: GET /items, expect: allow}
- from: shop/front
  to: api.example.com
  names: [api.example.com=192.0.2.7]
  port: 443/tcp
  expect: allow
  by: names
- {from: shop/front, to: 192.0.2.7, port: 443/tcp, expect: deny}
- {name: wrong, from: shop/cart, to: shop/front, port: 80/tcp, expect: deny}
- {name: other policy, from: shop/front, to: shop/cart, port: 80/tcp, http: GET /items, expect: allow, by: else}
- {name: nobody, from: shop/nobody, to: shop/cart, port: 80/tcp, expect: deny}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("policy.yaml", POLICY), ("pods.yaml", PODS), ("cases.yaml", TABLE)):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_rows(folder: Path) -> None:
    cases = [item for item in read_cases(folder / "cases.yaml") if isinstance(item, Case)]
    files = read_files((folder / "policy.yaml",), (folder / "pods.yaml",))
    results = list(run_cases(cases, files, Settings()))
    assert [result.ok for result in results] == [True] * 5 + [False] * 3
    assert [result.fault for result in results[5:]] == [
        "expected deny, seen allow",
        "decided by cart, names, not else",
        "--from: there is no pod nobody in namespace shop; pods there: cart, front",
    ]
    assert cases[0].line == 2
    assert cases[1].name == "shop/front -> shop/cart 80/tcp PUT /items"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("cases: []", 1, "cases"),
        ("cases:\n- {from: a, to: b, expect: maybe}", 2, "allow"),
        ("cases:\n- {from: a, too: b, to: c, expect: deny}", 2, "too"),
        ("cases:\n- {from: a, expect: deny}", 2, "to"),
        ("cases: [", 1, ""),
        ("", 0, "no cases"),
        ("- 1", 1, ""),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text(text)
    (finding,) = read_cases(path)
    assert isinstance(finding, Finding)
    assert finding.code in (codes.CASE_SCHEMA.id, codes.YAML_SYNTAX.id)
    assert finding.line >= line
    assert message in finding.message
