"""Kafka's primitive types, read with all bounds checked (Apache Kafka protocol guide; KIP-482 for the compact ones).

Only the one canonical form is read: lengths below -1, varints longer than needed and bytes that run over the end are
a `ParseError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from types import MappingProxyType

from parsers.errors import ParseError

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_INT64 = Struct(">q")

Buffer = bytes | bytearray | memoryview


class Reader:
    """Reads `data` from `position` on. Every method moves `position` behind what it returns."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: Buffer, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self.end - self.position

    def skip(self, count: int) -> None:
        if count < 0 or count > self.end - self.position:
            raise ParseError("a field runs over the end of its message")
        self.position += count

    def take(self, count: int) -> bytes:
        start = self.position
        self.skip(count)
        return bytes(self.data[start : start + count])

    def int8(self) -> int:
        start = self.position
        self.skip(1)
        value = self.data[start]
        return value - 256 if value > 127 else value

    def boolean(self) -> bool:
        value = self.int8()
        if value not in (0, 1):
            raise ParseError("a truth value is neither 0 nor 1")
        return value == 1

    def int16(self) -> int:
        start = self.position
        self.skip(2)
        return int(_INT16.unpack_from(self.data, start)[0])

    def int32(self) -> int:
        start = self.position
        self.skip(4)
        return int(_INT32.unpack_from(self.data, start)[0])

    def int64(self) -> int:
        start = self.position
        self.skip(8)
        return int(_INT64.unpack_from(self.data, start)[0])

    def varint(self) -> int:
        """An unsigned varint of at most 32 bits, in its shortest form."""
        start = self.position
        if start < self.end and self.data[start] < 0x80:  # nearly all of them
            self.position = start + 1
            return self.data[start]
        value = shift = 0
        while True:
            start = self.position
            self.skip(1)
            byte = self.data[start]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise ParseError("a varint is longer than five bytes")
        if shift and not byte:
            raise ParseError("a varint is longer than it has to be")
        if value > 0xFFFFFFFF:
            raise ParseError("a varint is larger than 32 bits")
        return value

    def length(self, compact: bool, small: bool = False) -> int:
        """The length of a string (`small`), of bytes or of an array; -1 is null."""
        size = self.varint() - 1 if compact else self.int16() if small else self.int32()
        if size < -1:
            raise ParseError("a length is negative")
        if size > self.end - self.position:
            raise ParseError("a length runs over the end of its message")
        return size

    def string(self, compact: bool) -> str | None:
        size = self.length(compact, small=True)
        if size < 0:
            return None
        return text(self.take(size))

    def skip_tags(self, known: Mapping[int, Callable[[Reader], object]] = MappingProxyType({})) -> None:
        """Tagged fields: each tag once, in rising order. Those in `known` must have the size that they say: servers
        read on behind what the field is, whatever is said of its size."""
        start = self.position
        if start < self.end and not self.data[start]:  # hardly anybody has any
            self.position = start + 1
            return
        last = -1
        for _ in range(self.varint()):
            tag = self.varint()
            if tag <= last:
                raise ParseError("tagged fields are not in order")
            last = tag
            size = self.varint()
            stop = self.position + size
            inside = known.get(tag)
            if inside is None or stop > self.end:
                self.skip(size)
                continue
            inside(self)
            if self.position != stop:
                raise ParseError("a tagged field has another size than it says")

    def finish(self) -> None:
        if self.position != self.end:
            raise ParseError("bytes follow the end of a message")


def text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ParseError("a string is not UTF-8") from error


def varint(value: int) -> bytes:
    """An unsigned varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def framed(header: bytes, body: bytes) -> bytes:
    """A whole frame: its size, its header, its body."""
    return _INT32.pack(len(header) + len(body)) + header + body
