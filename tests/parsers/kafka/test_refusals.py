"""What a client is told whose request is refused: read by kafka-python, and like a genuine broker's answers."""

from __future__ import annotations

import random
import struct
import time
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from config.policy.kafka_apis import ALWAYS
from parsers.errors import ParseError
from parsers.kafka import refusals
from parsers.kafka.apis import APIS
from parsers.kafka.codecs import (
    build,
    decode_request,
    decode_response,
    encode_request_body,
    is_flexible,
    request_class,
    response_class,
)
from parsers.kafka.errors import error_code
from parsers.kafka.refusals import error_codes, refuse, refuse_fetch, refuse_produce, unsupported_api_versions
from parsers.kafka.skim import FETCH, PRODUCE, WITH_IDS, skim_fetch, skim_produce
from tests.parsers.kafka.captures import Captured, genuine_refusals, requests
from tests.parsers.kafka.oracle import Filler, mutations_of

NUMBER = 0x01020304
REFUSABLE = [api.key for api in APIS.values() if api.key not in ALWAYS]
VERSIONS = [(key, version) for key in REFUSABLE for version in range(APIS[key].lowest, APIS[key].highest + 1)]
CONFIGS = (32, 33, 44)
"""Of these, resources that are no topics get CLUSTER_AUTHORIZATION_FAILED."""

SECRET = uuid.UUID("41a8086b-242c-4a17-85c1-6be947569632")
UNKNOWN = uuid.UUID("60fe6653-6f0a-4a59-8605-07adb5a25e11")
T1 = uuid.UUID("f161d743-9e2f-407a-9391-b775d8d290bd")


class Full(Filler):
    """Nothing is left out, and each array has an entry."""

    def value(self, field: Any, version: int) -> Any:
        many = range(1 + self.rng.randrange(2))
        if field.is_struct_array():
            return [self.message(field.data_class, version) for _ in many]
        if field.is_struct():
            return self.message(field.data_class, version)
        if field.is_array():
            return [self._simple(field.array_of, "") for _ in many]
        return self._simple(field, field.name)


def full_request(key: int, version: int, seed: int = 0) -> bytes:
    filler = Full(random.Random(f"{key} {version} {seed}"))
    return encode_request_body(filler.message(request_class(key), version))


def refused(key: int, version: int, body: bytes, error: int | None = None) -> tuple[bytes, int]:
    if key == PRODUCE:
        error = error or refusals.TOPIC_AUTHORIZATION_FAILED
        return refuse_produce(version, NUMBER, skim_produce(version, body, 0, len(body)).topics, error), error
    if key == FETCH:
        error = error or refusals.TOPIC_AUTHORIZATION_FAILED
        return refuse_fetch(version, NUMBER, skim_fetch(version, body, 0, len(body)).topics, error), error
    return refuse(key, version, NUMBER, decode_request(key, version, body), error=error)


def body_of(key: int, version: int, frame: bytes) -> bytes:
    assert struct.unpack_from(">ii", frame) == (len(frame) - 4, NUMBER)
    if not is_flexible(key, version):
        return frame[8:]
    assert frame[8] == 0
    return frame[9:]


def answer(key: int, version: int, frame: bytes) -> Any:
    return decode_response(key, version, body_of(key, version, frame))


def told(key: int, version: int, body: bytes, error: int | None = None) -> tuple[Any, int]:
    frame, code = refused(key, version, body, error)
    return answer(key, version, frame), code


# -- all of them -------------------------------------------------------------------------------------------------------


def test_the_numbers() -> None:
    numbers = {
        refusals.MESSAGE_TOO_LARGE: 10,
        refusals.TOPIC_AUTHORIZATION_FAILED: 29,
        refusals.GROUP_AUTHORIZATION_FAILED: 30,
        refusals.CLUSTER_AUTHORIZATION_FAILED: 31,
        refusals.UNSUPPORTED_VERSION: 35,
        refusals.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 53,
        refusals.OPERATION_NOT_ATTEMPTED: 55,
        refusals.FETCH_SESSION_ID_NOT_FOUND: 70,
        refusals.UNKNOWN_TOPIC_ID: 100,
        refusals.SHARE_SESSION_NOT_FOUND: 122,
    }
    assert all(ours == theirs for ours, theirs in numbers.items())


