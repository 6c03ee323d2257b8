"""Answers of our own: refusals and failures, which say why (RFC 8914) to whoever speaks EDNS.

Each takes the client's message, for its id and flags; the question goes back as it came.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from parsers.dns.message import HEADER, SERVFAIL, Query

_ANSWER: Final = 0x80
_TRUNCATED: Final = 0x02
_KEPT: Final = 0x79
"""Operation, and whether the client desires recursion."""

_RECURSION_AVAILABLE: Final = 0x80
_CHECKING_DISABLED: Final = 0x10
_COUNTS: Final = b"\0\1\0\0\0\0\0\0"
_COUNTS_WITH_EDNS: Final = b"\0\1\0\0\0\0\0\1"

_EDNS: Final = Struct(">BHHIH")
_OPT: Final = 41
_PAYLOAD: Final = 1232
"""Bytes that we would take over UDP: what needs no fragments anywhere."""

_DNSSEC_OK: Final = 0x8000
_OPTION: Final = Struct(">HHH")
_EXTENDED_ERROR: Final = 15
_PROHIBITED: Final = 18
_NETWORK_ERROR: Final = 23


def _edns(data: bytes) -> tuple[bytes, bytes]:
    """The EDNS record that carries these options, for clients without and with DNSSEC (RFC 3225 §3)."""
    plain, dnssec = (_EDNS.pack(0, _OPT, _PAYLOAD, flags, len(data)) + data for flags in (0, _DNSSEC_OK))
    return plain, dnssec


def _error(code: int, text: bytes = b"") -> tuple[bytes, bytes]:
    return _edns(_OPTION.pack(_EXTENDED_ERROR, 2 + len(text), code) + text)


_REFUSED_EDNS: Final = _error(_PROHIBITED, b"not allowed by network policy")
_FAILED_EDNS: Final = _error(_NETWORK_ERROR)
_TRUNCATED_EDNS: Final = _edns(b"")


def refused(message: bytes, query: Query, rcode: int) -> bytes:
    """Policy says no."""
    return _reply(message, query, _ANSWER, rcode, _REFUSED_EDNS)


def failed(message: bytes, query: Query) -> bytes:
    """SERVFAIL: no server answered, or its answer can not go on."""
    return _reply(message, query, _ANSWER, SERVFAIL, _FAILED_EDNS)


def truncated(message: bytes, query: Query) -> bytes:
    """An answer without anything in it: the client asks again over TCP."""
    return _reply(message, query, _ANSWER | _TRUNCATED, 0, _TRUNCATED_EDNS)


def malformed(message: bytes, rcode: int) -> bytes | None:
    """The answer to what is no query: a header. None: it is too short, or an answer itself."""
    if len(message) < HEADER or message[2] & _ANSWER:
        return None
    return message[:2] + bytes((_ANSWER | message[2] & _KEPT, rcode)) + bytes(8)


def _reply(message: bytes, query: Query, flags: int, rcode: int, edns: tuple[bytes, bytes]) -> bytes:
    head = bytes((flags | message[2] & _KEPT, _RECURSION_AVAILABLE | message[3] & _CHECKING_DISABLED | rcode))
    if not query.has_edns:
        return message[:2] + head + _COUNTS + query.question
    return message[:2] + head + _COUNTS_WITH_EDNS + query.question + edns[query.wants_dnssec]
