"""The committed JSON Schema is what the models say, and accepts what the loader accepts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from config.policy.load import parse_file
from config.schema import COMMITTED, policy_schema
from config.schema.descriptions import FIELDS

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "config" / "examples").glob("*/policies.yaml"))

GOOD = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p}
spec: {endpointSelector: {}, ingress: [{fromEntities: [world]}]}
"""


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema = policy_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_the_committed_file_is_fresh() -> None:
    """`python -m config.schema > config/schema/policy.schema.json` makes it so."""
    printed = subprocess.run([sys.executable, "-m", "config.schema"], cwd=ROOT, capture_output=True, check=True).stdout
    assert COMMITTED.read_bytes() == printed
    assert json.loads(printed) == policy_schema()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_are_accepted(validator: Draft7Validator, path: Path) -> None:
    documents = [item for item in yaml.safe_load_all(path.read_text()) if item is not None]
    assert documents
    for document in documents:
        assert [error.message for error in validator.iter_errors(document)] == []
    assert list(validator.iter_errors({"apiVersion": "v1", "kind": "List", "items": documents})) == []


@pytest.mark.parametrize(
    ("good", "old", "new"),
    [
        (True, "", ""),
        (True, "kind: CiliumNetworkPolicy", "kind: CiliumClusterwideNetworkPolicy"),
        (True, "ingress: [{fromEntities: [world]}]", "ingress: null, egress: [{}]"),
        (False, "fromEntities", "fromEntity"),
        (False, "[world]", "world"),
        (False, "fromEntities", "toEntities"),
        (False, "{name: p}", "{}"),
        (False, "cilium.io/v2", "cilium.io/v1"),
        (False, "kind: CiliumNetworkPolicy", "kind: CiliumNetworkPolice"),
        (False, "ingress: [{", "ingressDeny: [{authentication: {mode: disabled}, "),
    ],
)
def test_it_judges_as_the_loader_does(validator: Draft7Validator, good: bool, old: str, new: str) -> None:
    text = GOOD.replace(old, new) if old else GOOD
    assert validator.is_valid(yaml.safe_load(text)) is good
    assert parse_file(text.encode(), "p.yaml").ok is good


def test_descriptions_are_of_fields_that_there_are() -> None:
    definitions = policy_schema()["definitions"]
    fields = {key for item in definitions.values() for key in item.get("properties", {})}
    whole = {f"{name}.{key}" for name, item in definitions.items() for key in item.get("properties", {})}
    assert set(FIELDS) - fields - whole - {"podSelector"} == set()
