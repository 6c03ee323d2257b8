"""Messages as bytes on the wire, put together by hand."""

from __future__ import annotations

from ipaddress import ip_address
from struct import pack

from parsers.dns.message import Query, read_query

A, NS, CNAME, MX, TXT, AAAA, OPT, RRSIG, SVCB, HTTPS, TSIG, ANY = 1, 2, 5, 15, 16, 28, 41, 46, 64, 65, 250, 255
IN, CHAOS = 1, 3
RESPONSE, TRUNCATED, NXDOMAIN = 0x8180, 0x0200, 3
POINTER = b"\xc0\x0c"
"""To the name of the question."""
EDNS = b"\0" + pack(">HHIH", OPT, 1232, 0, 0)
PAIR = tuple[int, int, int]


def wire(text: str) -> bytes:
    """A name, not compressed; `.` is the root."""
    return b"".join(bytes((len(label),)) + label.encode("latin-1") for label in text.split(".") if label) + b"\0"


def asked(name: str = "www.a.test", kind: int = A, group: int = IN) -> bytes:
    return wire(name) + pack(">HH", kind, group)


def message(
    question: bytes,
    *more: bytes,
    number: int = 0x1234,
    flags: int = 0x0100,
    questions: int = 1,
    counts: PAIR = (0, 0, 0),
) -> bytes:
    """`counts`: of the three sections behind the question, in which `more` lies."""
    return pack(">6H", number, flags, questions, *counts) + question + b"".join(more)


def query_bytes(name: str = "www.a.test", kind: int = A, *more: bytes, number: int = 0x1234) -> bytes:
    """`more`: additional records."""
    return message(asked(name, kind), *more, number=number, counts=(0, 0, len(more)))


def query(name: str = "www.a.test", kind: int = A, *more: bytes) -> Query:
    return read_query(query_bytes(name, kind, *more))


def rr(kind: int, data: bytes, *, owner: bytes = POINTER, ttl: int = 300, group: int = IN) -> bytes:
    return owner + pack(">HHIH", kind, group, ttl, len(data)) + data


def at(text: str, *, owner: bytes = POINTER, ttl: int = 300, group: int = IN) -> bytes:
    """A record with the address."""
    packed = ip_address(text).packed
    return rr(A if len(packed) == 4 else AAAA, packed, owner=owner, ttl=ttl, group=group)


def alias(target: str | bytes, *, owner: bytes = POINTER, ttl: int = 300) -> bytes:
    return rr(CNAME, wire(target) if isinstance(target, str) else target, owner=owner, ttl=ttl)


def answer(
    question: bytes, *records: bytes, number: int = 0x1234, flags: int = RESPONSE, counts: PAIR | None = None
) -> bytes:
    return message(question, *records, number=number, flags=flags, counts=counts or (len(records), 0, 0))


def packed(*texts: str) -> tuple[bytes, ...]:
    return tuple(ip_address(text).packed for text in texts)


def pointer(to: int) -> bytes:
    return pack(">H", 0xC000 | to)


def service(*parameters: tuple[int, bytes], priority: int = 1, target: bytes = b"\0") -> bytes:
    """The data of an SVCB or HTTPS record."""
    return pack(">H", priority) + target + b"".join(pack(">HH", key, len(value)) + value for key, value in parameters)