@pytest.mark.parametrize(("key", "version"), VERSIONS, ids=[f"{APIS[k].name}-{v}" for k, v in VERSIONS])
def test_every_kind_in_every_version(key: int, version: int) -> None:
    """Whoever reads nothing but one entry finds the error in it."""
    for seed in range(5):
        body = full_request(key, version, seed)
        for error in (None, refusals.UNKNOWN_TOPIC_ID):
            found, code = told(key, version, body, error)
            codes = set(error_codes(found)) - {0}
            assert code == error or error is None
            assert code in codes
            assert codes <= {code, refusals.CLUSTER_AUTHORIZATION_FAILED} if key in CONFIGS else codes == {code}
            assert error_code(key, version, body_of(key, version, refused(key, version, body, error)[0])) in codes


@pytest.mark.parametrize(("key", "version"), VERSIONS, ids=[f"{APIS[k].name}-{v}" for k, v in VERSIONS])
def test_requests_of_any_content(key: int, version: int) -> None:
    """With nothing in them, too: the answer may have no place for an error then, but it is one."""
    told(key, version, encode_request_body(build("request", key, version)))
    for seed in range(5):
        filler = Filler(random.Random(f"{key} {version} {seed}"))
        told(key, version, encode_request_body(filler.message(request_class(key), version)))


def test_captured_requests() -> None:
    kinds: dict[int, int] = {}
    for request in requests():
        if request.key in ALWAYS:
            continue
        found, code = told(request.key, request.version, request.body)
        if asks_for_something(request):
            assert set(error_codes(found)) - {0} == {code}, request
            kinds[request.key] = code
    assert kinds == {
        **dict.fromkeys((0, 1, 2, 3, 8, 9, 19, 20, 21, 24, 28, 75, 78, 79), 29),
        **dict.fromkeys((11, 12, 13, 14), 30),
        **dict.fromkeys((27, 60), 31),
        **dict.fromkeys((25, 26), 53),
        **dict.fromkeys((71, 72), 35),
        **{key: kinds[key] for key in (10, 22, 68, 76)},
    }


def asks_for_something(request: Captured) -> bool:
    """Who names no topics or groups gets an answer without entries, or one that names none."""
    message = decode_request(request.key, request.version, request.body)
    lists = [getattr(message, name, None) for name in ("topics", "topic_data", "groups")]
    return any(lists) or not any(hasattr(message, name) for name in ("topics", "topic_data", "groups"))


def test_refusals_of_mutated_requests() -> None:
    """What can be read can be refused."""
    rng = random.Random(3)
    count = 0
    for key, version in VERSIONS:
        body = full_request(key, version)
        for mutated in mutations_of(body, rng, 15) if body and key not in (PRODUCE, FETCH) else ():
            try:
                message = decode_request(key, version, mutated)
            except ParseError:
                continue
            answer(key, version, refuse(key, version, NUMBER, message)[0])
            count += 1
    assert count > 200


# -- as a genuine broker says it ---------------------------------------------------------------------------------------


def entries(name: str = "name", **more: Any) -> list[dict[str, Any]]:
    return [{name: topic, **more} for topic in ("t1", "secret")]


def only(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "secret", **more}]


