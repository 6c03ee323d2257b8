"""Produce and Fetch, read only as far as it takes to know their topics: records are stepped over, never looked at.

What names a topic is a `str` up to version 12 and the 16 bytes of its id from version 13 on (KIP-516).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from struct import Struct

from parsers.errors import ParseError
from parsers.kafka.wire import Buffer, Reader, text

PRODUCE = 0
FETCH = 1
WITH_IDS = 13
"""From this version on both name topics by id."""

FLEXIBLE_PRODUCE = 9
FLEXIBLE_FETCH = 12

Topic = str | bytes
TopicPartitions = tuple[Topic, list[int]]
"""A topic, and the partitions of it that a request is about."""

MAX_STRING = 32767
"""Bytes of a name or id, as in the non-compact form."""

MAX_PARTITIONS = 100_000
"""Partitions of one request."""

_INT32 = Struct(">i")


@dataclass(slots=True, eq=False)
class Produce:
    """`first`: the position behind the name of a topic that is the only one; 0 if there are others."""

    acks: int = 0
    topics: list[TopicPartitions] = field(default_factory=list)
    first: int = 0


@dataclass(slots=True)
class Fetch:
    """`session` is the position of session id and epoch (KIP-227), 0 where the version has none.

    `numbers`: where the plain numbers of each partition begin, and where they end.
    """

    max_wait_ms: int
    session: int = 0
    session_id: int = 0
    session_epoch: int = -1
    topics: list[TopicPartitions] = field(default_factory=list)
    numbers: list[tuple[int, int]] = field(default_factory=list)


def skim_produce(version: int, data: Buffer, start: int, end: int) -> Produce:
    """The body of a whole Produce request, versions 3 to 13."""
    compact = version >= FLEXIBLE_PRODUCE
    read = Reader(data, start, end)
    read.string(compact)  # the transactional id
    produce = Produce(read.int16())
    read.skip(4)  # the time-out
    counted = 0
    count = _counted_length(read, compact, 0)
    for _ in range(count):
        topic = _topic(read, version, compact)
        if count == 1:
            produce.first = read.position
        partitions = _produced_partitions(read, compact, counted)
        counted += len(partitions)
        produce.topics.append((topic, partitions))
    if compact:
        read.skip_tags()
    read.finish()
    return produce


def skim_produced(version: int, data: Buffer, start: int, end: int) -> None:
    """The same from the position `Produce.first` on: the partitions of the only topic. Raises ParseError."""
    compact = version >= FLEXIBLE_PRODUCE
    read = Reader(data, start, end)
    _produced_partitions(read, compact, 0)
    if compact:
        read.skip_tags()
    read.finish()


def _produced_partitions(read: Reader, compact: bool, counted: int) -> list[int]:
    partitions: list[int] = []
    for _ in range(_counted_length(read, compact, counted)):
        partitions.append(read.int32())
        size = read.length(compact)
        if size > 0:
            read.position += size
        if compact:
            read.skip_tags()
    if compact:
        read.skip_tags()
    return partitions


def _counted_length(read: Reader, compact: bool, counted: int) -> int:
    count = read.length(compact)
    if count < 0:
        raise ParseError("an array is missing")
    if counted + count > MAX_PARTITIONS:
        raise ParseError("a request has too many partitions", limit="partitions")
    return count


def _topic(read: Reader, version: int, compact: bool) -> Topic:
    if version >= WITH_IDS:
        return read.take(16)
    name = read.string(compact)
    if name is None:
        raise ParseError("a topic has no name")
    return name


def skim_fetch(version: int, data: Buffer, start: int, end: int) -> Fetch:
    """The body of a whole Fetch request, versions 4 to 18."""
    compact = version >= FLEXIBLE_FETCH
    read = Reader(data, start, end)
    if version <= 14:
        read.skip(4)  # the id of a replica
    fetch = Fetch(read.int32())
    read.skip(9)  # least and most bytes, isolation level
    if version >= 7:
        fetch.session = read.position
        fetch.session_id = read.int32()
        fetch.session_epoch = read.int32()
    counted = 0
    fixed = 16 + (4 if version >= 9 else 0) + (4 if version >= 12 else 0) + (8 if version >= 5 else 0)
    for _ in range(_counted_length(read, compact, 0)):
        topic = _topic(read, version, compact)
        partitions = _fetched_partitions(read, compact, fixed, counted, fetch.numbers)
        counted += len(partitions)
        fetch.topics.append((topic, partitions))
    if version >= 7:
        for _ in range(_counted_length(read, compact, 0)):  # topics that leave the session
            _topic(read, version, compact)
            read.skip(4 * _counted_length(read, compact, 0))
            if compact:
                read.skip_tags()
    if version >= 11 and read.string(compact) is None:  # the rack
        raise ParseError("a string is missing")
    if compact:
        read.skip_tags(_FETCH_TAGS)
    read.finish()
    return fetch


def _fetched_partitions(
    read: Reader, compact: bool, fixed: int, counted: int, numbers: list[tuple[int, int]]
) -> list[int]:
    partitions: list[int] = []
    for _ in range(_counted_length(read, compact, counted)):
        partitions.append(read.int32())
        first = read.position
        read.skip(fixed - 4)
        numbers.append((first, read.position))
        if compact:
            read.skip_tags(_FETCHED_TAGS)
    if compact:
        read.skip_tags()
    return partitions


def _replica_state(read: Reader) -> None:
    read.skip(12)  # who it is, and its epoch
    read.skip_tags()


_FETCH_TAGS: Mapping[int, Callable[[Reader], object]] = {0: lambda read: read.string(compact=True), 1: _replica_state}
"""The cluster's id (12+), and which replica asks (15+): in versions that do not have them servers refuse the tags."""

