"""Queries: what is accepted, what is found in it, and what all else is answered with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dns.message import DnsError, read_query
from parsers.dns.types import type_name
from parsers.facts import DnsQuery
from tests.parsers.dns.building import (
    CHAOS,
    EDNS,
    MX,
    OPT,
    POINTER,
    TSIG,
    TXT,
    A,
    asked,
    at,
    message,
    query_bytes,
    rr,
    wire,
)

SIG = 24
LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
"""255 bytes on the wire."""


@pytest.mark.parametrize(
    ("name", "kind", "facts"),
    [
        ("www.a.test", 1, DnsQuery("www.a.test", "A")),
        ("WwW.A.TesT", 28, DnsQuery("www.a.test", "AAAA")),
        (".", 2, DnsQuery("", "NS")),
        ("test", 65, DnsQuery("test", "HTTPS")),
        ("_sip._tcp.a.test", 33, DnsQuery("_sip._tcp.a.test", "SRV")),
        ("a.test", 255, DnsQuery("a.test", "ANY")),
        ("a.test", 65280, DnsQuery("a.test", "TYPE65280")),
        ("a.test", 0, DnsQuery("a.test", "TYPE0")),
        (LONGEST, 1, DnsQuery(LONGEST, "A")),
        (".".join("a" * 127), 1, DnsQuery(".".join("a" * 127), "A")),
    ],
)
def test_good_queries(name: str, kind: int, facts: DnsQuery) -> None:
    data = query_bytes(name, kind)
    found = read_query(data)
    assert found.facts == facts
    assert found.question == asked(name, kind) == data[12 : found.question_end]
    assert (found.id, found.has_edns, found.payload, found.wants_dnssec) == (b"\x12\x34", False, 512, False)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (b"a.b", r"a\046b"),
        (b"a\\b", r"a\092b"),
        (b"\0", r"\000"),
        (b"A b", r"a\032b"),
        (b"\xff", r"\255"),
        (b"\xc0\x0c", r"\192\012"),
        ("é".encode(), r"\195\169"),
        (b"*", "*"),
        (b"!~", "!~"),
        (b"\x7f", r"\127"),
    ],
)
def test_no_label_looks_like_another_name(label: bytes, text: str) -> None:
    question = bytes((len(label),)) + label + b"\4test\0\0\1\0\1"
    assert read_query(message(question)).facts.name == f"{text}.test"


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.lists(st.binary(min_size=1, max_size=20), max_size=6)
)
def test_names_that_differ_look_different(one: list[bytes], other: list[bytes]) -> None:
    first, second = (
        read_query(message(b"".join(bytes((len(label),)) + label for label in name) + b"\0\0\1\0\1")).facts.name
        for name in (one, other)
    )
    assert (first == second) == ([label.lower() for label in one] == [label.lower() for label in other])


@pytest.mark.parametrize(
    ("flags", "payload", "found"),
    [(0, 1232, (1232, False)), (0x8000, 4096, (4096, True)), (0, 0, (512, False)), (0x10000, 65535, (65535, False))],
)
def test_edns(flags: int, payload: int, found: tuple[int, bool]) -> None:
    option = rr(OPT, b"\0\x0c\0\3abc", owner=b"\0", ttl=flags, group=payload)
    it = read_query(query_bytes("a.test", A, option))
    assert (it.has_edns, it.payload, it.wants_dnssec) == (True, *found)


@pytest.mark.parametrize(
    "records",
    [
        (EDNS, rr(TSIG, b"x" * 30, owner=wire("key"))),
        (rr(TSIG, b"", owner=wire("key.a.test")),),
        (EDNS, rr(TSIG, b"", owner=b"\3key" + POINTER)),
        (rr(SIG, b"x", owner=b"\0"),),
        (EDNS, rr(SIG, b"x", owner=b"\0")),
    ],
)
def test_signatures_end_a_query(records: tuple[bytes, ...]) -> None:
    data = query_bytes("a.test", A, *records)
    assert read_query(data).question == asked("a.test")


GOOD = query_bytes()
HEAD = GOOD[:12]
NAME = wire("www.a.test")
FORMERR, NOTIMP, REFUSED = 1, 4, 5


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(GOOD[:11], None, id="half a header"),
        pytest.param(message(asked(), flags=0x8180), None, id="an answer"),
        pytest.param(message(asked(), flags=0x9100), None, id="an answer to another operation"),
        *(pytest.param(message(asked(), flags=op << 11), NOTIMP, id=f"operation {op}") for op in range(1, 16)),
        pytest.param(message(asked(), flags=0x0300), FORMERR, id="truncated"),
        pytest.param(message(b"", questions=0), FORMERR, id="no question"),
        pytest.param(message(asked() * 2, questions=2), FORMERR, id="two questions"),
        pytest.param(message(asked(), questions=0x101), FORMERR, id="257 questions"),
        pytest.param(message(asked(), at("192.0.2.1"), counts=(1, 0, 0)), FORMERR, id="answer section"),
        pytest.param(message(asked(), at("192.0.2.1"), counts=(0, 1, 0)), FORMERR, id="authority section"),
        pytest.param(HEAD, FORMERR, id="header alone"),
        pytest.param(GOOD[:-1], FORMERR, id="cut in the class"),
        pytest.param(GOOD[:-4], FORMERR, id="cut behind the name"),
        pytest.param(GOOD[:-6], FORMERR, id="cut in the name"),
        pytest.param(GOOD + b"\0", FORMERR, id="a byte behind"),
        pytest.param(HEAD + b"\xc0\x0c\0\1\0\1", FORMERR, id="a pointer to itself"),
        pytest.param(HEAD + b"\1a\xc0\x0c\0\1\0\1", FORMERR, id="a pointer"),
        pytest.param(HEAD + b"\xc0\0\0\1\0\1", FORMERR, id="a pointer into the header"),
        pytest.param(HEAD + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", FORMERR, id="a label of 64"),
        pytest.param(HEAD + b"\x80" + b"a" * 128 + b"\0\0\1\0\1", FORMERR, id="a label of 128"),
        pytest.param(HEAD + wire(LONGEST + "d") + b"\0\1\0\1", FORMERR, id="a name of 256"),
        pytest.param(HEAD + b"\1a" * 30000 + b"\0\0\1\0\1", FORMERR, id="a name of 60,000"),
        pytest.param(message(NAME + b"\0\1\0\3"), REFUSED, id="class CH"),
        pytest.param(message(NAME + b"\0\1\0\xff"), REFUSED, id="class ANY"),
        pytest.param(message(NAME + b"\0\1\0\xfe"), REFUSED, id="class NONE"),
        pytest.param(message(asked(kind=252)), REFUSED, id="AXFR"),
        pytest.param(message(asked(kind=251)), REFUSED, id="IXFR"),
        pytest.param(query_bytes("a.test", A, EDNS, EDNS), FORMERR, id="two OPT"),
        pytest.param(query_bytes("a.test", A, rr(OPT, b"", owner=wire("a"))), FORMERR, id="OPT with a name"),
        pytest.param(query_bytes("a.test", A, rr(OPT, b"")), FORMERR, id="OPT with a pointer"),
        pytest.param(query_bytes("a.test", A, EDNS[:-1]), FORMERR, id="OPT cut off"),
        pytest.param(query_bytes("a.test", A, rr(OPT, b"abc", owner=b"\0")[:-1]), FORMERR, id="options cut off"),
        pytest.param(query_bytes("a.test", A, EDNS + b"\0"), FORMERR, id="a byte behind OPT"),
        pytest.param(message(asked(), EDNS, counts=(0, 0, 0)), FORMERR, id="OPT not counted"),
        pytest.param(message(asked(), EDNS, counts=(0, 0, 2)), FORMERR, id="counted too many"),
        pytest.param(message(asked(), counts=(0, 0, 65535)), FORMERR, id="counted far too many"),
        pytest.param(query_bytes("a.test", A, at("192.0.2.1")), FORMERR, id="an address attached"),
        pytest.param(query_bytes("a.test", MX, rr(TXT, b"\1a", group=CHAOS)), FORMERR, id="text attached"),
        pytest.param(query_bytes("a.test", A, rr(TSIG, b"", owner=wire("k")), EDNS), FORMERR, id="TSIG before OPT"),
        pytest.param(query_bytes("a.test", A, *[rr(TSIG, b"", owner=wire("k"))] * 2), FORMERR, id="two TSIG"),
        pytest.param(query_bytes("a.test", A, rr(SIG, b"x", owner=wire("k"))), FORMERR, id="SIG of a name"),
        pytest.param(query_bytes("a.test", A, rr(SIG, b"x", owner=b"\0"), EDNS), FORMERR, id="SIG(0) before OPT"),
        pytest.param(query_bytes("a.test", A, rr(TSIG, b"", owner=b"\xff\xff")), FORMERR, id="far away"),
        pytest.param(query_bytes("a.test", A, rr(TSIG, b"", owner=wire(LONGEST + "d"))), FORMERR, id="a long key"),
        pytest.param(query_bytes("a.test", A, *[EDNS] * 9), FORMERR, id="nine attached"),
    ],
)
def test_bad_queries(data: bytes, rcode: int | None) -> None:
    with pytest.raises(DnsError) as caught:
        read_query(data)
    assert caught.value.rcode == rcode
    assert caught.value.reason


@given(st.integers(0, len(GOOD) - 1))
def test_no_part_of_a_query_is_one(size: int) -> None:
    with pytest.raises(DnsError):
        read_query(GOOD[:size])


def test_names_of_types() -> None:
    assert [type_name(number) for number in (1, 257, 252, 250, 65535)] == ["A", "CAA", "AXFR", "TYPE250", "TYPE65535"]
