"""Answers: does one belong to a query, and which addresses does it give the name that was asked for?

    www.example.  A?  ──▶  www.example. CNAME a.example.    the chain that begins at the name in question
                           a.example.   CNAME b.example.
                           b.example.   A 192.0.2.1         the name's addresses: at the end of the chain
                           c.example.   A 192.0.2.2         of somebody else: opens nothing
                           www.example. A 192.0.2.3         beside the chain: opens nothing

RFC 1035 §4, RFC 1034 §3.6.2, RFC 2181 §8, RFC 9460 §2.2. Only the answer section teaches anything; of the others only
where their records end is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from struct import error
from typing import Final

from parsers.dns.message import HEADER, MAX_LABEL, RECORD, DnsError, Query
from parsers.dns.names import Names
from parsers.dns.types import AAAA, ANY, CNAME, HTTPS, IN, OPT, SVCB, A

MAX_MESSAGE: Final = 65535
MAX_RECORDS: Final = 4096
"""Records of one answer, in all its sections."""

MAX_CHAIN: Final = 16
"""CNAMEs that lead from the name in question to its addresses."""

MAX_TTL: Final = 604800
"""A week, as resolvers have it."""

_NO_COUNTS: Final = bytes(8)
_ONE: Final = b"\0\1"
_KIND: Final = 0xF8
"""The bits of the third byte that tell an answer (0x80) to a query of the standard kind."""

_ANSWER: Final = 0x80
_TRUNCATED: Final = 0x02
_RCODE: Final = 0x0F
_NOT_UNDERSTOOD: Final = frozenset((1, 4))
_QUESTION_NAME: Final = b"\xc0\x0c"
_FIXED: Final = RECORD.size
_EXTENDED_RCODE: Final = 24
_MAX_SIGNED: Final = 0x7FFFFFFF

_WANTED: Final[dict[int, tuple[int, ...]]] = {
    A: (A,),
    AAAA: (AAAA,),
    ANY: (A, AAAA),
    SVCB: (SVCB,),
    HTTPS: (HTTPS,),
}
"""By the type of the query: the types of records whose addresses count."""

ADDRESS_BYTES: Final = {A: 4, AAAA: 16}
_HINT_BYTES: Final = {4: 4, 6: 16}
"""`ipv4hint` and `ipv6hint`: bytes of one address."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""IPv6 addresses that are IPv4 ones in truth (RFC 4291 §2.5.5.2): they are no answer to a question for IPv6."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """`addresses`: 4 or 16 bytes each, no two alike. `ttl`: the least of all records that led to them, in seconds."""

    addresses: tuple[bytes, ...]
    ttl: int


NOTHING: Final = Learnt((), 0)


def fits(answer: bytes, query: Query) -> bool:
    """Is this an answer to this very query? The id is not looked at. A server that did not understand the query may
    answer with a header alone.
    """
    if answer.startswith(query.question, HEADER):
        return answer[2] & _KIND == _ANSWER and answer[4:6] == _ONE
    return (
        len(answer) == HEADER
        and answer[2] & _KIND == _ANSWER
        and answer[3] & _RCODE in _NOT_UNDERSTOOD
        and answer[4:] == _NO_COUNTS
    )


def read_answer(answer: bytes, query: Query) -> Learnt:
    """Raises `DnsError` if the answer is broken anywhere, or contradicts itself.

    A truncated one (TC) may be cut off anywhere, and what is whole in its answer section counts: some resolvers use it
    as it is (musl before 1.2.4). If it contradicts itself it teaches nothing; an error in its place would keep the
    client from asking again over TCP.
    """
    if not fits(answer, query):
        raise DnsError("a DNS answer to another question", None)
    if not answer[2] & _TRUNCATED:
        return _learnt(answer, query)
    with suppress(DnsError):
        return _learnt(answer, query)
    return NOTHING


def _learnt(answer: bytes, query: Query) -> Learnt:
    if len(answer) == HEADER:
        return NOTHING
    if len(answer) > MAX_MESSAGE:
        raise DnsError("a DNS answer is too long", None)
    reading = _Reading(answer, query)
    try:
        has_failed = reading.walk()
    except (IndexError, error):
        raise DnsError("a DNS answer is cut off", None) from None
    if not (reading.found or reading.aliases):
        return NOTHING
    learnt = reading.learnt()
    return NOTHING if has_failed else learnt


