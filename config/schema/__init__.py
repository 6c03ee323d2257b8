"""The JSON Schema of policy files, for editors: made from the models that the loader itself uses.

`python -m config.schema` prints it; `policy.schema.json` beside this file is what it prints. A schema knows the form
only: what rules mean, and what is not enforced, is said by `penstock policy validate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from config.policy.kubernetes import NetworkPolicy
from config.policy.model import PolicyObject
from config.policy.objects import CidrGroupObject
from config.schema.descriptions import FIELDS

Json = dict[str, Any]

COMMITTED = Path(__file__).with_name("policy.schema.json")
DIALECT = "http://json-schema.org/draft-07/schema#"
"""What editors understand best; nothing newer is needed."""

KINDS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("cilium.io/v2", "CiliumNetworkPolicy", PolicyObject),
    ("cilium.io/v2", "CiliumClusterwideNetworkPolicy", PolicyObject),
    ("cilium.io/v2", "CiliumCIDRGroup", CidrGroupObject),
    ("networking.k8s.io/v1", "NetworkPolicy", NetworkPolicy),
)
"""Each kind of object that a policy file may hold: apiVersion, kind, model."""


def policy_schema() -> Json:
    """One object of a policy file: any of the kinds, or a List of them."""
    definitions: Json = {}
    choices = [_kind(api_version, kind, model, definitions) for api_version, kind, model in KINDS]
    definitions["List"] = _list(choices)
    for name, definition in definitions.items():
        _describe(definition, name)
    return {
        "$schema": DIALECT,
        "title": "Policies that Penstock enforces",
        "oneOf": [*choices, {"$ref": "#/definitions/List"}],
        "definitions": dict(sorted(definitions.items())),
    }


def _kind(api_version: str, kind: str, model: type[BaseModel], definitions: Json) -> Json:
    whole = model.model_json_schema(by_alias=True, ref_template="#/definitions/{model}")
    definitions.update(whole.pop("$defs", {}))
    properties = {**whole["properties"], "apiVersion": {"const": api_version}, "kind": {"const": kind}}
    definitions[kind] = {**whole, "properties": properties}
    return {"$ref": f"#/definitions/{kind}"}


def _list(choices: list[Json]) -> Json:
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"const": "v1"},
            "kind": {"const": "List"},
            "items": {"type": "array", "items": {"oneOf": choices}},
        },
        "required": ["apiVersion", "kind", "items"],
    }


def _describe(definition: Json, name: str) -> None:
    """Our words instead of the models': those are about code."""
    definition.pop("title", None)
    definition.pop("description", None)
    for key, value in definition.get("properties", {}).items():
        for word in ("title", "default"):
            value.pop(word, None)
        text = FIELDS.get(f"{name}.{key}") or FIELDS.get(key)
        if text:
            value["description"] = text
