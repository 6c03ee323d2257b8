"""The form of a message by its schema, checked strictly: every length in its bounds, every varint in its shortest form,
every tag once and in order, and nothing behind the end. On the way the topics that it names are noted.

Tagged fields of tags that the schema does not have are stepped over (KIP-482 lets newer clients add them). Those that
it has must have the size that they say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from parsers.errors import ParseError
from parsers.kafka.wire import Reader

MAX_ENTRIES = 50_000
"""Entries of all arrays of one message: each becomes an object."""

_FIXED = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "float64": 8,
    "bitfield": 4,
    "uuid": 16,
}
_TOPIC_ID = ("TopicId", "uuid")
_NO_ID = bytes(16)

Check = Callable[["Noted"], None]


class Noted(Reader):
    """A reader that counts entries and notes topics.

    `names` and `ids` (16 bytes each) as they come; `everything`: where topics could be named there is null, for all.
    """

    __slots__ = ("entries", "everything", "ids", "names")

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.entries = 0
        self.names: list[str] = []
        self.ids: list[bytes] = []
        self.everything = False

    def count(self, compact: bool) -> int:
        count = self.length(compact)
        self.entries += max(0, count)
        if self.entries > MAX_ENTRIES:
            raise ParseError("a message has too many entries", limit="entries")
        return count


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one message in one version. `has_topics`: there are fields for topics in it."""

    steps: tuple[Check, ...]
    has_topics: bool

    def read(self, body: bytes) -> Noted:
        """Raises ParseError if these bytes are not such a message."""
        noted = Noted(body)
        for step in self.steps:
            step(noted)
        noted.finish()
        return noted


def shape_of(schema: Mapping[str, Any], version: int, *, compact: bool) -> Shape:
    """`schema` in the form of Apache Kafka's message definitions; `compact` as KIP-482 says."""
    fields = _Fields(version, compact)
    return Shape(tuple(fields.steps(schema["fields"])), fields.has_topics)


@dataclass(slots=True)
class _Fields:
    version: int
    compact: bool
    has_topics: bool = False

    def steps(self, fields: Sequence[Mapping[str, Any]]) -> list[Check]:
        found: list[Check] = []
        fixed = 0
        tagged: dict[int, Check] = {}
        for item in fields:
            if not _covers(item.get("versions", "0+"), self.version):
                continue
            if "tag" in item and _covers(item.get("taggedVersions", "none"), self.version):
                tagged[item["tag"]] = self._check(item)
                continue
            size = _FIXED.get(item["type"])
            if size is not None and item["type"] != "bool" and not _is_topic(item):
                fixed += size
                continue
            if fixed:
                found.append(_skipper(fixed))
                fixed = 0
            found.append(self._check(item))
        if fixed:
            found.append(_skipper(fixed))
        if self.compact:
            found.append(_tags(tagged))
        return found

    def _check(self, item: Mapping[str, Any]) -> Check:
        kind: str = item["type"]
        self.has_topics |= _is_topic(item)
        nullable = _covers(item.get("nullableVersions", "none"), self.version)
        if kind.startswith("[]"):
            return self._array(item, kind[2:], nullable)
        if kind == "bool":
            return _bool
        if kind in _FIXED:
            return _topic_id if _is_topic(item) else _skipper(_FIXED[kind])
        if kind == "string":
            return _topic_name(self.compact, nullable) if _is_topic(item) else _string(self.compact, nullable)
        if kind in ("bytes", "records"):
            return _bytes(self.compact, nullable)
        return _struct(self.steps(item["fields"]), nullable)

    def _array(self, item: Mapping[str, Any], kind: str, nullable: bool) -> Check:
        if kind in _FIXED and kind != "bool":
            return _fixed_array(_FIXED[kind], self.compact, nullable)
        if kind in _FIXED or kind in ("string", "bytes", "records"):
            inner = {**item, "type": kind, "nullableVersions": "none"}
            return _array([self._check(inner)], self.compact, nullable)
        outer, self.has_topics = self.has_topics, False
        steps = self.steps(item["fields"])
        means_all, self.has_topics = self.has_topics, self.has_topics or outer
        return _array(steps, self.compact, nullable, means_all)


def _is_topic(item: Mapping[str, Any]) -> bool:
    return item.get("entityType") == "topicName" or (item.get("name"), item["type"]) == _TOPIC_ID


def _covers(versions: str, version: int) -> bool:
    if versions == "none":
        return False
    low, _, high = versions.partition("-")
    if low.endswith("+"):
        return version >= int(low[:-1])
    return int(low) <= version <= (int(high) if high else int(low))


def _skipper(size: int) -> Check:
    def check(read: Noted) -> None:
        read.skip(size)

    return check


def _bool(read: Noted) -> None:
    read.boolean()


def _string(compact: bool, nullable: bool) -> Check:
    def check(read: Noted) -> None:
        if read.string(compact) is None and not nullable:
            raise ParseError("a string is missing")

    return check


def _topic_name(compact: bool, nullable: bool) -> Check:
    def check(read: Noted) -> None:
        name = read.string(compact)
        if name is not None:
            read.names.append(name)
        elif not nullable:
            raise ParseError("a topic has no name")

    return check


def _topic_id(read: Noted) -> None:
    topic = read.take(16)
    if topic != _NO_ID:
        read.ids.append(topic)


def _bytes(compact: bool, nullable: bool) -> Check:
    def check(read: Noted) -> None:
        size = read.length(compact)
        if size < 0 and not nullable:
            raise ParseError("bytes are missing")
        read.skip(max(0, size))

    return check


def _struct(steps: Sequence[Check], nullable: bool) -> Check:
    def check(read: Noted) -> None:
        if nullable:
            present = read.int8()
            if present == -1:
                return
            if present != 1:
                raise ParseError("a structure is neither there nor missing")
        for step in steps:
            step(read)

    return check


def _fixed_array(size: int, compact: bool, nullable: bool) -> Check:
    def check(read: Noted) -> None:
        count = read.count(compact)
        if count < 0 and not nullable:
            raise ParseError("an array is missing")
        read.skip(size * max(0, count))

    return check


def _array(steps: Sequence[Check], compact: bool, nullable: bool, means_all: bool = False) -> Check:
    """`means_all`: its entries are about topics, and null stands for all of them."""

    def check(read: Noted) -> None:
        count = read.count(compact)
        if count < 0:
            if not nullable:
                raise ParseError("an array is missing")
            read.everything |= means_all
        for _ in range(count):
            for step in steps:
                step(read)

    return check


def _tags(known: Mapping[int, Check]) -> Check:
    # What checks the fields of a message reads from the same reader that steps over its tags.
    fields = cast("Mapping[int, Callable[[Reader], object]]", known)

    def check(read: Noted) -> None:
        read.skip_tags(fields)

    return check
