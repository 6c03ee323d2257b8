"""A second reading of what has reached a server: by kafka-python alone, and what has topics by the schemas' names."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from parsers.kafka.codecs import request_class

HEADER = struct.Struct(">ihhih")
"""Size, key, version, correlation id, length of the client id."""

PRODUCE, METADATA = 0, 3
ASSIGNED = frozenset((68, 76))
"""Requests in which ids are what the server itself has assigned before."""

FORGOTTEN = "ForgottenTopicsData"
"""Of Fetch: topics that leave a session. The filter lets no session come about, so nothing is left."""

CONFIGS = frozenset((32, 33, 44))
TOPIC_RESOURCE = 2

Schema = Sequence[Mapping[str, Any]]


class Understood(NamedTuple):
    """`ids`: 16 bytes each. `everything`: Metadata of all topics. `acks`: of Produce."""

    key: int
    version: int
    number: int
    names: frozenset[str]
    ids: frozenset[bytes]
    everything: bool
    acks: int


class Cut(NamedTuple):
    """Whole frames with their sizes, and what is left behind them."""

    frames: list[bytes]
    rest: bytes


def cut(data: bytes) -> Cut:
    frames, position = [], 0
    while len(data) - position >= 4:
        size = int.from_bytes(data[position : position + 4], "big", signed=True)
        if size < 0 or len(data) - position - 4 < size:
            break
        frames.append(data[position : position + 4 + size])
        position += 4 + size
    return Cut(frames, data[position:])


def understood(frame: bytes) -> Understood:
    """What a server sees in a whole frame. Raises whatever there is to raise if it is no request in the one form."""
    size, key, version, number, client = HEADER.unpack_from(frame)
    assert size == len(frame) - 4
    position = HEADER.size + max(0, client)
    assert position <= len(frame)
    frame[HEADER.size : position].decode()
    if request_class(key).flexible_version_q(version):
        position = _behind_tags(frame, position)
    return Understood(key, version, number, *_body(key, version, frame[position:]))


def _behind_tags(data: bytes, position: int) -> int:
    count, position = _varint(data, position)
    for _ in range(count):
        _, position = _varint(data, position)
        size, position = _varint(data, position)
        position += size
    assert position <= len(data)
    return position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


@lru_cache(maxsize=4096)
def _body(key: int, version: int, body: bytes) -> tuple[frozenset[str], frozenset[bytes], bool, int]:
    cls = request_class(key)
    message = cls.decode(body, version=version)
    _assert_all_is_read(message, key, version, body)
    names: set[str] = set()
    ids: set[bytes] = set()
    if key in CONFIGS:
        names |= {item.resource_name for item in message.resources if item.resource_type == TOPIC_RESOURCE}
    for value in _topics(message, version, cls.json["fields"]):
        if isinstance(value, UUID):
            ids.add(value.bytes)
        else:
            names.add(value)
    ids.discard(bytes(16))
    everything = key == METADATA and (message.topics is None or (version == 0 and not message.topics))
    return frozenset(names), frozenset(ids), everything, getattr(message, "acks", -1)


def _assert_all_is_read(message: Any, key: int, version: int, body: bytes) -> None:
    """Written again it is the same, but for tagged fields that are not known or say what their absence says."""
    written = _written(message)
    if written != body and not has_unknown_tags(message):
        # As long as before: Metadata with a truth value that is neither 0 nor 1 (see test_shape).
        assert len(written) < len(body) or (key == METADATA and len(written) == len(body)), "bytes that nobody has read"
        assert repr(request_class(key).decode(written, version=version)) == repr(message), "it is read in two ways"


def _written(message: Any) -> bytes:
    message._header = None
    return bytes(message.encode())


def has_unknown_tags(message: Any) -> bool:
    if message.unknown_tags:
        return True
    values = [getattr(message, name) for name in message._struct.fields]
    entries = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    return any(has_unknown_tags(entry) for entry in entries if hasattr(entry, "unknown_tags"))


def _topics(message: Any, version: int, schema: Schema) -> Iterator[str | UUID]:
    for field in schema:
        if not any_topic_field((field,)) or field["name"] == FORGOTTEN:
            continue
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", field["name"]).lower()
        if not message._struct.fields[name].for_version_q(version):
            continue
        value = getattr(message, name)
        for entry in value if isinstance(value, list) else [value]:
            if entry is None:
                continue
            if is_topic_field(field):
                yield entry
            else:
                yield from _topics(entry, version, field["fields"])


def is_topic_field(field: Mapping[str, Any]) -> bool:
    return field.get("entityType") == "topicName" or (field["name"], field["type"]) == ("TopicId", "uuid")


def any_topic_field(schema: Schema) -> bool:
    return any(is_topic_field(field) or any_topic_field(field.get("fields", ())) for field in schema)
