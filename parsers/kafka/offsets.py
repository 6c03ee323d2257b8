"""OffsetFetch (key 9), versions 1 to 10: how far a group has read each topic.

    answer ≤ 7:  throttle 3+, topics: [name, partitions], error 2+
    answer 8+:   throttle, groups: [group, topics: [name ≤ 9 or id 10, partitions], error]

A client may ask for all topics of a group; then the server names topics that the client has not.
"""

from __future__ import annotations

from collections.abc import Callable

from parsers.kafka.splicing import Span, read_count, read_name, with_entries
from parsers.kafka.wire import Reader

FLEXIBLE = 6
WITH_GROUPS = 8
WITH_IDS = 10

Keep = Callable[[str | bytes], bool]
"""Of a topic, by its name or its id of 16 bytes: may the client know of it?"""


def without_topics(version: int, body: bytes, keep: Keep) -> bytes:
    """The body of an answer without the topics that `keep` says no to. Raises ParseError if it is not one."""
    read = Reader(body)
    compact = version >= FLEXIBLE
    if version >= 3:
        read.skip(4)  # for how long the client is throttled
    if version >= WITH_GROUPS:
        spliced = _groups(read, version, keep)
    else:
        array, kept = _topics(read, version, keep)
        if version >= 2:
            read.skip(2)  # an error of the whole
        spliced = with_entries(body, array, kept, compact)
    if compact:
        read.skip_tags()
    read.finish()
    return spliced


def _groups(read: Reader, version: int, keep: Keep) -> bytes:
    """Reads the groups. Returns the body with what is left of each."""
    body = bytes(read.data)
    start = read.position
    groups: list[bytes] = []
    for _ in range(read_count(read, compact=True)):
        begin = read.position
        read_name(read, compact=True)
        array, kept = _topics(read, version, keep)
        read.skip(2)  # an error of the group
        read.skip_tags()
        group = body[begin : read.position]
        in_group = (array[0] - begin, array[1] - begin)
        spans = [(first - begin, last - begin) for first, last in kept]
        groups.append(with_entries(group, in_group, spans, compact=True))
    return with_entries(body, (start, read.position), (), compact=True, added=groups)


def _topics(read: Reader, version: int, keep: Keep) -> tuple[Span, list[Span]]:
    """Reads an array of topics. Returns where it is, and where those are that stay."""
    compact = version >= FLEXIBLE
    start = read.position
    kept: list[Span] = []
    for _ in range(read_count(read, compact)):
        begin = read.position
        topic = read.take(16) if version >= WITH_IDS else read_name(read, compact)
        for _ in range(read_count(read, compact)):
            read.skip(16 if version >= 5 else 12)  # the partition, its offset, the leader's epoch
            read.string(compact)  # what the client has noted
            read.skip(2)  # an error
            if compact:
                read.skip_tags()
        if compact:
            read.skip_tags()
        if keep(topic):
            kept.append((begin, read.position))
    return (start, read.position), kept