SECRET_CONFIG = [{"resource_type": 2, "resource_name": "secret"}]
WITH_INDEX = [{"partition_index": 0}]
GENUINE: dict[str, tuple[int, int, Mapping[str, Any]]] = {
    "Produce v3": (0, 3, {"topic_data": entries(partition_data=[{"index": 0, "records": b""}])}),
    "Produce v9": (0, 9, {"topic_data": entries(partition_data=[{"index": 0, "records": b""}])}),
    "Produce v11": (0, 11, {"topic_data": entries(partition_data=[{"index": 0, "records": b""}])}),
    "Fetch v4": (1, 4, {"topics": entries("topic", partitions=[{"partition": 0}])}),
    "Fetch v12": (1, 12, {"topics": entries("topic", partitions=[{"partition": 0}])}),
    "Fetch v17": (1, 17, {"topics": [{"topic_id": topic, "partitions": [{"partition": 0}]} for topic in (T1, SECRET)]}),
    "ListOffsets v10": (2, 10, {"topics": entries(partitions=WITH_INDEX)}),
    "Metadata names v12": (3, 12, {"topics": entries()}),
    "Metadata by id forbidden v12": (3, 12, {"topics": [{"name": None, "topic_id": SECRET}]}),
    "OffsetCommit v2": (8, 2, {"topics": entries(partitions=WITH_INDEX)}),
    "OffsetCommit v9": (8, 9, {"topics": entries(partitions=WITH_INDEX)}),
    "OffsetFetch v7": (9, 7, {"topics": entries(partition_indexes=[0])}),
    "OffsetFetch v9": (9, 9, {"groups": [{"group_id": "pg", "topics": entries(partition_indexes=[0])}]}),
    "AddPartitionsToTxn v3": (24, 3, {"v3_and_below_topics": entries(partitions=[0])}),
    "TxnOffsetCommit v4": (28, 4, {"topics": entries(partitions=WITH_INDEX)}),
    "DeleteRecords v2": (21, 2, {"topics": entries(partitions=WITH_INDEX)}),
    "CreatePartitions v3": (37, 3, {"topics": only(count=5, assignments=None)}),
    "DescribeConfigs v4": (32, 4, {"resources": SECRET_CONFIG}),
    "IncrementalAlterConfigs v1": (44, 1, {"resources": [{**SECRET_CONFIG[0], "configs": []}]}),
    "DescribeTopicPartitions v0": (75, 0, {"topics": entries()}),
    "OffsetDelete v0": (47, 0, {"topics": only(partitions=WITH_INDEX)}),
    "DescribeProducers v0": (61, 0, {"topics": only(partition_indexes=[0])}),
}
TITLES = sorted(GENUINE)


@pytest.mark.parametrize("title", TITLES)
def test_the_entry_of_a_topic_is_a_genuine_one(title: str) -> None:
    key, version, fields = GENUINE[title]
    found, code = told(key, version, encode_request_body(build("request", key, version, **fields)))
    assert code == 29
    theirs = genuine_refusals()[title]
    assert about_secret(found.to_dict()) == about_secret(theirs)
    assert set(found.to_dict()) == set(theirs)
    assert found.to_dict().get("error_code", 0) == theirs.get("error_code", 0)


def about_secret(value: Any) -> list[Any]:
    """The entries about the topic, wherever they are; texts for people aside."""
    if isinstance(value, list):
        return [entry for item in value for entry in about_secret(item)]
    if not isinstance(value, dict):
        return []
    names = [value.get(name) for name in ("name", "topic", "topic_id", "resource_name")]
    if "secret" in names or str(SECRET) in map(str, names):
        return [without_texts(value)]
    return [entry for item in value.values() for entry in about_secret(item)]


def without_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [without_texts(item) for item in value]
    if isinstance(value, dict):
        return {name: without_texts(item) for name, item in value.items() if name != "error_message"}
    if isinstance(value, bytes):
        return value.decode()
    return str(value) if isinstance(value, uuid.UUID) else value


def test_an_unknown_id_is_a_genuine_one() -> None:
    topics = [{"topic_id": UNKNOWN, "partitions": [{"partition": 0}]}]
    body = encode_request_body(build("request", 1, 17, topics=topics))
    found, _ = told(1, 17, body, refusals.UNKNOWN_TOPIC_ID)
    assert without_texts(found.to_dict()) == without_texts(genuine_refusals()["Fetch unknown id v17"])


def test_a_transaction_is_told_which_topic_it_was() -> None:
    """The others have not been attempted, so that the client does not take them for forbidden."""
    key, version, fields = GENUINE["AddPartitionsToTxn v3"]
    message = decode_request(key, version, encode_request_body(build("request", key, version, **fields)))
    frame, code = refuse(key, version, NUMBER, message, ["secret"])
    theirs = {topic["name"]: topic for topic in genuine_refusals()["AddPartitionsToTxn v3"].popitem()[1]}
    ours = {topic["name"]: topic for topic in answer(key, version, frame).to_dict()["results_by_topic_v3_and_below"]}
    assert (ours, code) == (theirs, 29)


