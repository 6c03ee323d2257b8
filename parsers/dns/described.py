"""What an answer says, for records of what went on: nothing is decided by it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from struct import error
from typing import Final

from parsers.dns.answer import ADDRESS_BYTES, cleaned_ttl, hints_of
from parsers.dns.message import HEADER, POINTER, RECORD, DnsError
from parsers.dns.names import Names, text
from parsers.dns.types import CNAME, HTTPS, IN, SVCB, type_name

MAX_DESCRIBED: Final = 64
"""Of each kind of thing that is told of an answer."""


@dataclass(slots=True)
class Described:
    """What an answer says, whether it is so or not. `types`: of its records, one by one; `ttl`: the least of those
    that have addresses or aliases.
    """

    addresses: tuple[bytes, ...]
    ttl: int
    cnames: tuple[str, ...]
    types: tuple[str, ...]


def describe(answer: bytes) -> Described:
    """For records of what went on; never raises. Of an answer that is broken: what comes before that."""
    told = _Telling()
    with suppress(DnsError, IndexError, error):
        told.read(answer)
    ttl = min(map(cleaned_ttl, told.ttls), default=0)
    return Described(tuple(told.addresses[:MAX_DESCRIBED]), ttl, tuple(told.cnames), tuple(told.types))


class _Telling:
    """What has been read so far."""

    def __init__(self) -> None:
        self.addresses: list[bytes] = []
        self.ttls: list[int] = []
        self.cnames: list[str] = []
        self.types: list[str] = []

    def read(self, answer: bytes) -> None:
        names = Names(answer)
        at = HEADER
        for _ in range(min(answer[4] << 8 | answer[5], MAX_DESCRIBED)):
            at = names.read(at)[1] + 4
        for _ in range(min(answer[6] << 8 | answer[7], MAX_DESCRIBED)):
            at = names.read(at)[1]
            kind, group, ttl, size = RECORD.unpack_from(answer, at)
            at += RECORD.size
            if at + size > len(answer):
                return
            self.types.append(type_name(kind))
            if group == IN:
                self._read_data(answer, names, kind, ttl, at, at + size)
            at += size

    def _read_data(self, answer: bytes, names: Names, kind: int, ttl: int, at: int, end: int) -> None:
        if kind in ADDRESS_BYTES:
            if end - at != ADDRESS_BYTES[kind]:
                return
            self.addresses.append(answer[at:end])
        elif kind == CNAME:
            self.cnames.append(text(names.read(at)[0]))
        elif kind in (SVCB, HTTPS):
            self.addresses += hints_of(answer[at:end])
        else:
            return
        self.ttls.append(ttl)


def record_types(answer: bytes) -> tuple[int, ...]:
    """Of the records in the answer section (RFC 1035 §4.1), in their order: all, and nothing but these.

    The parser has accepted the answer before; in bytes that it would not accept, what is found may be anything.
    """
    if len(answer) < HEADER:
        return ()
    questions, records = int.from_bytes(answer[4:6]), int.from_bytes(answer[6:8])
    found: list[int] = []
    try:
        at = HEADER
        for _ in range(questions):
            at = _behind_name(answer, at) + 4
        for _ in range(records):
            at = _behind_name(answer, at)
            found.append(answer[at] << 8 | answer[at + 1])
            at += RECORD.size + (answer[at + 8] << 8 | answer[at + 9])
    except IndexError:
        pass
    return tuple(found)


def _behind_name(message: bytes, at: int) -> int:
    length = message[at]
    while length:
        if length >= POINTER:
            return at + 2
        at += length + 1
        length = message[at]
    return at + 1
