"""Whatever the bytes are: a query or an answer, or `DnsError`, and nothing else."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from parsers.dns.answer import NOTHING, fits, read_answer
from parsers.dns.message import DnsError, read_query
from parsers.dns.replies import malformed
from tests.parsers.dns.building import (
    AAAA,
    ANY,
    EDNS,
    HTTPS,
    A,
    alias,
    answer,
    at,
    message,
    query,
    query_bytes,
    rr,
    service,
)

HEADS = st.sampled_from([query_bytes()[:12], answer(b"", counts=(1, 0, 0)), message(b"", counts=(0, 0, 2)), b""])
QUERIES = [query(kind=kind) for kind in (A, AAAA, HTTPS, ANY)]
GOOD = [
    answer(
        asks.question,
        alias(b"\1b\xc0\x10"),
        at("192.0.2.1", owner=b"\1b\xc0\x10"),
        at("2001:db8::1", owner=b"\1b\xc0\x10"),
        rr(HTTPS, service((4, bytes(4)), (6, bytes(16))), owner=b"\1b\xc0\x10"),
        EDNS,
        counts=(4, 0, 1),
    )
    for asks in QUERIES
]
CHANGES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)


def changed(data: bytes, changes: list[tuple[int, int]], size: int) -> bytes:
    found = bytearray(data)
    for place, byte in changes:
        found[place % len(found)] = byte
    return bytes(found)[:size]


@given(HEADS, st.binary(max_size=100))
def test_queries(head: bytes, data: bytes) -> None:
    whole = head + data
    try:
        found = read_query(whole)
    except DnsError as error:
        rcode = error.rcode
    else:
        assert whole[12:].startswith(found.question)
        assert found.facts.name == found.facts.name.lower()
        assert found.facts.name.isascii()
        return
    assert rcode is None or malformed(whole, rcode) is not None


@given(CHANGES, st.integers(0, 80))
def test_changed_queries(changes: list[tuple[int, int]], size: int) -> None:
    with suppress(DnsError):
        read_query(changed(query_bytes("www.a.test", A, EDNS), changes, size))


@given(st.integers(0, 3), CHANGES, st.integers(0, 250))
def test_changed_answers(number: int, changes: list[tuple[int, int]], size: int) -> None:
    data = changed(GOOD[number], changes, size)
    try:
        found = read_answer(data, QUERIES[number])
    except DnsError:
        return
    assert fits(data, QUERIES[number])
    assert found == NOTHING or all(address in data for address in found.addresses)


@given(st.integers(0, 3), st.integers(0, 6), st.binary(max_size=120))
def test_answers(number: int, count: int, data: bytes) -> None:
    with suppress(DnsError):
        read_answer(answer(QUERIES[number].question, data, counts=(count, 0, 0)), QUERIES[number])
