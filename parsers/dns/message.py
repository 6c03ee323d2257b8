"""Queries (RFC 1035 §4.1, RFC 6891): read once, strictly. What goes on to a server is what was read, but for its id.

A query is one question and nothing else but what may be attached to any: EDNS, and a signature behind all.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from parsers.dns.types import AXFR, IXFR, OPT, SIG, TSIG, type_name
from parsers.errors import ParseError
from parsers.facts import DnsQuery

FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5

HEADER: Final = 12
MAX_NAME: Final = 255
"""Bytes of a name with its lengths and its final zero."""

MAX_LABEL: Final = 63
POINTER: Final = 0xC0
"""From here on a byte begins a pointer of two bytes (RFC 1035 §4.1.4)."""

MAX_ADDITIONAL: Final = 8
LEAST_PAYLOAD: Final = 512

RECORD: Final = Struct(">HHIH")
"""Type, class, TTL, bytes of data."""

_ONE_QUESTION: Final = b"\0\1\0\0\0\0"
_CLASS_IN: Final = b"\0\1"
_DNSSEC_OK: Final = 0x8000
_ANSWER: Final = 0x80
_OPCODE: Final = 0x78
_TRUNCATED: Final = 0x02

PLAIN: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b".\\")
"""What stands for itself in the text of a name."""


class DnsError(ParseError):
    """A message that is not as it must be. `rcode`: what to answer it with; None: nothing."""

    def __init__(self, reason: str, rcode: int | None = FORMERR) -> None:
        super().__init__(reason)
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class Query:
    """`question`: its bytes, of name, type and class, in the case that they came in; it ends at `question_end`.

    `payload`: bytes of an answer over UDP that the client takes, at least 512. `wants_dnssec`: the flag DO is set.
    """

    id: bytes
    question: bytes
    facts: DnsQuery
    question_end: int
    has_edns: bool
    payload: int
    wants_dnssec: bool = False


def read_query(data: bytes) -> Query:
    """Raises `DnsError`. Of names below the question's nothing is looked at but where they end."""
    if len(data) < HEADER:
        raise DnsError("a DNS message is shorter than its header", None)
    flags = data[2]
    if flags & _ANSWER:
        raise DnsError("a DNS answer came in the place of a query", None)
    if flags & _OPCODE:
        raise DnsError("a DNS operation other than a query", NOTIMP)
    if flags & _TRUNCATED:
        raise DnsError("a DNS query says that it is truncated")
    if data[4:10] != _ONE_QUESTION:
        raise DnsError("a DNS query is not one question without answers")
    try:
        name, at = _question_name(data)
        kind = data[at] << 8 | data[at + 1]
        end = at + 4
        question = data[HEADER:end]
        if len(data) < end:
            raise DnsError("a DNS query is cut off")
        if data[10:12] == b"\0\0":
            options = -1
            if len(data) != end:
                raise DnsError("there are bytes behind a DNS query")
        else:
            options = _options(data, end)
    except (IndexError, error):
        raise DnsError("a DNS query is cut off") from None
    if data[at + 2 : end] != _CLASS_IN:
        raise DnsError("a DNS query of another class than IN", REFUSED)
    if kind in (AXFR, IXFR):
        raise DnsError("a DNS zone transfer", REFUSED)
    facts = DnsQuery(name, type_name(kind))
    if options < 0:
        return Query(data[:2], question, facts, end, False, LEAST_PAYLOAD)
    payload, is_dnssec_ok = options >> 16, bool(options & _DNSSEC_OK)
    return Query(data[:2], question, facts, end, True, max(payload, LEAST_PAYLOAD), is_dnssec_ok)


def _question_name(data: bytes) -> tuple[str, int]:
    """The name as text, and the position behind it."""
    labels = []
    at = HEADER
    length = data[at]
    while length:
        if length > MAX_LABEL:
            raise DnsError("a name in a DNS question has a label of no known form")
        at += length + 1
        labels.append(data[at - length : at])
        length = data[at]
    at += 1
    if at - HEADER > MAX_NAME:
        raise DnsError("a name in a DNS question is too long")
    return text_of(labels), at


def text_of(labels: list[bytes]) -> str:
    """Lower case, without a final dot. What could be taken for something else is `\\DDD` (RFC 1035 §5.1): no label
    looks like two.
    """
    if b"".join(labels).translate(None, PLAIN):
        labels = [_escaped(label) for label in labels]
    return b".".join(labels).decode("ascii").lower()


def _escaped(label: bytes) -> bytes:
    return b"".join(b"%c" % byte if byte in PLAIN else b"\\%03d" % byte for byte in label)


def _options(data: bytes, at: int) -> int:
    """Walk over the additional records, which end the message. Returns what the EDNS record says, -1 without one:
    payload << 16 | flags.
    """
    count = data[10] << 8 | data[11]
    if count > MAX_ADDITIONAL:
        raise DnsError("a DNS query has too many additional records")
    found = -1
    for left in range(count - 1, -1, -1):
        owner = at
        at = _behind_owner(data, at)
        kind, payload, ttl, size = RECORD.unpack_from(data, at)
        is_root = data[owner] == 0
        at += RECORD.size + size
        if at > len(data):
            raise DnsError("a DNS query is cut off")
        if kind == OPT:
            if found >= 0 or not is_root:
                raise DnsError("a DNS query has two EDNS records, or one with a name")
            found = payload << 16 | (ttl & 0xFFFF)
        elif left or not (kind == TSIG or (kind == SIG and is_root)):
            raise DnsError("a DNS query has an additional record that belongs to no query")
    if at != len(data):
        raise DnsError("there are bytes behind a DNS query")
    return found


def _behind_owner(data: bytes, at: int) -> int:
    """The position behind the name at `at`; the key of a signature may be compressed."""
    start = at
    length = data[at]
    while length:
        if length >= POINTER:
            target = (length & 0x3F) << 8 | data[at + 1]
            if not HEADER <= target < start:
                raise DnsError("a name in a DNS query points to where no name is")
            return at + 2
        if length > MAX_LABEL:
            raise DnsError("a name in a DNS query has a label of no known form")
        at += length + 1
        length = data[at]
    if at + 1 - start > MAX_NAME:
        raise DnsError("a name in a DNS query is too long")
    return at + 1
