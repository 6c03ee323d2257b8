"""Kafka messages as objects, by kafka-python's codecs: all requests that clients make, and their answers.

kafka-python reads leniently, so `parsers.kafka.shape` has looked at the bytes of a request before: they are in the one
form that everybody reads alike. What kafka-python has no schema of comes from `parsers.kafka.schemas`.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from functools import cache, lru_cache
from struct import error as StructError
from typing import Any

from parsers.errors import ParseError
from parsers.kafka import schemas
from parsers.kafka.shape import Shape, shape_of

_FAILURES = (IndexError, KeyError, ValueError, TypeError, OverflowError, AssertionError, StructError, EOFError)
"""What kafka-python raises for bytes that are no message."""

_OWN = (
    *("CreateDelegationToken", "RenewDelegationToken", "ExpireDelegationToken", "DescribeDelegationToken"),
    *("UnregisterBroker", "ConsumerGroupHeartbeat", "ConsumerGroupDescribe", "GetTelemetrySubscriptions"),
    *("PushTelemetry", "ShareGroupHeartbeat", "ShareGroupDescribe", "ShareFetch", "ShareAcknowledge"),
    *("StreamsGroupHeartbeat", "StreamsGroupDescribe", "DescribeShareGroupOffsets", "AlterShareGroupOffsets"),
    *("DeleteShareGroupOffsets", "AddRaftVoter", "RemoveRaftVoter", "InitializeShareGroupState"),
    *("ReadShareGroupState", "WriteShareGroupState", "DeleteShareGroupState", "ReadShareGroupStateSummary"),
)

_USUAL = (
    (0, 3),
    (0, 7),
    (0, 9),
    (0, 13),
    (1, 4),
    (1, 11),
    (1, 12),
    (1, 17),
    (3, 12),
    (3, 13),
    (8, 9),
    (12, 4),
    (18, 4),
)
"""(key, version) of what clients send most: compiled before the first of them comes."""


def _theirs() -> dict[str, Any]:
    from kafka.protocol import admin, consumer, metadata, producer, sasl
    from kafka.protocol.api_message import ApiMessage

    found: dict[str, Any] = {}
    for module in (admin, consumer, metadata, producer, sasl):
        for name, member in vars(module).items():
            if inspect.isclass(member) and issubclass(member, ApiMessage) and name.endswith(("Request", "Response")):
                found[name] = member
    return found


def _ours(name: str) -> Any:
    from kafka.protocol.api_message import ApiMessage

    return types.new_class(name, (ApiMessage,), {"load_json": schemas})


@cache
def classes() -> dict[tuple[int, str], Any]:
    """(key, "request" or "response") → class. Made when the first is needed: it takes half a second."""
    found = _theirs() | {name: _ours(name) for base in _OWN for name in (f"{base}Request", f"{base}Response")}
    found = {name: cls for name, cls in found.items() if "apiKey" in (cls.json or {})}
    return {(cls.json["apiKey"], cls.json["type"]): cls for cls in found.values()}


def request_class(key: int) -> Any:
    return classes()[key, "request"]


def response_class(key: int) -> Any:
    return classes()[key, "response"]


def is_flexible(key: int, version: int) -> bool:
    """Has the message compact lengths and tagged fields?"""
    return bool(request_class(key).flexible_version_q(version))


@lru_cache(maxsize=1024)
def shape(key: int, kind: str, version: int) -> Shape:
    """Of the "request" or "response" `key`."""
    cls = classes()[key, kind]
    return shape_of(cls.json, version, compact=bool(cls.flexible_version_q(version)))


def decode_request(key: int, version: int, body: bytes) -> Any:
    """The message behind a request's header. Raises ParseError for all that is not in the one form."""
    return _decode(key, "request", version, body)


def decode_response(key: int, version: int, body: bytes) -> Any:
    """The message behind an answer's header."""
    return _decode(key, "response", version, body)


def _decode(key: int, kind: str, version: int, body: bytes) -> Any:
    cls = classes().get((key, kind))
    if cls is None:
        raise ParseError(f"request {key} is not known")
    shape(key, kind, version).read(body)
    try:
        return cls.decode(body, version=version)
    except _FAILURES as error:
        raise ParseError(f"{cls.json['name']} {version} can not be decoded: {error}") from error


def encode_request_body(message: Any) -> bytes:
    return bytes(message.encode())


def encode_response(message: Any, correlation_id: int) -> bytes:
    """A whole frame: size, header, message."""
    message.with_header(correlation_id=correlation_id)
    return bytes(message.encode(header=True, framed=True))


def warm() -> None:
    """Make all classes now, and compile the usual codecs, before the first request waits for that."""
    for key, version in _USUAL:
        message = response_class(key)(version=version)
        encode_response(message, 0)
        shape(key, "request", version)


def build(kind: str, key: int, version: int, /, **fields: Any) -> Any:
    """A "request" or "response" of plain values: structures as dicts. What is left out has its default."""
    return _built(classes()[key, kind], version, fields)


def _built(cls: Any, version: int, values: Mapping[str, Any]) -> Any:
    known = cls._struct.fields
    made = {}
    for name, value in values.items():
        item = known[name]
        if item.is_struct_array():
            value = [_built(item.data_class, version, entry) for entry in value] if value is not None else None
        elif item.is_struct():
            value = None if value is None else _built(item.data_class, version, value)
        made[name] = value
    for name, item in known.items():
        # kafka-python has no default for a structure.
        if name not in made and item.is_struct() and item.for_version_q(version) and not item.tagged_field_q(version):
            made[name] = None if item.nullable_for_version_q(version) else _built(item.data_class, version, {})
    return cls(version=version, **made)