class _Reading:
    """One answer, taken apart. `found`: (owner, TTL, its addresses) of each record of a type that is wanted.
    `aliases`: owner → (target, TTL).
    """

    __slots__ = ("_answer", "_name", "_wanted", "aliases", "found")

    def __init__(self, answer: bytes, query: Query) -> None:
        question = query.question
        self._answer = answer
        self._name = question[:-4].lower()
        self._wanted = _WANTED.get(question[-4] << 8 | question[-3], ())
        self.found: list[tuple[bytes, int, tuple[bytes, ...]]] = []
        self.aliases: dict[bytes, tuple[bytes, int]] = {}

    def walk(self) -> bool:
        """True: the server says that the query has failed, so nothing is learnt."""
        answer = self._answer
        answers = answer[6] << 8 | answer[7]
        others = (answer[8] << 8 | answer[9]) + (answer[10] << 8 | answer[11])
        if answers + others > MAX_RECORDS:
            raise DnsError("a DNS answer has too many records", None)
        names = Names(answer)
        names.note(HEADER, self._name)
        has_failed = bool(answer[3] & _RCODE)
        if answer[2] & _TRUNCATED:
            with suppress(IndexError, error):
                self._walk_answers(names, answers)
            return has_failed
        at = self._walk_answers(names, answers)
        unpack = RECORD.unpack_from
        for _ in range(others):
            at = names.read(at)[1] if answer[at] else at + 1
            kind, _, ttl, size = unpack(answer, at)
            at += _FIXED + size
            if kind == OPT and ttl >> _EXTENDED_RCODE:
                has_failed = True
        if at != len(answer):
            raise DnsError("the records of a DNS answer do not end where it ends", None)
        return has_failed

    def _walk_answers(self, names: Names, count: int) -> int:
        """Returns the position behind the answer section. Raises IndexError or `struct.error` if it is cut off."""
        answer, asked = self._answer, self._name
        unpack, length = RECORD.unpack_from, len(answer)
        at = HEADER + len(asked) + 4
        for _ in range(count):
            if answer[at : at + 2] == _QUESTION_NAME:
                owner = asked
                at += 2
            else:
                owner, at = names.read(at)
            kind, group, ttl, size = unpack(answer, at)
            at += _FIXED
            end = at + size
            if end > length:
                raise IndexError
            if group == IN:
                wanted = ADDRESS_BYTES.get(kind)
                if wanted is not None:
                    if size != wanted:
                        raise DnsError("an address in a DNS answer has not the size of one", None)
                    if kind in self._wanted:
                        self.found.append((owner, ttl, (answer[at:end],)))
                elif kind == CNAME:
                    self._add_alias(owner, ttl, names.read(at), end)
                elif kind in self._wanted:
                    hints = tuple(hints_of(answer[at:end]))
                    if hints:
                        self.found.append((owner, ttl, hints))
            at = end
        return at

    def _add_alias(self, owner: bytes, ttl: int, found: tuple[bytes, int], end: int) -> None:
        target, stop = found
        if stop != end:
            raise DnsError("an alias in a DNS answer has not the size of a name", None)
        known = self.aliases.get(owner)
        if known is not None and known[0] != target:
            raise DnsError("a name has two aliases in a DNS answer", None)
        ttl = cleaned_ttl(ttl)
        self.aliases[owner] = target, ttl if known is None else min(ttl, known[1])

    def learnt(self) -> Learnt:
        aliases = self.aliases
        name, least = self._name, MAX_TTL
        steps = 0
        while (alias := aliases.get(name)) is not None:
            steps += 1
            if steps > MAX_CHAIN:
                raise DnsError("the chain of aliases in a DNS answer is a loop, or too long", None)
            name = alias[0]
            least = min(least, alias[1])
        addresses: dict[bytes, None] = {}
        for owner, ttl, found in self.found:
            if owner == name:
                for address in found:
                    if not address.startswith(_MAPPED):
                        addresses[address] = None
                least = min(least, cleaned_ttl(ttl))
        return Learnt(tuple(addresses), least) if addresses else NOTHING


def cleaned_ttl(ttl: int) -> int:
    """RFC 2181 §8: with its first bit set it is zero."""
    return 0 if ttl > _MAX_SIGNED else min(ttl, MAX_TTL)


def hints_of(data: bytes) -> Iterator[bytes]:
    """The addresses that an SVCB or HTTPS record with these data hints at, in their order (RFC 9460 §2.2). Raises
    IndexError if they are cut off.
    """
    is_alias = not (data[0] or data[1])
    at, end = 2, len(data)
    while length := data[at]:
        if length > MAX_LABEL:
            raise DnsError("a service in a DNS answer has a compressed target", None)
        at += 1 + length
    at += 1
    if is_alias:
        return
    last = -1
    while at < end:
        key, size = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
        at += 4
        stop = at + size
        if stop > end:
            raise IndexError
        if key <= last:
            raise DnsError("the parameters of a service in a DNS answer are out of order", None)
        wanted = _HINT_BYTES.get(key)
        if wanted is not None:
            if not size or size % wanted:
                raise DnsError("an address in a DNS answer has not the size of one", None)
            yield from (data[place : place + wanted] for place in range(at, stop, wanted))
        at, last = stop, key
