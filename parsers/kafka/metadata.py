"""Metadata (key 3), versions 0 to 13: which topics there are, on which servers, and what their ids are (KIP-516).

    request:  topics: [(id 10+) name] or null, allow_auto_topic_creation 4+, …
    answer:   throttle 3+, brokers, cluster id 2+, controller 1+, topics: [error, name, (id 10+), …, partitions], …

Answers have thousands of partitions, so they are walked, not decoded: where each topic's entry starts and ends is all
that it takes to leave out those a client may not know of. Whoever asks for a topic that way is told what a server
with access rules of its own tells: error 29, no partitions; one asked for by its id keeps the id and has no name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from struct import Struct, error

from parsers.errors import ParseError
from parsers.kafka.splicing import (
    OPERATIONS_UNKNOWN,
    TOPIC_AUTHORIZATION_FAILED,
    Span,
    length_field,
    read_count,
    read_name,
    string_field,
    with_entries,
)
from parsers.kafka.topic_ids import NO_ID
from parsers.kafka.wire import Reader, text

FLEXIBLE = 9
"""From this version on lengths are compact and there are tagged fields (KIP-482)."""

WITH_IDS = 10
"""From this version on topics have ids."""

BY_ID = 12
"""From this version on a topic may be asked for by its id, and then its name is null."""

EVERYTHING_V0 = bytes(4)
"""The body of a request of version 0 for all topics; from version 1 on an empty list means none, and null means all."""

_INT32 = Struct(">i")
_ERROR = TOPIC_AUTHORIZATION_FAILED.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """`names` and `ids` in the order of the request; `everything`: it asks for all topics.

    `body` is just the request. `entries`: each entry's name (None: by id alone) and its bytes in `body`; `array`: where
    all of them are.
    """

    names: list[str]
    ids: list[bytes]
    everything: bool
    allow_auto_topic_creation: bool
    body: bytes
    array: Span
    entries: list[tuple[str | None, Span]]


@dataclass(slots=True)
class MetadataTopic:
    """What an answer says of a topic in `body[start:end]`. `id`: 16 bytes, all zero where the version has none."""

    name: str | None
    id: bytes
    error: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MetadataAnswer:
    """`array`: where the topics are in `body`, with their count."""

    version: int
    body: bytes
    topics: list[MetadataTopic]
    array: Span


def read_request(version: int, body: bytes) -> MetadataRequest:
    """Raises ParseError unless `body` begins with a request of this version.

    librdkafka 2.16 sends bytes behind it when it asks for all topics, and servers do not look at them: they are left
    out of `MetadataRequest.body`.
    """
    read = Reader(body)
    compact = version >= FLEXIBLE
    count = read.length(compact)
    if count < 0 and version == 0:
        raise ParseError("a list of topics is null")
    names: list[str] = []
    ids: list[bytes] = []
    entries: list[tuple[str | None, Span]] = []
    for _ in range(count):
        start = read.position
        name, topic_id = _requested(read, version, compact)
        if name is not None:
            names.append(name)
        if topic_id != NO_ID:
            ids.append(topic_id)
        entries.append((name, (start, read.position)))
    array = (0, read.position)
    allow = read.boolean() if version >= 4 else True
    if version >= 8:
        for _ in range(2 if version <= 10 else 1):  # are operations asked for, of the cluster, and of topics?
            read.boolean()
    if compact:
        read.skip_tags()
    everything = count < 0 or (version == 0 and not count)
    return MetadataRequest(names, ids, everything, allow, body[: read.position], array, entries)


def _requested(read: Reader, version: int, compact: bool) -> tuple[str | None, bytes]:
    topic_id = read.take(16) if version >= WITH_IDS else NO_ID
    name = read.string(compact)
    if name is None and (version < BY_ID or topic_id == NO_ID):
        raise ParseError("a topic has no name")
    if topic_id != NO_ID and version < BY_ID:
        raise ParseError("a topic is named by its id in a version that does not know that")
    if compact:
        read.skip_tags()
    return name, topic_id


def rewritten_request(version: int, request: MetadataRequest, names: Collection[str]) -> bytes:
    """The body of `request` without the names that are not in `names`; what is asked for by id alone stays.

    What a server is not asked for it can not create. ValueError: nothing is left in version 0, where that means all.
    """
    kept = [span for name, span in request.entries if name is None or name in names]
    if version == 0 and not kept:
        raise ValueError("in version 0 a request for no topics is one for all")
    if len(kept) == len(request.entries):
        return request.body
    return with_entries(request.body, request.array, kept, version >= FLEXIBLE)


def request_for_ids(ids: Collection[bytes]) -> bytes:
    """The body of a request of version 12 for the names of these ids that creates no topic."""
    entries = b"".join([topic_id + b"\0\0" for topic_id in ids])
    return length_field(len(ids), compact=True) + entries + b"\0\0\0"


def read_answer(version: int, body: bytes) -> MetadataAnswer:
    """Raises ParseError unless `body` begins with an answer of this version.

    librdkafka's own cluster for tests sends a byte behind version 13, which clients do not look at. What is behind an
    answer is not in `MetadataAnswer.body`.
    """
    read = Reader(body)
    compact = version >= FLEXIBLE
    if version >= 3:
        read.skip(4)  # for how long the client is throttled
    _skip_brokers(read, version, compact)
    if version >= 2:
        read.string(compact)  # the cluster's id
    if version >= 1:
        read.skip(4)  # the controller
    start = read.position
    count = read_count(read, compact)
    topics = _Topics(version, body)
    topics.walk(read, count)
    array = (start, read.position)
    if 8 <= version <= 10:
        read.skip(4)  # authorized operations of the cluster
    if version >= 13:
        read.skip(2)  # an error of the whole
    if compact:
        read.skip_tags()
    if read.left < 0:
        raise ParseError("a field runs over the end of its message")
    return MetadataAnswer(version, body[: read.position], topics.found, array)


def _skip_brokers(read: Reader, version: int, compact: bool) -> None:
    for _ in range(read_count(read, compact)):
        read.skip(4)  # the node's number
        read_name(read, compact)  # its address
        read.skip(4)  # its port
        if version >= 1:
            read.string(compact)  # its rack
        if compact:
            read.skip_tags()


class _Topics:
    """Walks the topics of an answer, of which the partitions make up the most.

    `_skip_partitions` is the rule; the other two do the same in fewer steps for partitions as they come, and give up
    with an IndexError or struct.error on all else.
    """

    __slots__ = ("_behind_name", "_body", "_compact", "_fixed", "_has_offline", "_version", "found")

    def __init__(self, version: int, body: bytes) -> None:
        self.found: list[MetadataTopic] = []
        self._version = version
        self._body = body
        self._compact = version >= FLEXIBLE
        self._behind_name = (16 if version >= WITH_IDS else 0) + (1 if version >= 1 else 0)  # id; is it internal
        self._fixed = 14 if version >= 7 else 10  # of a partition: error, index, leader, the leader's epoch
        self._has_offline = version >= 5

    def walk(self, read: Reader, count: int) -> None:
        """Moves `read` behind the last of `count` topics."""
        compact, found, body, fixed = self._compact, self.found, self._body, self._behind_name
        skip_quickly = self._skip_compact_partitions if compact else self._skip_plain_partitions
        topic_id = NO_ID
        for _ in range(count):
            start = read.position
            code = read.int16()
            name = self._name(read)
            if fixed > 1:
                topic_id = body[read.position : read.position + 16]
            read.skip(fixed)
            partitions = read_count(read, compact)
            try:
                read.position = skip_quickly(read.position, partitions)
            except (IndexError, error):
                self._skip_partitions(read, partitions)
            if self._version >= 8:
                read.skip(4)  # authorized operations
            if compact:
                if body[read.position : read.position + 1] == b"\0":
                    read.position += 1
                else:
                    read.skip_tags()
            found.append(MetadataTopic(name, topic_id, code, start, read.position))

    def _name(self, read: Reader) -> str | None:
        if self._compact:
            start = read.position
            raw = self._body[start : start + 1]
            if b"\1" < raw < b"\x80":
                read.skip(raw[0])
                return text(self._body[start + 1 : read.position])
        name = read.string(self._compact)
        if name is None and self._version < BY_ID:
            raise ParseError("a topic has no name")
        return name

    def _skip_partitions(self, read: Reader, count: int) -> None:
        compact = self._compact
        for _ in range(count):
            read.skip(self._fixed)
            read.skip(4 * read_count(read, compact))  # replicas
            read.skip(4 * read_count(read, compact))  # those in sync
            if self._has_offline:
                read.skip(4 * read_count(read, compact))  # those offline
            if compact:
                read.skip_tags()

    def _skip_compact_partitions(self, position: int, count: int) -> int:
        """Returns where they end, which may be behind the end of the body."""
        body, fixed = self._body, self._fixed
        for _ in range(count):
            # Three arrays of numbers with four bytes each, each behind its length + 1; then the number of tags.
            position += fixed
            replicas = body[position]
            position += 4 * replicas - 3
            in_sync = body[position]
            position += 4 * in_sync - 3
            offline = body[position]
            position += 4 * offline - 3
            if body[position] or not (replicas and in_sync and offline) or (replicas | in_sync | offline) > 0x7F:
                raise IndexError
            position += 1
        return position

    def _skip_plain_partitions(self, position: int, count: int) -> int:
        """Returns where they end, which may be behind the end of the body."""
        body, fixed, has_offline, unpack = self._body, self._fixed, self._has_offline, _INT32.unpack_from
        for _ in range(count):
            position += fixed
            (replicas,) = unpack(body, position)
            position += 4 + 4 * replicas
            (in_sync,) = unpack(body, position)
            position += 4 + 4 * in_sync
            if has_offline:
                (offline,) = unpack(body, position)
                position += 4 + 4 * offline
            else:
                offline = 0
            if replicas < 0 or in_sync < 0 or offline < 0:
                raise IndexError
        return position


def spliced(
    answer: MetadataAnswer,
    keep: Callable[[MetadataTopic], bool],
    refused: Sequence[str] = (),
    by_id: Collection[bytes] = (),
) -> bytes | None:
    """The body without the topics that `keep` says no to, and with a refusal of each name in `refused`.

    `by_id`: the ids that the request has asked for; such a topic is not left out but refused in its place. None: the
    answer may stay as it is.
    """
    kept: list[Span] = []
    added: list[bytes] = []
    for topic in answer.topics:
        if keep(topic):
            kept.append((topic.start, topic.end))
        elif topic.id != NO_ID and topic.id in by_id:
            added.append(_refusal(answer.version, None, topic.id))
    if len(kept) == len(answer.topics) and not refused:
        return None
    added += [_refusal(answer.version, name, NO_ID) for name in refused]
    return with_entries(answer.body, answer.array, kept, answer.version >= FLEXIBLE, added)


def _refusal(version: int, name: str | None, topic_id: bytes) -> bytes:
    """The entry of a topic that may not be seen, as servers write it that have access rules."""
    compact = version >= FLEXIBLE
    return b"".join(
        (
            _ERROR,
            string_field(name, compact),
            topic_id if version >= WITH_IDS else b"",
            b"\0" if version >= 1 else b"",  # not internal
            length_field(0, compact),  # no partitions
            OPERATIONS_UNKNOWN if version >= 8 else b"",
            b"\0" if compact else b"",
        )
    )