@pytest.mark.parametrize("version", range(4, 6))
def test_transactions_of_servers(version: int) -> None:
    """Only brokers ask with these versions: whoever is none is refused as a whole."""
    transactions = [{"transactional_id": "x", "topics": entries(partitions=[0, 1])}, {"transactional_id": "y"}]
    message = decode_request(24, version, encode_request_body(build("request", 24, version, transactions=transactions)))
    frame, code = refuse(24, version, NUMBER, message, ["secret"])
    found = answer(24, version, frame)
    assert (found.error_code, found.results_by_transaction, code) == (31, [], 31)


# -- which error it is -------------------------------------------------------------------------------------------------


def code_of(key: int, version: int, **fields: Any) -> int:
    return told(key, version, encode_request_body(build("request", key, version, **fields)))[1]


def test_errors_that_depend_on_the_request() -> None:
    assert [code_of(10, 4, key_type=kind, coordinator_keys=["x"]) for kind in (0, 1, 2)] == [30, 53, 30]
    one = [request_class(10)(version=3, key="x", key_type=kind) for kind in (0, 1)]
    assert [told(10, 3, encode_request_body(message))[1] for message in one] == [30, 53]
    assert [code_of(22, 4, transactional_id=name) for name in (None, "tx")] == [31, 53]
    for key in (68, 76):
        assert [code_of(key, 1, subscribed_topic_names=names) for names in (None, ["t1"])] == [30, 29]


def test_what_is_not_a_topic_of_a_refused_request() -> None:
    resources = [*SECRET_CONFIG, {"resource_type": 4, "resource_name": "1"}]
    for key, version in ((32, 4), (33, 2), (44, 1)):
        given = [entry | ({} if key == 32 else {"configs": []}) for entry in resources]
        found, code = told(key, version, encode_request_body(build("request", key, version, resources=given)))
        results = found.results if key == 32 else found.responses
        assert [(entry.resource_name, entry.error_code) for entry in results] == [("secret", 29), ("1", 31)]
        assert code == 29
        found, code = told(key, version, encode_request_body(build("request", key, version, resources=given[1:])))
        assert set(error_codes(found)) == {code} == {31}


def test_all_positions_of_a_group() -> None:
    """No topics are named, so the error is the group's."""
    for version in range(2, 8):
        found, code = told(9, version, encode_request_body(build("request", 9, version, group_id="g", topics=None)))
        assert (found.topics, found.error_code, code) == ([], 29, 29)
    for version in range(8, 11):
        groups = [{"group_id": "g", "topics": None}]
        found, _ = told(9, version, encode_request_body(build("request", 9, version, groups=groups)))
        assert [(group.group_id, group.error_code, group.topics) for group in found.groups] == [("g", 29, [])]


def test_topics_that_nobody_knows_the_names_of() -> None:
    """Clients ask for the topics anew."""
    parts = [{"partition_index": 0}]
    by_id: dict[tuple[int, int], Mapping[str, Any]] = {
        (0, 13): {"topic_data": [{"topic_id": UNKNOWN, "partition_data": [{"index": 0, "records": b""}]}]},
        (1, 18): {"topics": [{"topic_id": UNKNOWN, "partitions": [{"partition": 0}]}]},
        (3, 13): {"topics": [{"topic_id": UNKNOWN, "name": None}]},
        (8, 10): {"topics": [{"topic_id": UNKNOWN, "partitions": parts}]},
        (9, 10): {"groups": [{"group_id": "g", "topics": [{"topic_id": UNKNOWN, "partition_indexes": [0]}]}]},
        (20, 6): {"topics": [{"topic_id": UNKNOWN, "name": None}]},
        (78, 2): {"topics": [{"topic_id": UNKNOWN, "partitions": parts}]},
        (79, 2): {"topics": [{"topic_id": UNKNOWN, "partitions": parts}]},
    }
    for (key, version), fields in by_id.items():
        body = encode_request_body(build("request", key, version, **fields))
        frame, code = refused(key, version, body, refusals.UNKNOWN_TOPIC_ID)
        assert code == 100
        assert set(error_codes(answer(key, version, frame))) - {0} == {100}
        assert UNKNOWN.bytes in frame


