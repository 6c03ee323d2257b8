"""Every policy file of the reference corpus loads, or is refused with a code. Says so when the corpus is not there."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from config import codes
from config.policy.load import LoadedFile, load_file
from config.policy.resolve import resolve
from config.settings import Settings
from tests.config.policy.builders import endpoints

CORPUS = Path(__file__).parents[3].parent / "shared" / "reference" / "corpus"

if not CORPUS.is_dir():
    if os.environ.get("CI") == "true":
        pytest.fail(f"the reference corpus is not at {CORPUS}", pytrace=False)
    pytest.skip(f"NOT TESTED: the reference corpus is not at {CORPUS}", allow_module_level=True)

FILES = sorted(path for path in CORPUS.rglob("*") if path.suffix in (".yaml", ".yml", ".json"))
REFERENCED = ("CiliumCIDRGroup", "Service", "Endpoints", "EndpointSlice")
NOT_ENFORCED = {code.id for code in codes.ALL.values() if code.id.startswith("CNP2") and code.severity == "error"}


def name(path: Path) -> str:
    return str(path.relative_to(CORPUS))


def has_placeholders(path: Path) -> bool:
    text = path.read_text()
    return "{{" in text or "NODE_WITHOUT_CILIUM_IP" in text


@pytest.mark.parametrize("path", FILES, ids=name)
def test_loads_or_is_refused_with_a_code(path: Path) -> None:
    file = load_file(path, name(path))
    assert {finding.code for finding in file.findings} <= set(codes.ALL)
    for finding in file.findings:
        assert finding.line > 0 or finding.code == codes.DOC_NONE.id
        assert finding.message
    # Nothing is passed over: an object is in force, refused with an error, or another kind with a note.
    noted = Counter(finding.code for finding in file.findings)[codes.DOC_OTHER_KIND.id]
    valid = sum(summary.valid for summary in file.summaries)
    referenced = sum(summary.kind in REFERENCED and summary.valid for summary in file.summaries)
    assert valid == len(file.documents) + noted + referenced
    assert file.ok == (all(summary.valid for summary in file.summaries) and not _broken(file))
    resolve(file.documents, endpoints(), Settings(), 1)


def _broken(file: LoadedFile) -> bool:
    return any(finding.code.startswith("YML") for finding in file.findings)


_TEMPLATES = "main/cilium-cli/connectivity/builder/manifests/template/testdata"
REFUSED_FOR_THEIR_CONTENT = {
    "history-2022-12/test/k8s/manifests/invalid_cnp.yaml": {codes.L7_PROTOCOL.id},
    # Fields that the rule schema has never had, or has no more.
    "main/examples/policies/auth/auth.yaml": {codes.SCHEMA_UNKNOWN.id},
    "main/examples/policies/l3/requires/requires.yaml": {codes.REQUIRES_REMOVED.id},
    "v1.0.0/examples/policies/getting-started/l7-policy.yaml": {codes.SCHEMA_UNKNOWN.id},
    "v1.0.0/examples/policies/l4/l3_l4_combined.yaml": {codes.SCHEMA_UNKNOWN.id},
    "v1.0.0/examples/policies/l7/http/http.yaml": {codes.SCHEMA_UNKNOWN.id},
    "v1.7.1/examples/policies/l3/requires/requires.yaml": {codes.REQUIRES_REMOVED.id},
    # Possible in some old version only.
    "v1.19-dev/test/k8s/manifests/kafka-sw-security-policy.yaml": {codes.KAFKA_DIRECTION.id},
    # Names with a final dot, which the agent of Cilium takes and its proxy refuses.
    f"{_TEMPLATES}/generate_dns_match_pattern/out-default.yaml": {codes.SERVER_NAME_BAD.id},
    f"{_TEMPLATES}/generate_dns_match_pattern/out.yaml": {codes.SERVER_NAME_BAD.id},
    "v1.7.1/test/k8sT/manifests/cnp-update-deny-ingress-labelled.yaml": {codes.SCHEMA_TYPE.id},
    # Once a way to say "allow all" and "nothing".
    "v1.7.1/test/k8sT/manifests/cnp-update-allow-all.yaml": {codes.RULE_NO_SECTIONS.id},
    "v1.7.1/test/k8sT/manifests/cnp-update-no-specs.yaml": {codes.RULE_EMPTY_OBJECT.id},
}
"""Files that are refused for another reason than what is not enforced. Templates and bare lists of rules aside."""

REFUSED_AS_NOT_ENFORCED = {
    codes.NOT_NODE_SELECTOR.id: 9,
    codes.NOT_L7PROTO.id: 2,
    codes.NOT_TLS.id: 1,
    codes.NOT_AUTHENTICATION.id: 5,
    codes.NOT_PROTOCOL.id: 1,
}
"""Code → files that are refused with it: host policies, generic parsers, TLS, authentication, other protocols."""


def test_nothing_is_refused_without_reason() -> None:
    refused: dict[str, set[str]] = {}
    for path in FILES:
        file = load_file(path, name(path))
        found = {finding.code for finding in file.findings if finding.is_error}
        found -= NOT_ENFORCED | {codes.DOC_RULE_LIST.id}
        if found and not has_placeholders(path):
            refused[name(path)] = found
    assert refused == REFUSED_FOR_THEIR_CONTENT


def test_what_is_not_enforced_is_refused() -> None:
    found: Counter[str] = Counter()
    for path in FILES:
        if not has_placeholders(path):
            found.update({item.code for item in load_file(path, name(path)).findings if item.is_error} & NOT_ENFORCED)
    assert found == REFUSED_AS_NOT_ENFORCED


def test_most_of_the_corpus_is_about_policies() -> None:
    kinds = Counter(item.kind for path in FILES for item in load_file(path).summaries)
    assert kinds["CiliumNetworkPolicy"] > 100
    assert kinds["CiliumClusterwideNetworkPolicy"] > 10
    assert kinds["NetworkPolicy"] > 5
    assert kinds["CiliumCIDRGroup"] > 0
