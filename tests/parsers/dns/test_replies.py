"""Answers of our own, byte for byte."""

from __future__ import annotations

from struct import pack

import pytest

from parsers.dns.answer import fits
from parsers.dns.message import read_query
from parsers.dns.replies import failed, malformed, refused, truncated
from tests.parsers.dns.building import EDNS, OPT, A, asked, message, query_bytes, rr

QUESTION = asked("WwW.a.TesT")
PLAIN = message(QUESTION, flags=0x0100)
CHECKED = message(QUESTION, EDNS, flags=0x0030, counts=(0, 0, 1))
DNSSEC = message(QUESTION, rr(OPT, b"", owner=b"\0", ttl=0x8000, group=4096), flags=0x0110, counts=(0, 0, 1))
WORDS = b"not allowed by network policy"


def edns(*data: bytes, flags: int = 0) -> bytes:
    return b"\0" + pack(">HHIH", OPT, 1232, flags, sum(map(len, data))) + b"".join(data)


def head(flags: int, additional: int) -> bytes:
    return b"\x12\x34" + pack(">HHHHH", flags, 1, 0, 0, additional)


PROHIBITED = pack(">HHH", 15, 2 + len(WORDS), 18) + WORDS
NETWORK_ERROR = pack(">HHH", 15, 2, 23)


@pytest.mark.parametrize("rcode", [5, 3])
def test_refusals(rcode: int) -> None:
    assert refused(PLAIN, read_query(PLAIN), rcode) == head(0x8180 | rcode, 0) + QUESTION
    assert refused(CHECKED, read_query(CHECKED), rcode) == head(0x8090 | rcode, 1) + QUESTION + edns(PROHIBITED)
    found = refused(DNSSEC, read_query(DNSSEC), rcode)
    assert found == head(0x8190 | rcode, 1) + QUESTION + edns(PROHIBITED, flags=0x8000)


def test_failures() -> None:
    assert failed(PLAIN, read_query(PLAIN)) == head(0x8182, 0) + QUESTION
    assert failed(CHECKED, read_query(CHECKED)) == head(0x8092, 1) + QUESTION + edns(NETWORK_ERROR)


def test_truncated() -> None:
    assert truncated(PLAIN, read_query(PLAIN)) == head(0x8380, 0) + QUESTION
    assert truncated(CHECKED, read_query(CHECKED)) == head(0x8290, 1) + QUESTION + edns()


def test_the_id_is_that_of_the_message_not_of_the_query() -> None:
    """The query may have been read from another message that was alike."""
    query = read_query(query_bytes("a.test", A, number=1))
    other = query_bytes("a.test", A, number=2)
    for reply in (refused(other, query, 5), failed(other, query), truncated(other, query)):
        assert reply[:2] == other[:2]
        assert fits(reply, query)


def test_four_bytes_of_the_message_are_enough() -> None:
    query = read_query(CHECKED)
    assert failed(CHECKED[:4], query) == failed(CHECKED, query)


def test_replies_to_malformed_queries() -> None:
    assert malformed(PLAIN[:12] + b"\xff", 1) == b"\x12\x34\x81\x01" + bytes(8)
    assert malformed(message(b"", flags=0x2800), 4) == b"\x12\x34\xa8\x04" + bytes(8)
    assert malformed(PLAIN[:11], 1) is None
    assert malformed(message(QUESTION, flags=0x8180), 1) is None


def test_replies_go_through_any_udp() -> None:
    longest = asked(".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61]))
    query = read_query(message(longest, EDNS, counts=(0, 0, 1)))
    assert len(refused(message(longest), query, 5)) <= 512
