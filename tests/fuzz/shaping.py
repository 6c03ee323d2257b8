"""What the bytes of a fuzzer mean: a few that choose how the rest arrives, then the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

HEAD_BYTES = 4


class Shape(NamedTuple):
    """`sizes`: of the pieces that the bytes arrive in, taken in turn; 0 is all that is left."""

    is_tight: bool
    """With limits so small that they are reached."""

    variant: int
    """0 to 7: what it chooses is the target's to say."""

    ending: int
    """0 to 7: see `tests.fuzz.run`."""

    sizes: bytes


def shaped(data: bytes) -> tuple[Shape, bytes]:
    """(how the rest arrives, the rest)."""
    head = data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0")
    return Shape(bool(head[0] & 1), head[0] >> 1 & 7, head[0] >> 4 & 7, head[1:]), data[HEAD_BYTES:]


def shape(sizes: bytes = b"\1\7\0", *, is_tight: bool = False, variant: int = 0, ending: int = 0) -> bytes:
    """The first bytes of an input."""
    return bytes((is_tight | variant << 1 | ending << 4,)) + sizes


def pieces(data: bytes, sizes: bytes) -> Iterator[bytes]:
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)] or len(data)
        yield data[at : at + size]
        at += size
        turn += 1


class Reader:
    """Takes parts from the front; what is not there is zero, or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size))

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken
