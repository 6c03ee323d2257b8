"""Where findings of lints stand, and which ones a policy does not want."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.findings import Finding
from config.policy.validate import validate
from tests.config.policy.builders import PODS, policy
from tests.config.policy.lint.builders import a, http

TEXT = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: p
spec:
  endpointSelector: {}
  ingress:
  - fromCIDR:
    - 10.0.0.0/8
  - toPorts:
    - ports:
      - port: "80"
        protocol: TCP
      rules:
        http:
        - path: /.*
        - method: get
          host: a.example
"""


def findings(folder: Path, text: str, **options: object) -> list[Finding]:
    path = folder / "p.yaml"
    path.write_text(text)
    return [item for file in validate([path], lint=True, **options).files for item in file.findings]  # type: ignore[arg-type]


def places(found: list[Finding]) -> list[tuple[str, int, int, str]]:
    return [(item.code, item.line, item.column, item.path) for item in found]


def test_lines_columns_and_paths(tmp_path: Path) -> None:
    where = "spec.ingress[1].toPorts[0].rules.http[1]"
    assert places(findings(tmp_path, TEXT)) == [
        ("CNP324", 17, 19, f"{where}.method"),
        ("CNP321", 18, 17, f"{where}.host"),
    ]


def test_items_of_a_list(tmp_path: Path) -> None:
    indented = TEXT.replace("\n", "\n  ")
    found = findings(tmp_path, f"apiVersion: v1\nkind: List\nitems:\n- {indented}\n")
    assert [item[1:3] for item in places(found)] == [(20, 21), (21, 19)]


def test_json_on_one_line(tmp_path: Path) -> None:
    item = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {"endpointSelector": {}, "egress": [{"toCIDR": ["0.0.0.0/0"]}]},
    }
    named = [{**item, "metadata": {"name": name}} for name in "pq"]
    found = findings(tmp_path, json.dumps({"apiVersion": "v1", "kind": "List", "items": named}))
    columns = [column for code, _, column, _ in places(found) if code == "CNP334"]
    assert len(set(columns)) == 2


def test_what_a_path_does_not_lead_to_is_found_as_near_as_possible(tmp_path: Path) -> None:
    text = policy("endpointSelector: {}\ningress:\n- fromEntities: [kube-dns]")
    pods = PODS.replace("k8s-app: kube-dns", "k8s-app: other")
    (tmp_path / "pods.yaml").write_text(pods)
    found = findings(tmp_path, text, endpoints=[tmp_path / "pods.yaml"])
    assert ("CNP339", 7, 5, "spec.ingress[0]") in places(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("CNP321", ["CNP324"]),
        ("CNP321,CNP324", []),
        (" CNP321 , CNP324 ", []),
        ("CNP999", ["CNP324", "CNP321"]),
        ("", ["CNP324", "CNP321"]),
    ],
)
def test_annotations_silence_warnings_of_their_policy(tmp_path: Path, value: str, expected: list[str]) -> None:
    noted = TEXT.replace("name: p\n", f'name: p\n  annotations: {{policy.penstock.io/ignore: "{value}"}}\n')
    assert [item.code for item in findings(tmp_path, noted)] == expected
    other = TEXT.replace("name: p", "name: q").replace(
        "endpointSelector: {}", "endpointSelector: {matchLabels: {a: b}}"
    )
    both = [item.code for item in findings(tmp_path, f"{noted}---\n{other}") if item.code != "CNP320"]
    assert both == [*expected, "CNP324", "CNP321"]


def test_warnings_of_the_reader_too_but_never_errors(tmp_path: Path) -> None:
    ignore = "annotations: {policy.penstock.io/ignore: 'CNP301,CNP112'}, "
    warned = a("ingress: []").replace("name: p", f"{ignore}name: p")
    assert findings(tmp_path, warned) == []
    wrong = a("ingress: [{fromEntities: [moon]}]").replace("name: p", f"{ignore}name: p")
    assert [item.code for item in findings(tmp_path, wrong)] == ["CNP112"]


@pytest.mark.parametrize("value", ["[CNP301]", "5", "null", "{a: b}"])
def test_annotations_that_are_no_text(tmp_path: Path, value: str) -> None:
    text = a("ingress: []").replace("name: p", f"annotations: {{policy.penstock.io/ignore: {value}}}, name: p")
    assert {item.code for item in findings(tmp_path, text)} <= {"CNP301", "CNP003"}


def test_other_files_are_compared(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(a(f"ingress: [{http()}]"))
    (tmp_path / "b.yaml").write_text(a("ingress: [{toPorts: [{ports: [{port: '80'}]}]}]", name="q"))
    first, second = validate([tmp_path], lint=True).files
    assert [item.code for item in first.findings] == ["CNP320"]
    assert f"default/q ingress[0] ({tmp_path / 'b.yaml'}:6)" in first.findings[0].message
    assert second.findings == ()


def test_of_two_documents_about_one_object_the_first_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(a("ingress: [{fromEntities: [host]}]"))
    (tmp_path / "b.yaml").write_text(a("ingress: [{fromCIDR: [0.0.0.0/0]}]"))
    codes = [item.code for file in validate([tmp_path], lint=True).files for item in file.findings]
    assert codes == ["DOC003"]