_FETCHED_TAGS: Mapping[int, Callable[[Reader], object]] = {0: lambda read: read.skip(16), 1: lambda read: read.skip(8)}
"""Of a partition: the directory that it is in (17+), its high watermark (18+). Other topics follow behind these."""


class ProduceWalk:
    """Follows the body of a Produce request as it arrives; holds nothing of its records.

    `is_single`: known to be about one topic, `topics[0]`, whatever is still to come. `is_done`: all has been read.
    """

    def __init__(self, version: int, size: int) -> None:
        self.produce = Produce()
        self.is_single = False
        self.is_done = False
        self._left = size
        self._ahead = 0
        self._partitions = 0
        self._skip = 0
        self._part = b""
        self._steps = self._walk(version, version >= FLEXIBLE_PRODUCE)
        self._wanted = next(self._steps)

    def feed(self, data: Buffer) -> None:
        """The next bytes of the body. Raises ParseError if they run over its end or are not in the one form."""
        self._left -= len(data)
        if self._left < 0:
            raise ParseError("a request runs over its end")
        position, end = 0, len(data)
        while position < end:
            if self._skip:
                count = min(self._skip, end - position)
                self._skip -= count
                position += count
                continue
            if self.is_done:
                raise ParseError("bytes follow the end of a message")
            count = min(self._wanted - len(self._part), end - position)
            self._part += bytes(data[position : position + count])
            position += count
            if len(self._part) == self._wanted:
                self._ahead = end - position
                self._step()
        if not self._left and (self._skip or not self.is_done):
            raise ParseError("a request ends in the middle")

    @property
    def unread(self) -> int:
        """Bytes that are left of the records that have begun."""
        return self._skip

    def passed(self, count: int) -> None:
        """Fewer than `unread` bytes have gone on without `feed`."""
        self._left -= count
        self._skip -= count

    def _step(self) -> None:
        part, self._part = self._part, b""
        try:
            self._wanted = self._steps.send(part)
        except StopIteration:
            self.is_done = True

    def _walk(self, version: int, compact: bool) -> Generator[int, bytes, None]:
        """Yields how many bytes it wants next, and is sent them."""
        produce = self.produce
        yield from self._string(compact)
        head = yield 6
        produce.acks = int.from_bytes(head[:2], "big", signed=True)
        count = yield from self._count(compact)
        if count > MAX_PARTITIONS:
            raise ParseError("a request has too many topics", limit="partitions")
        for _ in range(count):
            if version >= WITH_IDS:
                topic: Topic = yield 16
            else:
                name = yield from self._string(compact)
                if name is None:
                    raise ParseError("a topic has no name")
                topic = name
            partitions: list[int] = []
            produce.topics.append((topic, partitions))
            self.is_single = count == 1
            for _ in range((yield from self._count(compact))):
                partitions.append(_INT32.unpack((yield 4))[0])
                self._count_partition()
                self._skip = max(0, (yield from self._length(compact)))
                if compact:
                    yield from self._tags()
            if compact:
                yield from self._tags()
        if compact:
            yield from self._tags()

    def _count_partition(self) -> None:
        self._partitions += 1
        if self._partitions > MAX_PARTITIONS:
            raise ParseError("a request has too many partitions", limit="partitions")

    def _varint(self) -> Generator[int, bytes, int]:
        read = b""
        while True:
            byte = yield 1
            read += byte
            if byte[0] < 0x80 or len(read) > 5:
                return Reader(read).varint()

    def _length(self, compact: bool, small: bool = False) -> Generator[int, bytes, int]:
        if compact:
            size = (yield from self._varint()) - 1
        else:
            raw = yield 2 if small else 4
            size = int.from_bytes(raw, "big", signed=True)
        if size < -1:
            raise ParseError("a length is negative")
        if size > self._left + self._ahead:
            raise ParseError("a length runs over the end of its message")
        return size

    def _count(self, compact: bool) -> Generator[int, bytes, int]:
        count = yield from self._length(compact)
        if count < 0:
            raise ParseError("an array is missing")
        return count

    def _string(self, compact: bool) -> Generator[int, bytes, str | None]:
        size = yield from self._length(compact, small=True)
        if size < 0:
            return None
        if size > MAX_STRING:
            raise ParseError("a name is too long")
        if not size:
            return ""
        return text((yield size))

    def _tags(self) -> Generator[int, bytes, None]:
        last = -1
        for _ in range((yield from self._varint())):
            tag = yield from self._varint()
            if tag <= last:
                raise ParseError("tagged fields are not in order")
            last = tag
            self._skip = yield from self._varint()