def test_sessions() -> None:
    for version in range(7, 19):
        found = answer(1, version, refuse_fetch(version, NUMBER, (), 0, refusals.FETCH_SESSION_ID_NOT_FOUND))
        assert (found.error_code, found.session_id, found.responses) == (70, 0, [])
    for key in (78, 79):
        topics = [{"topic_id": SECRET, "partitions": [{"partition_index": 0}]}]
        body = encode_request_body(build("request", key, 2, topics=topics))
        found, code = told(key, 2, body, refusals.SHARE_SESSION_NOT_FOUND)
        assert (found.error_code, found.responses, code) == (122, [], 122)


def test_versions_that_nobody_knows() -> None:
    assert unsupported_api_versions(7) == bytes.fromhex("00000010 00000007 0023 00000001 0012 0000 0004")


# -- Produce and Fetch -------------------------------------------------------------------------------------------------

Fields = dict[str, Any]
Topics = list[tuple[str | bytes, list[int]]]
SKIMMED: list[list[int]] = [[], [0], [0, 5], list(range(130))]


@pytest.mark.parametrize("version", range(3, 14))
@pytest.mark.parametrize("partitions", SKIMMED, ids=len)
def test_produce(version: int, partitions: list[int]) -> None:
    topics: Topics = [(name(version, it), partitions) for it in ("t1", "sécret" * 30)]
    frame = refuse_produce(version, NUMBER, topics, 10)
    rest: Fields = {"error_code": 10, "base_offset": -1, "log_append_time_ms": -1, "log_start_offset": -1}
    rest |= {"record_errors": [], "error_message": None, "current_leader": None}
    found = [
        {**identity(topic, "name"), "partition_responses": [{"index": part, **rest} for part in parts]}
        for topic, parts in topics
    ]
    assert frame == written(0, version, responses=found, throttle_time_ms=0)


@pytest.mark.parametrize("version", range(4, 19))
@pytest.mark.parametrize("partitions", SKIMMED, ids=len)
def test_fetch(version: int, partitions: list[int]) -> None:
    topics: Topics = [(name(version, it), partitions) for it in ("t1", "sécret" * 30)]
    frame = refuse_fetch(version, NUMBER, topics, 29, 7)
    rest: Fields = {"error_code": 29, "high_watermark": -1, "last_stable_offset": -1, "log_start_offset": -1}
    rest |= {"aborted_transactions": [], "preferred_read_replica": -1, "records": b""}
    found = [
        {**identity(topic, "topic"), "partitions": [{"partition_index": part, **rest} for part in parts]}
        for topic, parts in topics
    ]
    top: Fields = {"error_code": 7, "session_id": 0} if version >= 7 else {}
    assert frame == written(1, version, responses=found, throttle_time_ms=0, **top)


def name(version: int, topic: str) -> str | bytes:
    return SECRET.bytes if version >= WITH_IDS else topic


def identity(topic: str | bytes, field: str) -> dict[str, Any]:
    return {"topic_id": uuid.UUID(bytes=topic)} if isinstance(topic, bytes) else {field: topic}


def written(key: int, version: int, **fields: Any) -> bytes:
    """By kafka-python, without the fields that this version does not have."""
    message = response_class(key)(version=version, **structures(response_class(key), version, fields))
    message.with_header(correlation_id=NUMBER)
    return bytes(message.encode(header=True, framed=True))


def structures(cls: Any, version: int, values: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for field in cls._struct.fields.values():
        if field.name not in values or not field.for_version_q(version):
            continue
        value = values[field.name]
        if field.is_struct_array():
            kind = field.data_class
            value = [kind(version=version, **structures(kind, version, entry)) for entry in value]
        found[field.name] = value
    return found


def test_refusals_are_cheap() -> None:
    """They are what a flood of forbidden requests costs."""
    start = time.process_time()
    for _ in range(1000):
        refuse_produce(9, NUMBER, [("secret", [0])])
        refuse_fetch(12, NUMBER, [("secret", [0])])
    assert time.process_time() - start < 0.5
