"""Answers: which belong to a query, what is learnt from them, and what is wrong with the others."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dns.answer import MAX_CHAIN, MAX_RECORDS, MAX_TTL, NOTHING, Learnt, fits, read_answer
from parsers.dns.message import DnsError, Query
from tests.parsers.dns.building import (
    AAAA,
    ANY,
    CHAOS,
    CNAME,
    EDNS,
    HTTPS,
    MX,
    NS,
    NXDOMAIN,
    OPT,
    RESPONSE,
    RRSIG,
    SVCB,
    TRUNCATED,
    TXT,
    A,
    alias,
    answer,
    asked,
    at,
    message,
    packed,
    pointer,
    query,
    rr,
    service,
    wire,
)
from tests.parsers.steps import steps

QUERY = query()
QUESTION = QUERY.question
BEHIND = 12 + len(QUESTION)
"""Where the first record begins."""

ONE = "192.0.2.1"
SIX = "2001:db8::1"


# -- does it fit? ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(answer(QUESTION, at(ONE)), True, id="good"),
        pytest.param(answer(QUESTION, number=1), True, id="another id"),
        pytest.param(answer(QUESTION, flags=RESPONSE | NXDOMAIN), True, id="NXDOMAIN"),
        pytest.param(answer(QUESTION, flags=0x8000), True, id="no flags"),
        pytest.param(answer(asked("WWW.a.test")), False, id="another case"),
        pytest.param(answer(asked("www.b.test")), False, id="another name"),
        pytest.param(answer(asked(kind=AAAA)), False, id="another type"),
        pytest.param(answer(asked(group=CHAOS)), False, id="another class"),
        pytest.param(answer(QUESTION, flags=0x0100), False, id="a query"),
        pytest.param(answer(QUESTION, flags=0xA180), False, id="another operation"),
        pytest.param(message(QUESTION * 2, flags=RESPONSE, questions=2), False, id="two questions"),
        pytest.param(message(QUESTION, flags=RESPONSE, questions=0), False, id="no question counted"),
        pytest.param(answer(QUESTION)[:-1], False, id="cut in the question"),
        pytest.param(message(b"", flags=RESPONSE | 1, questions=0), True, id="header, FORMERR"),
        pytest.param(message(b"", flags=RESPONSE | 4, questions=0), True, id="header, NOTIMP"),
        pytest.param(message(b"", flags=RESPONSE | 5, questions=0), False, id="header, REFUSED"),
        pytest.param(message(b"", flags=RESPONSE, questions=0), False, id="header, NOERROR"),
        pytest.param(message(b"", flags=RESPONSE | 1), False, id="header that counts a question"),
        pytest.param(message(b"", flags=1, questions=0), False, id="header of a query"),
        pytest.param(message(b"", EDNS, flags=RESPONSE | 1, questions=0), False, id="header with bytes behind"),
        pytest.param(message(b"", flags=RESPONSE | 1, questions=0)[:-1], False, id="half a header"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_fits(data: bytes, expected: bool) -> None:
    assert fits(data, QUERY) is expected


@given(st.binary(max_size=40))
def test_any_bytes_fit_only_if_they_have_the_question(data: bytes) -> None:
    for whole in (data, answer(QUESTION)[:12] + data):
        if fits(whole, QUERY):
            assert QUESTION in whole or len(whole) == 12


# -- what is learnt ----------------------------------------------------------------------------------------------------


def learnt(*records: bytes, query_: Query = QUERY, flags: int = RESPONSE) -> Learnt:
    return read_answer(answer(query_.question, *records, flags=flags), query_)


def with_addresses(ttl: int, *texts: str) -> Learnt:
    return Learnt(packed(*texts), ttl)


def test_addresses_in_their_order() -> None:
    assert learnt(at(ONE), at("192.0.2.9", ttl=40), at("192.0.2.5")) == with_addresses(
        40, ONE, "192.0.2.9", "192.0.2.5"
    )
    assert learnt(at(ONE, ttl=9), at("192.0.2.9"), at(ONE, ttl=8)) == with_addresses(8, ONE, "192.0.2.9")
    assert learnt(at(SIX, ttl=7), query_=query(kind=AAAA)) == with_addresses(7, SIX)


def test_only_the_type_that_was_asked_for() -> None:
    both = at(ONE, ttl=5), at(SIX, ttl=6), rr(TXT, b"\1a", ttl=1), rr(RRSIG, b"x", ttl=1)
    assert learnt(*both) == with_addresses(5, ONE)
    assert learnt(*both, query_=query(kind=AAAA)) == with_addresses(6, SIX)
    assert learnt(*both, query_=query(kind=ANY)) == with_addresses(5, ONE, SIX)
    for kind in (TXT, MX, CNAME, HTTPS, SVCB, 65280):
        assert learnt(*both, query_=query(kind=kind)) == NOTHING


@pytest.mark.parametrize(
    ("ttl", "found"),
    [(0, 0), (1, 1), (MAX_TTL + 1, MAX_TTL), (0x7FFFFFFF, MAX_TTL), (0x80000000, 0), (0xFFFFFFFF, 0)],
)
def test_times_to_live(ttl: int, found: int) -> None:
    assert learnt(at(ONE, ttl=ttl)).ttl == found
    assert learnt(alias("b.test", ttl=ttl), at(ONE, owner=wire("b.test"), ttl=MAX_TTL)).ttl == found


@pytest.mark.parametrize("owner", [b"\xc0\x0c", wire("www.a.test"), wire("WWW.a.TEST"), b"\3WwW" + pointer(16)])
def test_owners_in_all_forms(owner: bytes) -> None:
    assert learnt(at(ONE, owner=owner)) == with_addresses(300, ONE)


@pytest.mark.parametrize("name", ["www.a.test", "wWw.A.tEsT"])
def test_case_of_the_question_does_not_matter_to_owners(name: str) -> None:
    asks = query(name)
    assert learnt(at(ONE, owner=wire("www.a.test")), query_=asks) == with_addresses(300, ONE)


def test_records_of_others_open_nothing() -> None:
    other = at("192.0.2.66", owner=wire("other.test"), ttl=1)
    assert learnt(other) == NOTHING
    assert learnt(other, at(ONE), other) == with_addresses(300, ONE)
    assert learnt(at("192.0.2.66", owner=wire("a.test")), at("192.0.2.66", owner=b"\0")) == NOTHING


def test_other_sections_open_nothing() -> None:
    records = at(ONE), at("192.0.2.66"), at("192.0.2.67"), rr(NS, b"\2ns" + pointer(12)), EDNS
    assert read_answer(answer(QUESTION, *records, counts=(1, 2, 2)), QUERY) == with_addresses(300, ONE)
    assert read_answer(answer(QUESTION, *records, counts=(0, 3, 2)), QUERY) == NOTHING


def test_other_classes_open_nothing() -> None:
    assert learnt(at("192.0.2.66", group=CHAOS), at(ONE)) == with_addresses(300, ONE)


@pytest.mark.parametrize("rcode", range(1, 16))
def test_failures_open_nothing(rcode: int) -> None:
    assert learnt(at(ONE), flags=RESPONSE | rcode) == NOTHING


def test_extended_failures_open_nothing() -> None:
    bad_version = rr(OPT, b"", owner=b"\0", ttl=1 << 24, group=1232)
    assert read_answer(answer(QUESTION, at(ONE), bad_version, counts=(1, 0, 1)), QUERY) == NOTHING


def test_a_header_alone_opens_nothing() -> None:
    assert read_answer(message(b"", flags=RESPONSE | 1, questions=0), QUERY) == NOTHING


def test_ipv4_is_not_opened_as_ipv6() -> None:
    mapped = rr(AAAA, bytes(10) + b"\xff\xff\x0a\0\0\1")
    assert learnt(mapped, at(SIX), query_=query(kind=AAAA)) == with_addresses(300, SIX)
    assert learnt(mapped, query_=query(kind=AAAA)) == NOTHING


# -- chains ------------------------------------------------------------------------------------------------------------

B, C = wire("b.test"), wire("C.test")


def test_a_chain_in_any_order() -> None:
    chain = alias(B, ttl=200), alias(C, owner=B, ttl=100), at(ONE, owner=C, ttl=150)
    for records in permutations(chain):
        assert learnt(*records) == with_addresses(100, ONE)


def test_a_chain_compares_no_case() -> None:
    assert learnt(alias(wire("B.Test")), at(ONE, owner=B)) == with_addresses(300, ONE)


def test_a_chain_through_pointers() -> None:
    first = alias(b"\1b" + pointer(16))
    target = BEHIND + len(first) - 4
    assert learnt(first, at(ONE, owner=pointer(target))) == with_addresses(300, ONE)
    assert learnt(first, at(ONE, owner=wire("b.a.test"))) == with_addresses(300, ONE)


def chain(length: int) -> list[bytes]:
    names = [QUESTION[:-4], *(wire(f"c{number}.test") for number in range(length))]
    records = [alias(target, owner=owner) for owner, target in pairwise(names)]
    return [*records, at(ONE, owner=names[-1])]


def test_chains_have_an_end() -> None:
    assert learnt(*chain(MAX_CHAIN)) == with_addresses(300, ONE)
    with pytest.raises(DnsError):
        learnt(*chain(MAX_CHAIN + 1))


def test_chains_of_others_open_nothing() -> None:
    assert learnt(alias(C, owner=B), at(ONE, owner=C)) == NOTHING
    assert learnt(alias(C, owner=B), alias(B, owner=C), at(ONE)) == with_addresses(300, ONE)


def test_the_same_alias_twice() -> None:
    assert learnt(alias(B, ttl=9), alias(B, ttl=7), at(ONE, owner=B)) == with_addresses(7, ONE)


def test_an_alias_alone_opens_nothing() -> None:
    assert learnt(alias(B)) == NOTHING
    assert learnt(alias(B), query_=query(kind=CNAME)) == NOTHING


def test_addresses_beside_a_chain_open_nothing() -> None:
    beside = at("192.0.2.66", ttl=1)
    assert learnt(alias(B), beside) == NOTHING
    for records in permutations((alias(B), beside, at(ONE, owner=B))):
        assert learnt(*records) == with_addresses(300, ONE)
    assert learnt(alias(B), at(SIX), at(ONE, owner=B)) == with_addresses(300, ONE)
    assert learnt(alias(B), alias(C, owner=B), at("192.0.2.66", owner=B), at(ONE, owner=C)) == with_addresses(300, ONE)


def test_addresses_of_others_that_have_an_alias() -> None:
    assert learnt(at(ONE), alias(C, owner=B), at("192.0.2.66", owner=B)) == with_addresses(300, ONE)


# -- what is truncated -------------------------------------------------------------------------------------------------

CUT = RESPONSE | TRUNCATED


def cut(*records: bytes, size: int | None = None, flags: int = CUT, query_: Query = QUERY) -> Learnt:
    """What a truncated answer teaches of which there are so many bytes."""
    return read_answer(answer(query_.question, *records, flags=flags)[:size], query_)


def test_of_truncated_answers_counts_what_is_whole() -> None:
    records = at(ONE), at("192.0.2.2", ttl=9)
    first, whole = BEHIND + len(records[0]), BEHIND + len(records[0] + records[1])
    for size in range(BEHIND, whole + 1):
        expected = NOTHING if size < first else with_addresses(300, ONE)
        assert cut(*records, size=size) == (expected if size < whole else with_addresses(9, ONE, "192.0.2.2"))


def test_truncated_chains_and_services() -> None:
    assert cut(alias(B, ttl=7), at(ONE, owner=B), at(ONE), size=-1) == with_addresses(7, ONE)
    assert cut(at(ONE, owner=B), alias(B), size=-1) == NOTHING
    assert cut(at(ONE), alias(B), size=-1) == with_addresses(300, ONE)
    hints = rr(HTTPS, service((4, b"\xc0\0\2\1")))
    assert cut(hints, hints, size=-3, query_=query(kind=HTTPS)) == with_addresses(300, ONE)
    assert cut(hints, rr(HTTPS, b"\0\1\7x"), query_=query(kind=HTTPS)) == with_addresses(300, ONE)


def test_behind_the_answers_of_a_truncated_one_nothing_is_looked_at() -> None:
    expected = with_addresses(300, ONE)
    assert read_answer(answer(QUESTION, at(ONE), flags=CUT, counts=(1, 9, 9)), QUERY) == expected
    assert read_answer(answer(QUESTION, at(ONE), b"x", flags=CUT, counts=(1, 0, 0)), QUERY) == expected
    broken = rr(NS, b"", owner=pointer(999))
    assert read_answer(answer(QUESTION, at(ONE), broken, flags=CUT, counts=(1, 1, 0)), QUERY) == expected
    assert read_answer(answer(QUESTION, at(ONE), flags=CUT, counts=(0, 1, 0)), QUERY) == NOTHING


@pytest.mark.parametrize(
    "records",
    [
        pytest.param((at(ONE), rr(A, bytes(5))), id="A of 5"),
        pytest.param((at(ONE), at(ONE, owner=pointer(999))), id="pointer behind the end"),
        pytest.param((at(ONE), rr(CNAME, B + b"\0", owner=B)), id="alias too short for its data"),
        pytest.param((alias(B), at(ONE, owner=B), alias(C)), id="two aliases"),
        pytest.param((alias(B), alias(QUESTION[:-4], owner=B), at(ONE)), id="loop"),
        pytest.param(tuple(chain(MAX_CHAIN + 1)), id="chain too long"),
        pytest.param((at(ONE),) * (MAX_RECORDS + 1), id="too many"),
        pytest.param((rr(TXT, bytes(60000)),) * 2, id="too long"),
    ],
)
def test_truncated_answers_that_are_wrong_open_nothing(records: tuple[bytes, ...]) -> None:
    assert cut(*records) == NOTHING
    with pytest.raises(DnsError):
        cut(*records, flags=RESPONSE, size=65536)


def test_truncated_failures_open_nothing() -> None:
    assert cut(at(ONE), flags=CUT | NXDOMAIN) == NOTHING


def test_a_truncated_answer_to_another_question_is_none() -> None:
    with pytest.raises(DnsError):
        read_answer(answer(asked("www.b.test"), at(ONE), flags=CUT), QUERY)


@given(st.binary(max_size=60), st.integers(0, 4))
def test_no_truncated_answer_is_an_error(data: bytes, count: int) -> None:
    found = read_answer(answer(QUESTION, at(ONE), data, flags=CUT, counts=(1 + count, 0, 0)), QUERY)
    assert found == NOTHING or found.addresses


# -- services ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HTTPS, SVCB])
def test_hints(kind: int) -> None:
    asks = query(kind=kind)
    hints = service((1, b"\2h2"), (4, b"\xc0\0\2\1\xc0\0\2\2"), (6, packed(SIX)[0]), (7, b""), target=wire("c.test"))
    expected = with_addresses(60, ONE, "192.0.2.2", SIX)
    assert learnt(rr(kind, hints, ttl=60), query_=asks) == expected
    assert learnt(alias(B), rr(kind, hints, ttl=60, owner=B), query_=asks) == expected
    assert learnt(rr(kind, service(), ttl=1), rr(kind, hints, ttl=60), query_=asks) == expected
    assert learnt(rr(kind, hints, owner=B), query_=asks) == NOTHING
    assert learnt(rr(kind, hints)) == NOTHING
    assert learnt(rr(HTTPS + SVCB - kind, hints), query_=asks) == NOTHING


def test_an_alias_of_a_service_has_no_hints() -> None:
    asks = query(kind=HTTPS)
    assert learnt(rr(HTTPS, service((4, bytes(4)), priority=0)), query_=asks) == NOTHING
    assert learnt(rr(HTTPS, service((9, b""), (4, b"x"), priority=0)), query_=asks) == NOTHING


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0\1", id="no target"),
        pytest.param(b"\0\1\1a", id="target cut off"),
        pytest.param(b"\0\1\xc0\x0c", id="target compressed"),
        pytest.param(service((4, bytes(4)), (1, b"")), id="out of order"),
        pytest.param(service((4, bytes(4)), (4, bytes(4))), id="twice"),
        pytest.param(service((4, bytes(5))), id="five bytes"),
        pytest.param(service((4, b"")), id="no address"),
        pytest.param(service((6, bytes(4))), id="four bytes of IPv6"),
        pytest.param(service((4, bytes(4)))[:-1], id="cut off in a value"),
        pytest.param(service((4, bytes(4))) + b"\0", id="cut off in a key"),
        pytest.param(service((4, bytes(4))) + b"\0\5\0", id="cut off in a length"),
    ],
)
def test_broken_services(data: bytes) -> None:
    for more in ((), (at(ONE), at(ONE), at(ONE))):
        with pytest.raises(DnsError):
            learnt(rr(HTTPS, data), *more, query_=query(kind=HTTPS))


# -- what is broken ----------------------------------------------------------------------------------------------------

OTHER = wire("other.test")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(asked("www.b.test"), at(ONE)), id="another question"),
        pytest.param(answer(QUESTION, at(ONE))[:-1], id="cut in an address"),
        pytest.param(answer(QUESTION, at(ONE))[:-5], id="cut in a header"),
        pytest.param(answer(QUESTION, at(ONE))[: BEHIND + 1], id="cut in a name"),
        pytest.param(answer(QUESTION, at(ONE)) + b"\0", id="a byte behind"),
        pytest.param(answer(QUESTION, at(ONE), counts=(0, 0, 0)), id="none counted"),
        pytest.param(answer(QUESTION, at(ONE), counts=(2, 0, 0)), id="two counted"),
        pytest.param(answer(QUESTION, at(ONE), counts=(1, 1, 0)), id="authority counted"),
        pytest.param(answer(QUESTION, at(ONE), counts=(1, 0, 1)), id="additional counted"),
        pytest.param(answer(QUESTION, at(ONE), counts=(65535, 65535, 65535)), id="all counted"),
        pytest.param(answer(QUESTION, rr(A, bytes(5))), id="A of 5"),
        pytest.param(answer(QUESTION, rr(A, bytes(3))), id="A of 3"),
        pytest.param(answer(QUESTION, rr(A, b"")), id="A of 0"),
        pytest.param(answer(QUESTION, rr(AAAA, bytes(4))), id="AAAA of 4"),
        pytest.param(answer(QUESTION, rr(A, bytes(5), owner=OTHER)), id="A of 5 of another"),
        pytest.param(answer(QUESTION, rr(A, bytes(5)), flags=RESPONSE | NXDOMAIN), id="A of 5 that does not count"),
        pytest.param(answer(QUESTION, rr(TXT, b"x" * 9)[:-1]), id="text cut off"),
        pytest.param(answer(QUESTION, EDNS[:-1], counts=(0, 0, 1)), id="EDNS cut off"),
        pytest.param(answer(QUESTION, at(ONE, owner=pointer(BEHIND))), id="pointer to itself"),
        pytest.param(answer(QUESTION, at(ONE, owner=pointer(BEHIND + 16)), at(ONE)), id="pointer ahead"),
        pytest.param(answer(QUESTION, at(ONE, owner=pointer(0))), id="pointer into the header"),
        pytest.param(answer(QUESTION, at(ONE, owner=pointer(11))), id="pointer to the last byte of the header"),
        pytest.param(answer(QUESTION, at(ONE, owner=pointer(16383))), id="pointer behind the end"),
        pytest.param(answer(QUESTION, at(ONE, owner=b"\1a" + pointer(BEHIND))), id="pointer to its own beginning"),
        pytest.param(answer(QUESTION, at(ONE, owner=b"\1a" + pointer(BEHIND + 2))), id="pointer to its own end"),
        pytest.param(answer(QUESTION, at(ONE, owner=b"\x40" + bytes(80))), id="label of 64"),
        pytest.param(answer(QUESTION, at(ONE, owner=b"\x80" + bytes(200))), id="label of 128"),
        pytest.param(answer(QUESTION, at(ONE, owner=wire(".".join(["a" * 63] * 4)))), id="name of 257"),
        pytest.param(answer(QUESTION, at(ONE, owner=b"\1a" * 128 + b"\0")), id="128 labels"),
        pytest.param(answer(QUESTION, at(ONE), at(ONE, owner=pointer(BEHIND)), counts=(1, 0, 1))[:-3], id="cut behind"),
        pytest.param(answer(QUESTION, at(ONE), rr(NS, b"", owner=pointer(999)), counts=(1, 1, 0)), id="NS pointer"),
        pytest.param(answer(QUESTION, rr(CNAME, B + b"\0")), id="alias too short for its data"),
        pytest.param(answer(QUESTION, rr(CNAME, B[:-1]), at(ONE)), id="alias too long for its data"),
        pytest.param(answer(QUESTION, rr(CNAME, b"")), id="alias of nothing"),
        pytest.param(
            answer(QUESTION, alias(B), alias(QUESTION[:-4], owner=B), at(ONE, owner=B)), id="addresses in a loop"
        ),
        pytest.param(answer(QUESTION, alias(B), alias(C, owner=B), alias(B, owner=C)), id="loop"),
        pytest.param(answer(QUESTION, alias(QUESTION[:-4])), id="alias of itself"),
        pytest.param(answer(QUESTION, alias(B), alias(C)), id="two aliases"),
        pytest.param(answer(QUESTION, alias(B), alias(C), flags=RESPONSE | NXDOMAIN), id="two aliases of nothing"),
        pytest.param(answer(QUESTION, *[at(ONE)] * (MAX_RECORDS + 1)), id="too many"),
        pytest.param(answer(QUESTION, *[at(ONE)] * 10000), id="far too many, and too long"),
    ],
)
def test_broken_answers(data: bytes) -> None:
    with pytest.raises(DnsError) as caught:
        read_answer(data, QUERY)
    assert caught.value.reason


@given(st.integers(0, 200))
def test_no_part_of_an_answer_is_one(size: int) -> None:
    whole = answer(QUESTION, alias(B), at(ONE, owner=B), EDNS, counts=(2, 0, 1))
    if size < len(whole):
        with pytest.raises(DnsError):
            read_answer(whole[:size], QUERY)


def test_a_name_through_pointers_may_be_255_bytes() -> None:
    labels = ["a" * 63, "b" * 63, "c" * 63]
    first = at(ONE, owner=wire(".".join([*labels, "d" * 61])))
    assert learnt(first) == NOTHING
    longer = at(ONE, owner=b"\1e" + pointer(BEHIND))
    with pytest.raises(DnsError):
        learnt(first, longer)


# -- hostile ones cost little ------------------------------------------------------------------------------------------

MOST_STEPS = 4 * 65536
"""Four for each byte that there can be."""


def _steps(data: bytes) -> int:
    def read() -> None:
        with suppress(DnsError):
            read_answer(data, QUERY)

    return steps(read)


def test_names_that_point_everywhere_are_unpacked_once() -> None:
    """A long run of labels of one byte, and thousands of names that begin anywhere in it."""
    run = rr(TXT, (b"\1a" * 120 + b"\0") * 25)
    start = BEHIND + 12
    many = [at(ONE, owner=b"\1x" + pointer(start + 241 * (n // 120) + 2 * (n % 120))) for n in range(3000)]
    data = answer(QUESTION, run, *many)
    assert read_answer(data, QUERY).addresses == ()
    assert _steps(data) < MOST_STEPS


def test_a_long_chain_of_pointers() -> None:
    """Each points to the one before."""
    start = BEHIND + 12
    links = b"".join(pointer(12 if n == 0 else start + 2 * n - 2) for n in range(7000))
    data = answer(QUESTION, rr(TXT, links), *[at(ONE, owner=pointer(start + 2 * 6999))] * 3000)
    assert len(read_answer(data, QUERY).addresses) == 1
    assert _steps(data) < MOST_STEPS


def test_as_many_records_as_there_may_be() -> None:
    data = answer(QUESTION, *(rr(A, bytes((10, 0, n >> 8, n & 255))) for n in range(MAX_RECORDS - 1)))
    assert len(data) > 65535
    with pytest.raises(DnsError):
        read_answer(data, QUERY)
    data = answer(QUESTION, *(rr(A, bytes((10, 0, n >> 8, n & 255))) for n in range(4090)))
    assert len(read_answer(data, QUERY).addresses) == 4090
    assert _steps(data) < MOST_STEPS
