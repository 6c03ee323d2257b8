"""The table of requests, next to the schemas that we have, the policy language's names, and what clients send."""

from __future__ import annotations

import importlib.resources
import json

from config.policy.kafka_apis import ALWAYS, API_KEYS, API_NAMES, ROLES, WITH_TOPICS
from parsers.kafka import schemas
from parsers.kafka.apis import APIS
from parsers.kafka.codecs import classes, shape
from parsers.kafka.errors import _LAYOUTS
from parsers.kafka.topics import CONFIGS
from tests.parsers.kafka.captures import exchanges
from tests.parsers.kafka.oracle import messages


def test_names_are_those_of_the_policy_language() -> None:
    for key, api in APIS.items():
        assert API_NAMES[key] == api.name
        assert API_KEYS[api.name.lower()] == key


def test_versions_are_in_a_row() -> None:
    for api in APIS.values():
        assert 0 <= api.lowest <= api.highest
        assert api.flexible >= 0


def test_schemas_of_our_own_are_all_used_and_whole() -> None:
    """A request and an answer each, with the same versions; kafka-python has none of them."""
    found = {}
    for file in importlib.resources.files(schemas).iterdir():
        if file.name.endswith(".json"):
            lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("//")]
            schema = json.loads("\n".join(lines))
            found[schema["apiKey"], schema["type"]] = schema
            assert file.name == schema["name"] + ".json"
    for (key, kind), schema in found.items():
        assert key in APIS
        assert key not in messages(kind)
        used = classes()[key, kind].json
        assert {name: used[name] for name in ("name", "validVersions", "flexibleVersions")} == {
            name: schema[name] for name in ("name", "validVersions", "flexibleVersions")
        }
        other = found[key, "response" if kind == "request" else "request"]
        assert schema["validVersions"] == other["validVersions"]


def test_what_roles_stand_for_can_be_read() -> None:
    for role in (*ROLES.values(), ALWAYS, WITH_TOPICS):
        assert role <= set(APIS)


def test_what_clients_have_sent_can_be_read() -> None:
    for item in exchanges():
        api = APIS[item.key]
        assert api.lowest <= item.version <= api.highest, api


def test_rules_have_a_say_on_what_has_topics() -> None:
    with_topics = {
        key
        for key, api in APIS.items()
        if any(shape(key, "request", version).has_topics for version in range(api.lowest, api.highest + 1))
    }
    assert with_topics | CONFIGS == WITH_TOPICS
    assert not with_topics & CONFIGS


def test_errors_of_all_answers_are_found() -> None:
    assert set(_LAYOUTS) == set(APIS)
