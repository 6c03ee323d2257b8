"""What is told of answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parsers.dns.described import Described, describe, record_types
from tests.parsers.dns.building import (
    HTTPS,
    NXDOMAIN,
    RESPONSE,
    TXT,
    A,
    alias,
    answer,
    asked,
    at,
    message,
    packed,
    pointer,
    query_bytes,
    rr,
    service,
    wire,
)

ONE, SIX = "192.0.2.1", "2001:db8::1"
B = wire("b.test")
QUESTION = asked()
BEHIND = 12 + len(QUESTION)
"""Where the first record begins."""

TWO = answer(QUESTION, at(ONE), at("192.0.2.2"))


def test_descriptions() -> None:
    hints = rr(HTTPS, service((4, b"\xc0\0\2\7")), ttl=77)
    data = answer(
        QUESTION, alias(wire("B.test"), ttl=99), at(ONE, owner=B), at(SIX, owner=B), rr(TXT, b"\1a", ttl=1), hints
    )
    types = ("CNAME", "A", "AAAA", "TXT", "HTTPS")
    assert describe(data) == Described(packed(ONE, SIX, "192.0.2.7"), 77, ("b.test",), types)
    assert describe(answer(QUESTION, at(ONE, ttl=1 << 31), rr(65280, b""))).ttl == 0
    assert describe(answer(QUESTION, flags=RESPONSE | NXDOMAIN)) == Described((), 0, (), ())
    assert describe(message(b"", flags=RESPONSE | 1, questions=0)) == Described((), 0, (), ())


def test_descriptions_end_where_it_breaks() -> None:
    data = answer(QUESTION, at(ONE), at("192.0.2.2"), rr(A, b"x"), at(ONE, owner=pointer(9999)), at(ONE))
    assert describe(data) == Described(packed(ONE, "192.0.2.2"), 300, (), ("A", "A", "A"))
    assert describe(data[: BEHIND + 16 + 12]).types == ("A",)


def test_descriptions_are_bounded() -> None:
    told = describe(answer(QUESTION, *(at(f"192.0.2.{n}") for n in range(200))))
    assert (len(told.addresses), len(told.types)) == (64, 64)
    told = describe(answer(QUESTION, *[alias(f"{n}.test") for n in range(200)]))
    assert (len(told.cnames), told.cnames[:2]) == (64, ("0.test", "1.test"))
    assert len(describe(answer(QUESTION, rr(HTTPS, service((4, bytes(4000)))))).addresses) == 64


@given(st.binary(max_size=120), st.integers(0, 3), st.integers(0, 0xFFFF))
def test_any_bytes_can_be_described(data: bytes, questions: int, answers: int) -> None:
    head = query_bytes()[:4] + questions.to_bytes(2, "big") + answers.to_bytes(2, "big") + bytes(4)
    for whole in (data, head + data, head + QUESTION + data):
        told = describe(whole)
        assert len(told.types) <= 64


@given(st.binary(max_size=80))
def test_any_bytes_have_some_record_types(data: bytes) -> None:
    found = record_types(answer(QUESTION, at(ONE))[:12] + data)
    assert len(found) <= 1


@given(st.integers(0, len(TWO)))
def test_an_answer_cut_off_has_the_types_before(size: int) -> None:
    assert record_types(TWO[:size]) in ((), (A,), (A, A))
