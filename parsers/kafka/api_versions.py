"""ApiVersions (key 18), versions 0 to 4: which requests a server understands, cut down to those that are judged here.

    answer:  error, keys: [key, lowest version, highest version], throttle 1+, tagged fields 3+

A server that does not know the version of the request answers in version 0 with error 35 (KIP-511). Clients learn from
this answer what they may send, so what is not in it they never try.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from parsers.errors import ParseError
from parsers.kafka.splicing import Span, read_count, with_entries
from parsers.kafka.wire import Reader

FLEXIBLE = 3
UNSUPPORTED_VERSION = 35

_RANGE = Struct(">hhh")

_Entry = tuple[int, int, int, bytes]
"""A key, its lowest and its highest version, and what follows in the entry."""


def intersected(version: int, body: bytes, ranges: Mapping[int, tuple[int, int]]) -> bytes:
    """The body with what both the server and `ranges` (key → lowest, highest version) know; all else stays as it is."""
    try:
        if int.from_bytes(body[:2], "big") == UNSUPPORTED_VERSION:
            return _intersected(0, body, ranges)
    except ParseError:
        pass  # not in version 0, so it must be in the one that was asked for
    return _intersected(version, body, ranges)


def _intersected(version: int, body: bytes, ranges: Mapping[int, tuple[int, int]]) -> bytes:
    entries, array = _read(version, body)
    kept = []
    for key, lowest, highest, rest in entries:
        ours = ranges.get(key)
        if ours is None:
            continue
        lowest, highest = max(lowest, ours[0]), min(highest, ours[1])
        if lowest <= highest:
            kept.append(_RANGE.pack(key, lowest, highest) + rest)
    return with_entries(body, array, (), version >= FLEXIBLE, kept)


def _read(version: int, body: bytes) -> tuple[list[_Entry], Span]:
    compact = version >= FLEXIBLE
    read = Reader(body)
    read.skip(2)  # the error
    start = read.position
    entries: list[_Entry] = []
    seen = set()
    for _ in range(read_count(read, compact)):
        key, lowest, highest = _RANGE.unpack(read.take(6))
        rest = read.position
        if compact:
            read.skip_tags()
        entries.append((key, lowest, highest, body[rest : read.position]))
        seen.add(key)
    if len(seen) < len(entries):
        raise ParseError("a server's versions name a request twice")
    array = (start, read.position)
    if version >= 1:
        read.skip(4)  # for how long the client is throttled
    if compact:
        read.skip_tags()
    read.finish()
    return entries, array
