"""DescribeTopicPartitions (key 75), version 0 (KIP-966): like Metadata, in pages.

    request:  topics: [name], partitions per page, cursor: null or (topic, partition)
    answer:   throttle, topics: [error, name, id, internal, partitions, operations], next cursor

An empty list of topics means all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

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
from parsers.kafka.wire import Reader


@dataclass(frozen=True, slots=True)
class DescribeRequest:
    """`cursor`: the topic with which the page begins; None: the first. `entries`: where each name is in `body`."""

    names: list[str]
    cursor: str | None
    body: bytes
    array: Span
    entries: list[Span]

    @property
    def everything(self) -> bool:
        return not self.names


def read_request(body: bytes) -> DescribeRequest:
    """Raises ParseError unless `body` is a request, from its first byte to its last."""
    read = Reader(body)
    names: list[str] = []
    entries: list[Span] = []
    for _ in range(read_count(read, compact=True)):
        start = read.position
        names.append(read_name(read, compact=True))
        read.skip_tags()
        entries.append((start, read.position))
    array = (0, read.position)
    read.skip(4)  # partitions per page
    cursor = _cursor(read)
    read.skip_tags()
    read.finish()
    return DescribeRequest(names, cursor, body, array, entries)


def rewritten_request(request: DescribeRequest, names: Collection[str]) -> bytes:
    """The body of `request` without the names that are not in `names`. ValueError: none is left, which means all."""
    kept = [span for name, span in zip(request.names, request.entries, strict=True) if name in names]
    if not kept:
        raise ValueError("a request for no topics is one for all")
    return with_entries(request.body, request.array, kept, compact=True)


def spliced(body: bytes, keep: Callable[[str | None], bool], refused: Sequence[str] = ()) -> bytes | None:
    """The body of an answer without the topics that `keep` says no to, and with a refusal of each name in `refused`.

    None: it may stay as it is. The next page begins where it says, even at a topic that is left out of that page.
    """
    read = Reader(body)
    read.skip(4)  # for how long the client is throttled
    start = read.position
    count = read_count(read, compact=True)
    kept: list[Span] = []
    for _ in range(count):
        begin = read.position
        name = _topic(read)
        if keep(name):
            kept.append((begin, read.position))
    array = (start, read.position)
    _cursor(read)
    read.skip_tags()
    read.finish()
    if len(kept) == count and not refused:
        return None
    return with_entries(body, array, kept, compact=True, added=map(_refusal, refused))


def _topic(read: Reader) -> str | None:
    read.skip(2)  # an error
    name = read.string(compact=True)
    read.skip(17)  # its id; is it internal
    for _ in range(read_count(read, compact=True)):
        read.skip(14)  # error, index, leader, the leader's epoch
        for _ in ("replicas", "in sync", "eligible to lead", "last known to be so", "offline"):
            read.skip(4 * max(0, read.length(compact=True)))
        read.skip_tags()
    read.skip(4)  # authorized operations
    read.skip_tags()
    return name


def _refusal(name: str) -> bytes:
    """The entry of a topic that may not be seen, as servers write it that have access rules."""
    error = TOPIC_AUTHORIZATION_FAILED.to_bytes(2, "big")
    none = length_field(0, compact=True)
    return b"".join((error, string_field(name, compact=True), NO_ID, b"\0", none, OPERATIONS_UNKNOWN, b"\0"))


def _cursor(read: Reader) -> str | None:
    """A page's first topic. A struct that may be null begins with a byte: 1, or -1 for null."""
    mark = read.int8()
    if mark == -1:
        return None
    if mark != 1:
        raise ParseError("a field is neither null nor there")
    name = read_name(read, compact=True)
    read.skip(4)  # the partition
    read.skip_tags()
    return name
