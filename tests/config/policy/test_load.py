from __future__ import annotations

import os
from pathlib import Path

import pytest

from config import codes
from config.findings import Code
from config.policy.load import Summary, duplicates, load_file, parse_file
from config.text import MAX_FILE_BYTES
from tests.config.policy.builders import codes_of, load, policy

RULE = "endpointSelector: {}\ningress: [{fromEntities: [world]}]"
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"


def test_several_documents_of_several_kinds() -> None:
    file = load(policy(RULE, name="one"), CONFIG_MAP, policy(RULE, name="two", namespace="web"))
    assert file.ok
    assert [(document.namespace, document.name, document.line) for document in file.documents] == [
        ("default", "one", 1),
        ("web", "two", 14),
    ]
    assert file.summaries[1] == Summary("ConfigMap", "", "x", True, 9)
    assert codes_of(file.findings) == [codes.DOC_OTHER_KIND.id]


def test_a_list_of_objects() -> None:
    item = policy(RULE).replace("\n", "\n  ")
    file = load(f"apiVersion: v1\nkind: List\nitems:\n- {item}")
    assert [document.name for document in file.documents] == ["p"]
    typed = load(f"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicyList\nitems:\n- {item}")
    assert typed.documents[0].rules == file.documents[0].rules


def test_json() -> None:
    text = '{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "p"},\n "spec": {'
    good = parse_file((text + '"endpointSelector": {}, "ingress": [{"fromEntities": ["world"]}]}}').encode(), "p.json")
    assert good.ok
    bad = parse_file((text + '"endpointSelector": {}, "ingress": [{"fromEntities": ["moon"]}]}}').encode(), "p.json")
    assert [(finding.code, finding.line) for finding in bad.findings] == [(codes.ENTITY_UNKNOWN.id, 2)]


def test_one_bad_document_does_not_hide_the_others() -> None:
    file = load(policy(RULE, name="one"), policy("endpointSelector: 1"), policy(RULE, name="two"))
    assert [document.name for document in file.documents] == ["one", "two"]
    assert [summary.valid for summary in file.summaries] == [True, False, True]
    assert len(file.lockdowns) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("just words", codes.DOC_NOT_OBJECT),
        ("a: b", codes.DOC_NOT_OBJECT),
        ("kind: 5\napiVersion: v1", codes.DOC_NOT_OBJECT),
        ("- endpointSelector: {}\n  ingress: [{}]", codes.DOC_RULE_LIST),
        ("apiVersion: v1\nkind: List\n", codes.DOC_NOT_OBJECT),
        ("apiVersion: cilium.io/v3\nkind: CiliumNetworkPolicy\n", codes.DOC_API_VERSION),
        ("kind: CiliumNetworkPolicy\n", codes.DOC_API_VERSION),
        ("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolcy\n", codes.DOC_MISSPELT),
        ("apiVersion: v1\nkind: NetworkPolicy\n", codes.DOC_MISSPELT),
        ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n", codes.SCHEMA_MISSING),
        ("apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\n", codes.SCHEMA_MISSING),
        ("apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n", codes.NOT_TIERED),
        ("a: [", codes.YAML_SYNTAX),
    ],
)
def test_documents_that_are_refused(text: str, code: Code) -> None:
    file = load(text)
    assert set(codes_of(file.findings)) == {code.id}
    assert not file.ok


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: cilium.io/v2\nkind: CiliumEndpoint\n",
        "apiVersion: cilium.io/v2\nkind: CiliumEgressGatewayPolicy\n",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n",
        "apiVersion: apps/v1\nkind: Deployment\n",
    ],
)
def test_other_objects_are_passed_over_with_a_note(text: str) -> None:
    file = load(text)
    assert codes_of(file.findings) == [codes.DOC_OTHER_KIND.id]
    assert file.ok
    assert not file.lockdowns


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n"])
def test_an_empty_file_is_told(text: str) -> None:
    assert codes_of(load(text).findings) == [codes.DOC_NONE.id]


def test_the_first_of_two_objects_counts() -> None:
    files = [parse_file(policy(RULE).encode(), name) for name in ("b.yaml", "a.yaml")]
    ((document, finding),) = duplicates(files)
    assert document is files[0].documents[0]
    assert (finding.file, finding.code, finding.message) == (
        "b.yaml",
        codes.DOC_DUPLICATE.id,
        "CiliumNetworkPolicy default/p exists already (a.yaml:1)",
    )


def test_a_file_too_large(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    assert codes_of(load_file(path).findings) == [codes.YAML_SIZE.id]
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    assert load_file(path).ok


@pytest.mark.parametrize("kind", ["fifo", "folder", "missing", "dangling"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.yaml"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
    (finding,) = load_file(path).findings
    wanted = codes.FILE_UNREADABLE if kind in ("missing", "dangling") else codes.FILE_NOT_REGULAR
    assert finding.code == wanted.id
    assert finding.file == str(path)
