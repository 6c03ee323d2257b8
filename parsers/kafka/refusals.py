"""What a broker with ACLs says to a request that it refuses, API by API (Apache Kafka 4.3, seen on the wire).

A request is refused whole: each topic, partition, group or resource that it names gets the error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from struct import pack
from typing import Any
from uuid import UUID

from parsers.kafka.codecs import build, encode_response
from parsers.kafka.skim import FLEXIBLE_FETCH, FLEXIBLE_PRODUCE, WITH_IDS, Topic
from parsers.kafka.splicing import TOPIC_AUTHORIZATION_FAILED as TOPIC_AUTHORIZATION_FAILED  # one of the codes below
from parsers.kafka.splicing import length_field, string_field
from parsers.kafka.topics import SHARE_STATE
from parsers.kafka.wire import framed

MESSAGE_TOO_LARGE = 10
GROUP_AUTHORIZATION_FAILED = 30
CLUSTER_AUTHORIZATION_FAILED = 31
UNSUPPORTED_VERSION = 35
TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
OPERATION_NOT_ATTEMPTED = 55
FETCH_SESSION_ID_NOT_FOUND = 70
UNKNOWN_TOPIC_ID = 100
SHARE_SESSION_NOT_FOUND = 122

_TRANSACTIONAL = 1
"""The type of key for which FindCoordinator looks, as 0 is for groups and 2 for share groups."""

_TOPIC_RESOURCE = 2
_NAMELESS_METADATA = 12
"""From this version on an answer says of a topic that was asked for by its id that it has no name."""

_FIRST_OF_BROKERS = 4
"""The first version of AddPartitionsToTxn that is for brokers only."""

_NONE = b"\xff" * 8
"""-1 as offset, time and epoch: there is none."""

Fields = dict[str, Any]


def refuse(
    key: int,
    version: int,
    correlation_id: int,
    message: Any,
    refused: Collection[str] | None = None,
    error: int | None = None,
) -> tuple[bytes, int]:
    """The whole frame of the answer to `message`, and the error code that it carries.

    `refused`: the names that are the reason (None: all); it matters where an answer tells them from the others.
    `error`: another one than the API's own.
    """
    own, fields = _ANSWERS.get(key, (CLUSTER_AUTHORIZATION_FAILED, _top))
    code = error if error is not None else own(message) if callable(own) else own
    if error == SHARE_SESSION_NOT_FOUND:
        fields = _top
    made = fields(_Refusal(message, version, code, refused))
    return encode_response(build("response", key, version, **made), correlation_id), code


class _Refusal:
    """What the makers of answers get to see."""

    def __init__(self, message: Any, version: int, code: int, refused: Collection[str] | None) -> None:
        self.message = message
        self.version = version
        self.code = code
        self.refused = refused

    def topics(
        self, topics: Iterable[Any] | None, name: str, parts: str, answer: str, partition: Callable[[Any], Fields]
    ) -> Any:
        """An entry for each topic with one for each of its partitions."""
        return [
            _identity(topic, name) | {answer: [partition(item) for item in getattr(topic, parts) or ()]}
            for topic in topics or ()
        ]


def _identity(topic: Any, name: str) -> Fields:
    """Name and id of a topic, as far as the version has them."""
    found: Fields = {}
    given = getattr(topic, name, None)
    if isinstance(given, str):
        found[name] = given
    topic_id = getattr(topic, "topic_id", None)
    if isinstance(topic_id, UUID):
        found["topic_id"] = topic_id
    return found


def _index(item: Any) -> int:
    """A partition, told by itself or by an entry about it."""
    if isinstance(item, int):
        return item
    for name in ("partition_index", "partition", "partition_id"):
        found = getattr(item, name, None)
        if isinstance(found, int):
            return found
    raise AssertionError(f"no partition in {item!r}")


def _top(it: _Refusal) -> Fields:
    return {"error_code": it.code}


def _list_offsets(it: _Refusal) -> Fields:
    def partition(item: Any) -> Fields:
        return {
            "partition_index": _index(item),
            "error_code": it.code,
            "timestamp": -1,
            "offset": -1,
            "leader_epoch": -1,
        }

    return {"topics": it.topics(it.message.topics, "name", "partitions", "partitions", partition)}


def _metadata(it: _Refusal) -> Fields:
    def topic(asked: Any) -> Fields:
        unnamed: Fields = {"name": None} if it.version >= _NAMELESS_METADATA else {}
        return {**unnamed, **_identity(asked, "name"), "error_code": it.code, "partitions": []}

    return {"brokers": [], "topics": [topic(asked) for asked in it.message.topics or ()]}


def _plain(it: _Refusal, item: Any) -> Fields:
    return {"partition_index": _index(item), "error_code": it.code}


def _by_partition(it: _Refusal) -> Fields:
    topics = it.message.topics
    return {"topics": it.topics(topics, "name", "partitions", "partitions", lambda item: _plain(it, item))}


def _offset_fetch(it: _Refusal) -> Fields:
    def partition(item: Any) -> Fields:
        left = {"committed_offset": -1, "committed_leader_epoch": -1, "metadata": ""}
        return {**_plain(it, item), **left}

    def topics(asked: Any) -> Any:
        return it.topics(asked, "name", "partition_indexes", "partitions", partition)

    if it.version < 8:
        everything = it.message.topics is None
        return {"topics": topics(it.message.topics), "error_code": it.code if everything else 0}
    groups = it.message.groups or ()
    return {
        "groups": [
            {"group_id": g.group_id, "topics": topics(g.topics), "error_code": it.code if g.topics is None else 0}
            for g in groups
        ]
    }


def _find_coordinator(it: _Refusal) -> Fields:
    nowhere: Fields = {"node_id": -1, "host": "", "port": -1, "error_code": it.code}
    if it.version < 4:
        return nowhere
    return {"coordinators": [{"key": key, **nowhere} for key in it.message.coordinator_keys or ()]}


def _join_group(it: _Refusal) -> Fields:
    empty: Fields = {"protocol_name": "", "leader": "", "member_id": it.message.member_id or "", "members": []}
    return {"error_code": it.code, "generation_id": -1, **empty}


def _described_groups(it: _Refusal) -> Fields:
    asked = getattr(it.message, "groups", None) or getattr(it.message, "group_ids", None) or ()
    return {"groups": [{"error_code": it.code, "group_id": group} for group in asked]}


def _streams_groups(it: _Refusal) -> Fields:
    groups = it.message.group_ids or ()
    return {"groups": [{"error_code": it.code, "group_id": group, "topology": None} for group in groups]}


def _created(it: _Refusal) -> Fields:
    return {"topics": [{"name": topic.name, "error_code": it.code} for topic in it.message.topics or ()]}


def _deleted(it: _Refusal) -> Fields:
    if it.version < 6:
        return {"responses": [{"name": name, "error_code": it.code} for name in it.message.topic_names or ()]}
    asked = it.message.topics or ()
    return {"responses": [{"name": t.name, "topic_id": t.topic_id, "error_code": it.code} for t in asked]}


def _deleted_records(it: _Refusal) -> Fields:
    def partition(item: Any) -> Fields:
        return {**_plain(it, item), "low_watermark": -1}

    return {"topics": it.topics(it.message.topics, "name", "partitions", "partitions", partition)}


def _init_producer(it: _Refusal) -> Fields:
    return {"error_code": it.code, "producer_id": -1, "producer_epoch": -1}


def _epochs(it: _Refusal) -> Fields:
    def partition(item: Any) -> Fields:
        return {"error_code": it.code, "partition": _index(item), "leader_epoch": -1, "end_offset": -1}

    return {"topics": it.topics(it.message.topics, "topic", "partitions", "partitions", partition)}


def _added_to_transaction(it: _Refusal) -> Fields:
    """Who asks for several topics and may not use one of them is told so; the others have not been attempted.

    From version 4 on only brokers ask, and who is none is refused as a whole.
    """

    def results(topics: Any) -> list[Fields]:
        found = []
        for topic in topics or ():
            is_refused = it.refused is None or topic.name in it.refused
            code = it.code if is_refused else OPERATION_NOT_ATTEMPTED
            parts = [{"partition_index": index, "partition_error_code": code} for index in topic.partitions or ()]
            found.append({"name": topic.name, "results_by_partition": parts})
        return found

    if it.version < _FIRST_OF_BROKERS:
        return {"results_by_topic_v3_and_below": results(it.message.v3_and_below_topics)}
    return {"error_code": it.code, "results_by_transaction": []}


def _markers(it: _Refusal) -> Fields:
    def topics(marker: Any) -> Any:
        return it.topics(marker.topics, "name", "partition_indexes", "partitions", lambda item: _plain(it, item))

    return {"markers": [{"producer_id": m.producer_id, "topics": topics(m)} for m in it.message.markers or ()]}


def _acls(it: _Refusal) -> Fields:
    return {"error_code": it.code, "resources": []}


def _created_acls(it: _Refusal) -> Fields:
    return {"results": [{"error_code": it.code, "error_message": None} for _ in it.message.creations or ()]}


def _deleted_acls(it: _Refusal) -> Fields:
    return {"filter_results": [{"error_code": it.code, "matching_acls": []} for _ in it.message.filters or ()]}


def _resource(it: _Refusal, item: Any) -> Fields:
    is_topic = item.resource_type == _TOPIC_RESOURCE
    code = it.code if is_topic or it.code != TOPIC_AUTHORIZATION_FAILED else CLUSTER_AUTHORIZATION_FAILED
    told = {"error_message": None, "resource_type": item.resource_type, "resource_name": item.resource_name}
    return {"error_code": code, **told}


def _described_configs(it: _Refusal) -> Fields:
    return {"results": [{**_resource(it, item), "configs": []} for item in it.message.resources or ()]}


def _altered_configs(it: _Refusal) -> Fields:
    return {"responses": [_resource(it, item) for item in it.message.resources or ()]}


def _log_dirs(it: _Refusal) -> Fields:
    topics = [topic for entry in it.message.dirs or () for topic in entry.topics or ()]
    results = [
        {"topic_name": t.name, "partitions": [_plain(it, index) for index in t.partitions or ()]} for t in topics
    ]
    return {"results": results}


def _described_log_dirs(it: _Refusal) -> Fields:
    results = [] if it.version >= 3 else [{"error_code": it.code, "log_dir": "", "topics": []}]
    return {"error_code": it.code, "results": results}


def _partitions_made(it: _Refusal) -> Fields:
    topics = it.message.topics or ()
    return {"results": [{"name": t.name, "error_code": it.code, "error_message": None} for t in topics]}


def _deleted_groups(it: _Refusal) -> Fields:
    return {"results": [{"group_id": group, "error_code": it.code} for group in it.message.groups_names or ()]}


def _elected(it: _Refusal) -> Fields:
    def partition(index: int) -> Fields:
        return {"partition_id": index, "error_code": it.code, "error_message": None}

    topics = it.message.topic_partitions or ()
    results = [{"topic": t.topic, "partition_result": [partition(i) for i in t.partitions or ()]} for t in topics]
    return {"error_code": it.code, "replica_election_results": results}


def _deleted_offsets(it: _Refusal) -> Fields:
    return {"error_code": 0, **_by_partition(it)}


def _quotas(it: _Refusal) -> Fields:
    return {"error_code": it.code, "error_message": None, "entries": None}


def _altered_quotas(it: _Refusal) -> Fields:
    def entity(entry: Any) -> list[Fields]:
        return [{"entity_type": e.entity_type, "entity_name": e.entity_name} for e in entry.entity or ()]

    entries = it.message.entries or ()
    return {"entries": [{"error_code": it.code, "error_message": None, "entity": entity(entry)} for entry in entries]}


def _scram(it: _Refusal) -> Fields:
    users = dict.fromkeys(item.name for item in (*(it.message.deletions or ()), *(it.message.upsertions or ())))
    return {"results": [{"user": user, "error_code": it.code, "error_message": None} for user in users]}


def _with_message(it: _Refusal) -> Fields:
    return {"error_code": it.code, "error_message": None}


def _producers(it: _Refusal) -> Fields:
    def partition(index: Any) -> Fields:
        return {**_plain(it, index), "error_message": None, "active_producers": []}

    return {"topics": it.topics(it.message.topics, "name", "partition_indexes", "partitions", partition)}


def _transactions(it: _Refusal) -> Fields:
    ids = it.message.transactional_ids or ()
    return {"transaction_states": [{"error_code": it.code, "transactional_id": name} for name in ids]}


def _described_topics(it: _Refusal) -> Fields:
    topics = it.message.topics or ()
    return {"topics": [{"error_code": it.code, "name": t.name, "partitions": []} for t in topics], "next_cursor": None}


def _assigned(it: _Refusal) -> Fields:
    return {"error_code": it.code, "error_message": None, "assignment": None}


def _shared(it: _Refusal) -> Fields:
    topics = it.message.topics
    return {"responses": it.topics(topics, "topic_id", "partitions", "partitions", lambda item: _plain(it, item))}


def _share_offsets(it: _Refusal) -> Fields:
    def topics(group: Any) -> list[Fields]:
        return [
            {"topic_name": t.topic_name, "partitions": [_plain(it, index) for index in t.partitions or ()]}
            for t in group.topics or ()
        ]

    groups = it.message.groups or ()
    return {
        "groups": [
            {"group_id": g.group_id, "topics": topics(g), "error_code": it.code if g.topics is None else 0}
            for g in groups
        ]
    }


def _altered_share_offsets(it: _Refusal) -> Fields:
    topics = it.message.topics or ()
    told = [{"topic_name": t.topic_name, "partitions": [_plain(it, p) for p in t.partitions or ()]} for t in topics]
    return {"error_code": 0, "responses": told}


def _share_state(it: _Refusal) -> Fields:
    def partition(item: Any) -> Fields:
        return {"partition": _index(item), "error_code": it.code}

    return {"results": it.topics(it.message.topics, "topic_id", "partitions", "partitions", partition)}


def _deleted_share_offsets(it: _Refusal) -> Fields:
    topics = it.message.topics or ()
    return {"error_code": 0, "responses": [{"topic_name": t.topic_name, "error_code": it.code} for t in topics]}


def _coordinator_error(message: Any) -> int:
    is_transactional = getattr(message, "key_type", 0) == _TRANSACTIONAL
    return TRANSACTIONAL_ID_AUTHORIZATION_FAILED if is_transactional else GROUP_AUTHORIZATION_FAILED


def _producer_error(message: Any) -> int:
    return TRANSACTIONAL_ID_AUTHORIZATION_FAILED if message.transactional_id else CLUSTER_AUTHORIZATION_FAILED


def _config_error(message: Any) -> int:
    has_topics = any(item.resource_type == _TOPIC_RESOURCE for item in message.resources or ())
    return TOPIC_AUTHORIZATION_FAILED if has_topics else CLUSTER_AUTHORIZATION_FAILED


def _partitions_error(message: Any) -> int:
    is_brokers = message.API_VERSION >= _FIRST_OF_BROKERS
    return CLUSTER_AUTHORIZATION_FAILED if is_brokers else TOPIC_AUTHORIZATION_FAILED


def _member_error(message: Any) -> int:
    return TOPIC_AUTHORIZATION_FAILED if message.subscribed_topic_names else GROUP_AUTHORIZATION_FAILED


_T, _G, _C, _X = (
    TOPIC_AUTHORIZATION_FAILED,
    GROUP_AUTHORIZATION_FAILED,
    CLUSTER_AUTHORIZATION_FAILED,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_ANSWERS: dict[int, tuple[int | Callable[[Any], int], Callable[[_Refusal], Fields]]] = {
    2: (_T, _list_offsets),
    3: (_T, _metadata),
    8: (_T, _by_partition),
    9: (_T, _offset_fetch),
    10: (_coordinator_error, _find_coordinator),
    11: (_G, _join_group),
    12: (_G, _top),
    13: (_G, _top),
    14: (_G, _top),
    15: (_G, _described_groups),
    16: (_C, _top),
    19: (_T, _created),
    20: (_T, _deleted),
    21: (_T, _deleted_records),
    22: (_producer_error, _init_producer),
    23: (_T, _epochs),
    24: (_partitions_error, _added_to_transaction),
    25: (_X, _top),
    26: (_X, _top),
    27: (_C, _markers),
    28: (_T, _by_partition),
    29: (_C, _acls),
    30: (_C, _created_acls),
    31: (_C, _deleted_acls),
    32: (_config_error, _described_configs),
    33: (_config_error, _altered_configs),
    34: (_C, _log_dirs),
    35: (_C, _described_log_dirs),
    37: (_T, _partitions_made),
    42: (_G, _deleted_groups),
    43: (_C, _elected),
    44: (_config_error, _altered_configs),
    45: (_C, _with_message),
    46: (_C, _with_message),
    47: (_T, _deleted_offsets),
    48: (_C, _quotas),
    49: (_C, _altered_quotas),
    50: (_C, _with_message),
    51: (_C, _scram),
    61: (_T, _producers),
    65: (_X, _transactions),
    68: (_member_error, _assigned),
    69: (_G, _described_groups),
    71: (UNSUPPORTED_VERSION, _top),
    72: (UNSUPPORTED_VERSION, _top),
    75: (_T, _described_topics),
    76: (_member_error, _assigned),
    77: (_G, _described_groups),
    78: (_T, _shared),
    79: (_T, _shared),
    80: (_C, _with_message),
    81: (_C, _with_message),
    **dict.fromkeys(SHARE_STATE, (_C, _share_state)),
    88: (_G, _top),
    89: (_G, _streams_groups),
    90: (_T, _share_offsets),
    91: (_T, _altered_share_offsets),
    92: (_T, _deleted_share_offsets),
}
"""Key → the error that its refusal carries, and what makes the fields of the answer. All else: an error at the top."""


def unsupported_api_versions(correlation_id: int) -> bytes:
    """The answer to a version of ApiVersions that nobody knows yet, in the one that everybody can read."""
    body = pack(">hi", UNSUPPORTED_VERSION, 1) + pack(">hhh", 18, 0, 4)
    return framed(pack(">i", correlation_id), body)


def refuse_produce(
    version: int, correlation_id: int, topics: Sequence[tuple[Topic, Sequence[int]]], error: int = _T
) -> bytes:
    """The whole frame of a refusal; topics by name up to version 12, by id (16 bytes) from 13 on."""
    compact = version >= FLEXIBLE_PRODUCE
    end = b"\0" if compact else b""
    # offset, append time, first offset (5+), record errors (8+), message (8+)
    rest = pack(">h", error) + _NONE + _NONE + (_NONE if version >= 5 else b"")
    if version >= 8:
        rest += length_field(0, compact) + string_field(None, compact)
    rest += end
    body = length_field(len(topics), compact)
    for topic, partitions in topics:
        body += _named(topic, version, compact) + length_field(len(partitions), compact)
        body += b"".join([pack(">i", index) + rest for index in partitions]) + end
    body += bytes(4) + end
    return framed(pack(">i", correlation_id) + end, body)


def refuse_fetch(
    version: int,
    correlation_id: int,
    topics: Sequence[tuple[Topic, Sequence[int]]],
    error: int = _T,
    top_level: int = 0,
) -> bytes:
    """The whole frame of a refusal; topics by name up to version 12, by id (16 bytes) from 13 on."""
    compact = version >= FLEXIBLE_FETCH
    end = b"\0" if compact else b""
    # high watermark, last stable offset, first offset (5+), aborted transactions, preferred replica (11+), records
    rest = pack(">h", error) + _NONE + _NONE + (_NONE if version >= 5 else b"") + length_field(0, compact)
    rest += (_NONE[:4] if version >= 11 else b"") + length_field(0, compact) + end
    body = bytes(4)
    if version >= 7:
        body += pack(">hi", top_level, 0)
    body += length_field(len(topics), compact)
    for topic, partitions in topics:
        body += _named(topic, version, compact) + length_field(len(partitions), compact)
        body += b"".join([pack(">i", index) + rest for index in partitions]) + end
    return framed(pack(">i", correlation_id) + end, body + end)


def _named(topic: Topic, version: int, compact: bool) -> bytes:
    if isinstance(topic, bytes):
        assert version >= WITH_IDS
        return topic
    return string_field(topic, compact)


def error_codes(message: Any) -> Iterator[int]:
    """All error codes in a decoded answer."""
    for name in message._struct.fields:
        value = getattr(message, name, None)
        if name.endswith("error_code") and isinstance(value, int):
            yield value
        for entry in value if isinstance(value, list) else ():
            if hasattr(entry, "_struct"):
                yield from error_codes(entry)
