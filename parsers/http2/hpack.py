"""Header compression, RFC 7541.

The decoder follows the table of whoever encodes. The encoder has no table: it writes literals only, which no decoder
stores, so what we say can never put the tables of the two ends apart.

Huffman codes are decoded by the library `hpack`; texts repeat, so what came out is remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from parsers.http2.frames import ConnectionFault, ErrorCode

MAX_TABLE = 4096
"""Bytes of a dynamic table, as RFC 7541 counts them: what everybody starts with, and more is never agreed to."""

MAX_NUMBER = 1 << 20
"""No length and no index is larger than this: far beyond every bound of a header block."""

MEMO_TEXTS = 4096
MEMO_TEXT_BYTES = 256
ENTRY_OVERHEAD = 32


class Field(NamedTuple):
    """One header field. `never_indexed`: nobody on the way may put it into a table (RFC 7541 §7.1.3)."""

    name: bytes
    value: bytes
    never_indexed: bool = False


STATIC: tuple[Field, ...] = tuple(Field(name, value) for name, value in HeaderTable.STATIC_TABLE)
"""RFC 7541, appendix A; index 1 is STATIC[0]."""

_STATIC_NAMES = {field.name: index + 1 for index, field in reversed(list(enumerate(STATIC)))}
_STATIC_FIELDS = {(field.name, field.value): index + 1 for index, field in reversed(list(enumerate(STATIC)))}
_texts: dict[bytes, bytes] = {}


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, reason)


class Decoder:
    """The table of one direction. `version` counts its changes: equal versions decode a block alike."""

    __slots__ = ("_entries", "_max_list", "_size", "_table_size", "limit", "version")

    def __init__(self, max_list: int) -> None:
        self.version = 0
        self.limit = MAX_TABLE
        """The largest table that the encoder may ask for."""
        self._entries: deque[Field] = deque()
        self._size = 0
        self._table_size = MAX_TABLE
        self._max_list = max_list

    @property
    def is_too_large(self) -> bool:
        """The other end lowered the limit, and the encoder has yet to follow (§4.2)."""
        return self._table_size > self.limit

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block, in order. Raises ConnectionFault; the table is of no use then."""
        fields: list[Field] = []
        size = at = 0
        end = len(block)
        if self.is_too_large and not (block and block[0] & 0xE0 == 0x20):
            raise _fault("a header block does not follow the new size of the table")
        while at < end:
            byte = block[at]
            if byte & 0x80:
                index, at = (byte & 0x7F, at + 1) if byte != 0xFF else _number(block, at, 0x7F)
                field = self._entry(index)
            elif byte & 0xE0 == 0x20:
                at = self._resize(block, at, is_first=not fields)
                continue
            else:
                field, at = self._literal(block, at, byte)
            size += len(field.name) + len(field.value) + ENTRY_OVERHEAD
            if size > self._max_list:
                raise ConnectionFault(
                    ErrorCode.ENHANCE_YOUR_CALM, "a header list is too large", limit="header_list_bytes"
                )
            fields.append(field)
        return fields

    def _entry(self, index: int) -> Field:
        if 0 < index <= len(STATIC):
            return STATIC[index - 1]
        at = index - len(STATIC) - 1
        if not 0 <= at < len(self._entries):
            raise _fault("a header block refers to an entry that is not in the table")
        return self._entries[at]

    def _literal(self, block: bytes, at: int, byte: int) -> tuple[Field, int]:
        is_stored = bool(byte & 0x40)
        index, at = _number(block, at, 0x3F if is_stored else 0x0F)
        if index:
            name = self._entry(index).name
        else:
            name, at = _text(block, at)
        value, at = _text(block, at)
        field = Field(name, value, byte & 0xF0 == 0x10)
        if is_stored:
            self._store(field)
        return field, at

    def _store(self, field: Field) -> None:
        self.version += 1
        self._entries.appendleft(field)
        self._size += len(field.name) + len(field.value) + ENTRY_OVERHEAD
        self._evict()

    def _evict(self) -> None:
        while self._size > self._table_size:
            gone = self._entries.pop()
            self._size -= len(gone.name) + len(gone.value) + ENTRY_OVERHEAD

    def _resize(self, block: bytes, at: int, *, is_first: bool) -> int:
        if not is_first:
            raise _fault("the size of the table changes in the middle of a header block")
        size, at = _number(block, at, 0x1F)
        if size > self.limit:
            raise _fault("the table is to become larger than was agreed")
        self.version += 1
        self._table_size = size
        self._evict()
        return at


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """(integer, index behind it), §5.1."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while at < len(block):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if value > MAX_NUMBER or shift > 21:
            break
        if not byte & 0x80:
            return value, at
        shift += 7
    raise _fault("a number of a header block is cut off or too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """(string literal, index behind it), §5.2."""
    if at >= len(block):
        raise _fault("a header block is cut off")
    is_coded = block[at] & 0x80
    length, at = _number(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise _fault("a header block is cut off")
    raw = block[at:end]
    return (_decoded(raw) if is_coded else raw), end


def _decoded(coded: bytes) -> bytes:
    text = _texts.get(coded)
    if text is None:
        try:
            text = bytes(decode_huffman(coded))
        except HPACKDecodingError:
            raise _fault("a Huffman code is not valid") from None
        if len(coded) <= MEMO_TEXT_BYTES:
            if len(_texts) >= MEMO_TEXTS:
                _texts.clear()
            _texts[coded] = text
    return text


def encode(fields: Iterable[Field | tuple[bytes, bytes]]) -> bytes:
    """A header block of literals and static entries: it means the same whatever is in the other end's table."""
    out = bytearray()
    for field in fields:
        name, value = field[0], field[1]
        never_indexed = len(field) > 2 and field[2]
        known = 0 if never_indexed else _STATIC_FIELDS.get((name, value), 0)
        if known:
            out.append(0x80 | known)
            continue
        kind = 0x10 if never_indexed else 0x00
        index = _STATIC_NAMES.get(name, 0)
        _put_number(out, index, 0x0F, kind)
        if not index:
            _put_text(out, name)
        _put_text(out, value)
    return bytes(out)


EMPTY_TABLE = b"\x20"
"""At the beginning of a block: the decoder forgets its table, and stores nothing any more."""


def _put_number(out: bytearray, value: int, mask: int, kind: int) -> None:
    if value < mask:
        out.append(kind | value)
        return
    out.append(kind | mask)
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_text(out: bytearray, text: bytes) -> None:
    _put_number(out, len(text), 0x7F, 0x00)
    out += text
