"""Which topics a request is about: each kind of request in each version, real ones, and those that are about all."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from config.policy.kafka_apis import WITH_TOPICS
from parsers.errors import ParseError
from parsers.kafka.apis import APIS
from parsers.kafka.codecs import build, encode_request_body, request_class
from parsers.kafka.topics import SHARE_STATE, Named, named_topics
from tests.parsers.kafka.captures import requests

A, B, C = (uuid.UUID(int=number) for number in (1, 2, 3))
NAMES = ("a", "b", "a", "c")
"""`a` twice: it is named once."""
IDS = (A, B, A, C)
DESCRIBE_QUORUM = 55
"""Of the one topic in which servers keep what they know of themselves."""

Fields = Mapping[str, Any]


def named(key: int, version: int, **fields: Any) -> Named | None:
    return named_topics(key, version, encode_request_body(build("request", key, version, **fields)))


def versions(key: int, first: int = 0, last: int = 99) -> range:
    return range(max(first, APIS[key].lowest), min(last, APIS[key].highest) + 1)


def by_name(field: str = "name", **more: Any) -> list[dict[str, Any]]:
    return [{field: name, **more} for name in NAMES]


def by_id(**more: Any) -> list[dict[str, Any]]:
    return [{"topic_id": topic, **more} for topic in IDS]


def config(kind: int, name: str) -> dict[str, Any]:
    return {"resource_type": kind, "resource_name": name}


BY_NAME: dict[tuple[int, int, int], Fields] = {
    (0, 0, 12): {"topic_data": by_name(partition_data=[{"index": 0, "records": b"r"}])},
    (1, 0, 12): {"topics": by_name("topic", partitions=[{"partition": 0}])},
    (2, 0, 99): {"topics": by_name(partitions=[{"partition_index": 0}])},
    (3, 0, 99): {"topics": by_name()},
    (8, 0, 9): {"topics": by_name(partitions=[{"partition_index": 0, "committed_metadata": "not-a-topic"}])},
    (9, 0, 7): {"topics": by_name(partition_indexes=[0])},
    (9, 8, 9): {
        "groups": [{"group_id": "g", "topics": by_name(partition_indexes=[0])}, {"group_id": "h", "topics": []}]
    },
    (19, 0, 99): {"topics": by_name(configs=[{"name": "not-a-topic", "value": "x"}])},
    (20, 0, 5): {"topic_names": list(NAMES)},
    (20, 6, 99): {"topics": by_name()},
    (21, 0, 99): {"topics": by_name(partitions=[{"partition_index": 0}])},
    (23, 0, 99): {"topics": by_name("topic", partitions=[{"partition": 0}])},
    (24, 0, 3): {"v3_and_below_topics": by_name(partitions=[0])},
    (24, 4, 99): {"transactions": [{"topics": by_name(partitions=[0])[:2]}, {"topics": by_name(partitions=[1])[2:]}]},
    (27, 0, 99): {"markers": [{"topics": by_name(partition_indexes=[0])}]},
    (28, 0, 99): {"topics": by_name(partitions=[{"partition_index": 0, "committed_metadata": "not-a-topic"}])},
    (32, 0, 99): {"resources": [{**config(2, name), "configuration_keys": ["not-a-topic"]} for name in NAMES]},
    (33, 0, 99): {"resources": [{**config(2, name), "configs": [{"name": "not", "value": "x"}]} for name in NAMES]},
    (34, 0, 99): {"dirs": [{"path": "/not", "topics": by_name(partitions=[0])}]},
    (35, 0, 99): {"topics": by_name("topic", partitions=[0])},
    (37, 0, 99): {"topics": by_name(count=3, assignments=None)},
    (43, 0, 99): {"topic_partitions": by_name("topic", partitions=[0])},
    (44, 0, 99): {"resources": [{**config(2, name), "configs": []} for name in NAMES]},
    (45, 0, 99): {"topics": by_name(partitions=[{"partition_index": 0, "replicas": None}])},
    (46, 0, 99): {"topics": by_name(partition_indexes=[0])},
    (47, 0, 99): {"group_id": "not", "topics": by_name(partitions=[{"partition_index": 0}])},
    (DESCRIBE_QUORUM, 0, 99): {"topics": by_name("topic_name", partitions=[{"partition_index": 0}])},
    (61, 0, 99): {"topics": by_name(partition_indexes=[0])},
    (68, 0, 99): {
        "subscribed_topic_names": list(NAMES),
        "topic_partitions": [{"topic_id": uuid.UUID(int=9), "partitions": [0]}],
    },
    (75, 0, 99): {"topics": by_name()[:3], "cursor": {"topic_name": "c", "partition_index": 0}},
    (76, 0, 99): {"subscribed_topic_names": list(NAMES)},
    (88, 0, 99): {
        "topology": {
            "subtopologies": [
                {
                    "subtopology_id": "not",
                    "source_topics": ["a", "b"],
                    "source_topic_regex": ["not.*"],
                    "state_changelog_topics": [{"name": "a", "topic_configs": [{"key": "not", "value": "x"}]}],
                    "repartition_sink_topics": ["b"],
                    "repartition_source_topics": [{"name": "c", "topic_configs": []}],
                }
            ]
        }
    },
    (90, 0, 99): {"groups": [{"group_id": "not", "topics": by_name("topic_name", partitions=[0])}]},
    (91, 0, 99): {"topics": by_name("topic_name", partitions=[{"partition_index": 0, "start_offset": 1}])},
    (92, 0, 99): {"topics": by_name("topic_name")},
}
"""(key, first version, last version) → the fields of a request that names a, b and c."""

BY_ID: dict[tuple[int, int, int], Fields] = {
    (0, 13, 99): {"topic_data": by_id(partition_data=[{"index": 0, "records": b"r"}])},
    (1, 13, 99): {
        "topics": by_id(partitions=[{"partition": 0}])[:2],
        "forgotten_topics_data": by_id(partitions=[0])[2:],
    },
    (3, 10, 99): {"topics": by_id(name=None)},
    (8, 10, 99): {"topics": by_id(partitions=[{"partition_index": 0}])},
    (9, 10, 99): {"groups": [{"group_id": "g", "topics": by_id(partition_indexes=[0])}]},
    (20, 6, 99): {"topics": by_id(name=None)},
    (78, 0, 99): {
        "topics": by_id(partitions=[{"partition_index": 0}])[:2],
        "forgotten_topics_data": by_id(partitions=[0])[2:],
    },
    (79, 0, 99): {"topics": by_id(partitions=[{"partition_index": 0}])},
}
"""The same by the ids 1, 2 and 3."""

EVERYTHING: dict[tuple[int, int, int], Fields] = {
    (3, 1, 99): {"topics": None},
    (9, 2, 7): {"topics": None},
    (9, 8, 99): {"groups": [{"group_id": "g", "topics": None}]},
    (35, 0, 99): {"topics": None},
    (43, 0, 99): {"topic_partitions": None},
    (46, 0, 99): {"topics": None},
    (75, 0, 99): {"topics": []},
    **{(key, 0, 99): {"topics": [{"topic_id": A, "partitions": [{"partition": 0}]}]} for key in SHARE_STATE},
    (90, 0, 99): {"groups": [{"group_id": "g", "topics": None}]},
}
NOTHING: dict[tuple[int, int, int], Fields] = {
    (0, 0, 99): {"topic_data": []},
    (1, 0, 99): {"topics": []},
    (3, 1, 99): {"topics": []},
    (9, 8, 99): {"groups": [{"group_id": "g", "topics": []}]},
    (68, 1, 99): {"subscribed_topic_regex": "a.*", "subscribed_topic_names": None},
    (76, 0, 99): {"subscribed_topic_names": None},
    (88, 0, 99): {"topology": None},
}
OTHERS: frozenset[int] = frozenset(range(10, 19)) | {22, 25, 26, 29, 30, 31, 36, *range(38, 43), *range(48, 52)}
OTHERS |= {57, 60, 64, 65, 66, 69, 71, 72, 74, 77, 80, 81, 89}
"""They name no topics that anybody but other clients reads."""


def cases(table: Mapping[tuple[int, int, int], Fields]) -> list[Any]:
    return [
        pytest.param(key, version, fields, id=f"{APIS[key].name}-{version}")
        for (key, first, last), fields in table.items()
        for version in versions(key, first, last)
    ]


@pytest.mark.parametrize(("key", "version", "fields"), cases(BY_NAME))
def test_by_name(key: int, version: int, fields: Fields) -> None:
    found = named(key, version, **fields)
    assert found is not None
    assert sorted(found.names) == ["a", "b", "c"]
    assert (found.ids, found.everything) == ((), False)


@pytest.mark.parametrize(("key", "version", "fields"), cases(BY_ID))
def test_by_id(key: int, version: int, fields: Fields) -> None:
    assert named(key, version, **fields) == Named(ids=(A.bytes, B.bytes, C.bytes))


@pytest.mark.parametrize(("key", "version", "fields"), cases(EVERYTHING))
def test_all_topics(key: int, version: int, fields: Fields) -> None:
    assert named(key, version, **fields) == Named(everything=True)


@pytest.mark.parametrize(("key", "version", "fields"), cases(NOTHING))
def test_no_topics(key: int, version: int, fields: Fields) -> None:
    assert named(key, version, **fields) == Named()


def test_every_kind_is_in_one_of_these_lists() -> None:
    assert {key for key, _, _ in (*BY_NAME, *BY_ID)} | OTHERS | SHARE_STATE == set(APIS)
    for key in OTHERS:
        for version in versions(key):
            assert named(key, version) is None


def test_every_version_is_in_one_of_these_lists() -> None:
    for key in {key for key, _, _ in (*BY_NAME, *BY_ID)}:
        covered = {v for at, first, last in (*BY_NAME, *BY_ID) if at == key for v in versions(key, first, last)}
        assert covered == set(versions(key)), key


def test_rules_have_a_say_on_all_of_them() -> None:
    assert {key for key, _, _ in (*BY_NAME, *BY_ID)} | SHARE_STATE == WITH_TOPICS


def test_every_field_for_a_topic_is_looked_at() -> None:
    """By the schemas: a name that no test above has would not go unnoticed in a version to come."""
    for key in OTHERS:
        assert not list(topic_fields(request_class(key).json["fields"])), key


def topic_fields(fields: list[dict[str, Any]]) -> list[str]:
    found = [field["name"] for field in fields if field.get("entityType") == "topicName" or field["name"] == "TopicId"]
    return found + [name for field in fields for name in topic_fields(field.get("fields", []))]


# -- more than one kind of thing in a request --------------------------------------------------------------------------


@pytest.mark.parametrize("key", [32, 33, 44])
def test_what_is_about_more_than_topics(key: int) -> None:
    """A rule with a topic does not reach to the configuration of a broker."""
    for version in versions(key):
        only = [{**config(2, "a"), **empty(key)}]
        more = [{**config(4, "1"), **empty(key)}, *only]
        assert named(key, version, resources=only) == Named(("a",))
        assert named(key, version, resources=more) == Named(("a",), everything=True)
        assert named(key, version, resources=more[:1]) == Named(everything=True)


def empty(key: int) -> dict[str, Any]:
    return {"configuration_keys": None} if key == 32 else {"configs": []}


def test_all_topics_of_one_group_and_some_of_another() -> None:
    groups = [{"group_id": "g", "topics": [{"name": "a", "partition_indexes": [0]}]}, {"group_id": "h", "topics": None}]
    assert named(9, 8, groups=groups) == Named(("a",), everything=True)


def test_names_and_ids_together() -> None:
    topics = [{"name": "a", "topic_id": None}, {"name": None, "topic_id": B}, {"name": "c", "topic_id": C}]
    assert named(3, 12, topics=topics) == Named(("a", "c"), (B.bytes, C.bytes))
    assert named(20, 6, topics=topics) == Named(("a", "c"), (B.bytes, C.bytes))


def test_forgotten_topics_are_named_too() -> None:
    for version in versions(1, 7, 12):
        forgotten = [{"topic": "b", "partitions": [0]}]
        topics = [{"topic": "a", "partitions": [{"partition": 0}]}]
        assert named(1, version, topics=topics, forgotten_topics_data=forgotten) == Named(("a", "b"))


def test_names_are_what_the_server_reads() -> None:
    for name in ("ü", "", "a b", "a\0", "x" * 249, "\N{ROCKET}"):
        assert named(2, 6, topics=[{"name": name, "partitions": []}]) == Named((name,))


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\x80", b"\xf8\x88\x80\x80\x80"])
def test_names_that_are_read_differently(raw: bytes) -> None:
    """Servers put signs of their own in place of what is not UTF-8: another name than was judged."""
    body = encode_request_body(build("request", 2, 6, topics=[{"name": "n" * len(raw), "partitions": []}]))
    named_topics(2, 6, body)
    with pytest.raises(ParseError):
        named_topics(2, 6, body.replace(b"n" * len(raw), raw))


# -- real ones ---------------------------------------------------------------------------------------------------------


def test_captured_requests() -> None:
    names: dict[int, set[str]] = {}
    by_ids: set[tuple[int, int]] = set()
    for request in requests():
        found = named_topics(request.key, request.version, request.body)
        assert (found is None) == (request.key in OTHERS)
        if found is None:
            continue
        assert all(name.encode() in request.body for name in found.names)
        assert all(topic in request.body for topic in found.ids)
        names.setdefault(request.key, set()).update(found.names)
        if found.ids:
            by_ids.add((request.key, request.version))
    for key in (0, 1, 2, 3, 8, 9, 68):
        assert "t1" in names[key], key
    assert "secret" in names[0] & names[1] & names[3]
    assert {(0, 13), (1, 16), (1, 17), (1, 18), (8, 10), (9, 10), (78, 2), (79, 2)} <= by_ids
