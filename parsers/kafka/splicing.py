"""Messages with entries of an array left out or added, without decoding what stays.

A splice names the array by where its length field starts and where its last entry ends; its entries by the byte
ranges that stay. What is around the array stays as it is, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from parsers.errors import ParseError
from parsers.kafka.wire import Reader, varint

_INT32 = Struct(">i")
_INT16 = Struct(">h")

TOPIC_AUTHORIZATION_FAILED = 29
"""What is said of a topic that the client may not know of."""

OPERATIONS_UNKNOWN = b"\x80\x00\x00\x00"
"""-2147483648: the authorized operations of a topic or cluster (KIP-430) that nobody has asked for."""

Span = tuple[int, int]
"""Where something starts in a body, and where it ends."""


def length_field(count: int, compact: bool) -> bytes:
    """The length of an array."""
    return varint(count + 1) if compact else _INT32.pack(count)


def string_field(value: str | None, compact: bool) -> bytes:
    if value is None:
        return b"\0" if compact else b"\xff\xff"
    raw = value.encode()
    return (varint(len(raw) + 1) if compact else _INT16.pack(len(raw))) + raw


def read_count(read: Reader, compact: bool) -> int:
    """The length of an array that may not be null."""
    count = read.length(compact)
    if count < 0:
        raise ParseError("a list is null")
    return count


def read_name(read: Reader, compact: bool) -> str:
    """A string that may not be null."""
    name = read.string(compact)
    if name is None:
        raise ParseError("a name is null")
    return name


def with_entries(body: bytes, array: Span, kept: Iterable[Span], compact: bool, added: Iterable[bytes] = ()) -> bytes:
    """`body` with `kept` and `added` as the entries of `array`."""
    entries = [body[start:end] for start, end in kept]
    entries += added
    return b"".join((body[: array[0]], length_field(len(entries), compact), *entries, body[array[1] :]))
