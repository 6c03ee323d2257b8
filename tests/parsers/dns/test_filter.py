"""DNS over TCP: what each side sends, what the other side gets, how it ends, and what is recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dns.filter import TLS_FAILURE
from parsers.dns.message import read_query
from parsers.dns.replies import failed, refused
from parsers.filters import End, Filter
from parsers.limits import DnsLimits
from tests.parsers.dns.building import (
    AAAA,
    EDNS,
    RESPONSE,
    A,
    answer,
    asked,
    at,
    message,
    packed,
    pointer,
    query_bytes,
)
from tests.parsers.dns.driving import REFUSED, Opener, Wire, framed, messages

STEPS = pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
ONE = "192.0.2.1"


def ask(name: str = "a.test", number: int = 0x1234, kind: int = A) -> bytes:
    return query_bytes(name, kind, number=number)


def reply(forwarded: bytes, *records: bytes) -> bytes:
    """A server's answer to what it was asked."""
    question = read_query(forwarded).question
    return answer(question, *(records or (at(ONE),)), number=int.from_bytes(forwarded[:2], "big"))


def test_it_is_a_filter() -> None:
    filter_: Filter = Wire().filter
    assert (filter_.answer, filter_.end, filter_.is_idle, filter_.unfinished_head) == (b"", None, True, 0)
    assert not filter_.may_be_silent
    assert not filter_.awaits_server_close


@STEPS
def test_a_query_and_its_answer(step: int) -> None:
    wire = Wire().client(framed(ask("A.tEst")), step=step)
    (forwarded,) = wire.asked
    assert forwarded[2:] == ask("A.tEst")[2:]
    assert not wire.filter.is_idle
    given = reply(forwarded)
    wire.server(framed(given), step=step)
    assert wire.told == [b"\x12\x34" + given[2:]]
    assert wire.opener.opened == [("a.test", packed(ONE))]
    (exchange,) = wire.exchanges
    assert (exchange.tag, exchange.query.name, exchange.ruling.note) == ("the tag", "a.test", "the rules")
    assert (exchange.started, exchange.answered, exchange.rcode, exchange.answer) == (100, 200, 0, given[2:])
    assert wire.filter.is_idle
    assert wire.filter.end is None


@STEPS
def test_pipelined_queries_are_answered_in_any_order(step: int) -> None:
    queries = [ask(f"n{number}.test", 7 * number) for number in range(10)]
    wire = Wire().client(framed(*queries), step=step)
    forwarded = wire.asked
    assert len({query[:2] for query in forwarded}) == 10
    order = [3, 1, 9, 0, 2, 8, 7, 4, 6, 5]
    wire.server(framed(*(reply(forwarded[n], at(f"192.0.2.{n}")) for n in order)), step=step)
    assert [told[:2] for told in wire.told] == [queries[n][:2] for n in order]
    assert [told[-4:] for told in wire.told] == [packed(f"192.0.2.{n}")[0] for n in order]
    assert [exchange.query.name for exchange in wire.exchanges] == [f"n{n}.test" for n in order]


def test_one_id_for_several_queries() -> None:
    wire = Wire().client(framed(ask("a.test"), ask("b.test"), ask("a.test", kind=AAAA)))
    wire.server(framed(*(reply(forwarded) for forwarded in reversed(wire.asked))))
    assert [told[:2] for told in wire.told] == [b"\x12\x34"] * 3
    assert [told[12:18] for told in wire.told] == [b"\1a\4tes", b"\1b\4tes", b"\1a\4tes"]


@STEPS
def test_refusals_overtake(step: int) -> None:
    queries = ask("a.test", 1), ask("deny.test", 2), ask("b.test", 3)
    wire = Wire().client(framed(*queries), step=step)
    assert [read_query(forwarded).facts.name for forwarded in wire.asked] == ["a.test", "b.test"]
    assert wire.told == [refused(queries[1], read_query(queries[1]), REFUSED)]
    (exchange,) = wire.exchanges
    assert (exchange.answered, exchange.rcode, exchange.answer, exchange.ruling.permit) == (100, 5, b"", False)
    wire.server(framed(*(reply(forwarded) for forwarded in wire.asked)))
    assert [told[:2] for told in wire.told] == [b"\0\2", b"\0\1", b"\0\3"]


@STEPS
def test_malformed_queries_are_answered_and_the_next_goes_on(step: int) -> None:
    bad = message(asked() * 2, questions=2), message(asked(group=3)), message(b"", flags=0x2800, questions=0)
    an_answer = message(asked(), flags=RESPONSE)
    wire = Wire().client(framed(*bad, an_answer, ask()), step=step)
    assert [(len(told), told[3] & 15) for told in wire.told] == [(12, 1), (12, 5), (12, 4)]
    assert [forwarded[2:] for forwarded in wire.asked] == [ask()[2:]]
    assert (wire.filter.end, wire.exchanges, wire.shared.counters["dns.malformed"]) == (None, [], 4)


@STEPS
@pytest.mark.parametrize("size", [0, 1, 11])
def test_lengths_that_no_message_has_end_it(step: int, size: int) -> None:
    wire = Wire().client(framed(ask()), size.to_bytes(2, "big"), b"x" * 40, framed(ask()), step=step)
    assert len(wire.asked) == 1
    assert (wire.filter.end, wire.filter.failure) == (End.ABORT, "these are not DNS messages")
    wire.filter.finish(300)
    assert [(exchange.rcode, exchange.answered) for exchange in wire.exchanges] == [(-1, 0)]


@STEPS
def test_tls(step: int) -> None:
    wire = Wire().client(b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3" + bytes(600), step=step)
    assert (wire.to_server, wire.to_client) == (b"", b"")
    assert (wire.filter.end, wire.filter.failure) == (End.ABORT, TLS_FAILURE)


def test_a_later_length_is_not_taken_for_tls() -> None:
    long = message(asked(), b"\0" * (0x1603 - 12 - len(asked())))
    wire = Wire().client(framed(ask(), long))
    assert wire.filter.end is None
    assert len(wire.told) == 1


def test_the_largest_messages() -> None:
    largest = message(asked(), EDNS[:-2] + (65535 - 12 - len(asked()) - len(EDNS)).to_bytes(2, "big"), counts=(0, 0, 1))
    largest += bytes(65535 - len(largest))
    wire = Wire().client(framed(largest, largest), step=1000)
    assert [len(forwarded) for forwarded in wire.asked] == [65535, 65535]


# -- answers that do not go on -----------------------------------------------------------------------------------------


def test_answers_that_could_not_be_opened() -> None:
    query = ask("full.test")
    wire = Wire().client(framed(query))
    wire.server(framed(reply(wire.asked[0])))
    assert wire.told == [failed(query, read_query(query))]
    (exchange,) = wire.exchanges
    assert (exchange.answered, exchange.rcode, exchange.answer) == (200, 2, b"")
    assert wire.filter.end is None


def test_broken_answers() -> None:
    query = ask()
    wire = Wire().client(framed(query))
    wire.server(framed(reply(wire.asked[0], at(ONE, owner=pointer(99)))))
    assert wire.told == [failed(query, read_query(query))]
    assert [exchange.rcode for exchange in wire.exchanges] == [2]
    assert (wire.filter.end, wire.shared.counters["dns.malformed_answers"]) == (None, 1)


def test_failures_of_the_server_go_on() -> None:
    wire = Wire().client(framed(ask()))
    given = answer(asked("a.test"), number=int.from_bytes(wire.asked[0][:2], "big"), flags=RESPONSE | 3)
    wire.server(framed(given))
    assert wire.told == [b"\x12\x34" + given[2:]]
    assert [exchange.rcode for exchange in wire.exchanges] == [3]


def test_without_an_opener_answers_go_on() -> None:
    wire = Wire()
    wire.filter.opener = None
    wire.client(framed(ask("full.test")))
    wire.server(framed(reply(wire.asked[0])))
    assert [told[3] & 15 for told in wire.told] == [0]


@STEPS
@pytest.mark.parametrize("what", ["id", "twice"])
def test_answers_that_nobody_waits_for_are_skipped(step: int, what: str) -> None:
    wire = pending()
    first, second = wire.asked
    good = reply(first)
    stray = {"id": b"\xee\xee" + reply(second)[2:], "twice": good}[what]
    wire.server(framed(good, stray, reply(second)), step=step)
    assert [(told[:2], told[3] & 15) for told in wire.told] == [(b"\0\1", 0), (b"\0\2", 0)]
    assert (wire.filter.end, wire.filter.failure, wire.shared.counters["dns.mismatched"]) == (None, "", 1)
    assert [(it.query.name, it.rcode) for it in wire.exchanges] == [("a.test", 0), ("b.test", 0)]


@STEPS
@pytest.mark.parametrize("what", ["question", "case", "query"])
def test_answers_to_another_question_fail_the_query(step: int, what: str) -> None:
    queries = ask("a.test", 1), ask("b.test", 2), ask("c.test", 3)
    wire = Wire().client(framed(*queries))
    first, second, third = wire.asked
    bad = {
        "question": second[:2] + reply(first)[2:],
        "case": reply(second).replace(b"\1b", b"\1B"),
        "query": second,
    }[what]
    wire.server(framed(reply(first), bad, reply(second), reply(third)), step=step)
    assert [(told[:2], told[3] & 15) for told in wire.told] == [(b"\0\1", 0), (b"\0\2", 2), (b"\0\3", 0)]
    assert wire.told[1] == failed(queries[1], read_query(queries[1]))
    assert (wire.filter.end, wire.filter.failure) == (None, "")
    assert wire.shared.counters["dns.mismatched"] == 2, "the bad one, and the good one that came too late"
    assert [(it.query.name, it.rcode) for it in wire.exchanges] == [("a.test", 0), ("b.test", 2), ("c.test", 0)]
    assert [name for name, _ in wire.opener.opened] == ["a.test", "c.test"]


def test_a_server_that_speaks_first() -> None:
    wire = Wire().server(framed(answer(asked())))
    assert (wire.to_client, wire.filter.end, wire.shared.counters["dns.mismatched"]) == (b"", None, 1)
    wire.client(framed(ask())).server(framed(reply(wire.asked[0])))
    assert len(wire.told) == 1


@STEPS
def test_a_server_that_sends_no_messages(step: int) -> None:
    wire = Wire().client(framed(ask())).server(b"\0\3abc" * 9, step=step)
    assert (wire.to_client, wire.filter.end) == (b"", End.ABORT)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_too_many_queries_that_wait() -> None:
    queries = [*(ask(f"n{n}.test", n) for n in range(4)), ask("deny.test", 4)]
    wire = Wire(DnsLimits(pending_queries=2)).client(framed(*queries))
    assert len(wire.asked) == 2
    assert [(told[:2], told[3] & 15) for told in wire.told] == [(b"\0\2", 2), (b"\0\3", 2), (b"\0\4", 5)]
    assert (wire.filter.end, wire.filter.limit) == (None, "pending_queries")
    notes = [exchange.ruling.note for exchange in wire.exchanges]
    assert notes == ["too many queries of one connection wait for their answer"] * 2 + ["the rules"]
    wire.server(framed(*map(reply, wire.asked))).client(framed(ask()))
    assert len(wire.asked) == 3


def test_queries_that_have_waited_for_too_long() -> None:
    queries = [ask(f"{letter}.test", number) for number, letter in enumerate("abc")]
    wire = Wire(DnsLimits(timeout_ns=1000))
    for number, query in enumerate(queries):
        wire.client(framed(query), now=100 + number)
    wire.expire(1100)
    assert wire.told == []
    wire.expire(1102)
    assert wire.told == [failed(query, read_query(query)) for query in queries[:2]]
    assert [(it.query.name, it.answered, it.rcode, it.answer) for it in wire.exchanges] == [
        ("a.test", 1102, 2, b""),
        ("b.test", 1102, 2, b""),
    ]
    assert (wire.filter.end, wire.filter.is_idle, wire.shared.counters["dns.timeouts"]) == (None, False, 2)
    wire.server(framed(*map(reply, wire.asked)))
    assert [told[:2] for told in wire.told] == [b"\0\0", b"\0\1", b"\0\2"]
    assert wire.told[2][3] & 15 == 0
    assert (wire.filter.end, wire.filter.is_idle, wire.shared.counters["dns.mismatched"]) == (None, True, 2)


def test_time_makes_room_for_other_queries() -> None:
    wire = Wire(DnsLimits(pending_queries=1)).client(framed(ask("a.test", 1)))
    wire.expire(100 + DnsLimits().timeout_ns + 1).client(framed(ask("b.test", 2)))
    assert [read_query(forwarded).facts.name for forwarded in wire.asked] == ["a.test", "b.test"]


def test_a_client_that_has_ended_waits_no_longer() -> None:
    wire = Wire(DnsLimits(timeout_ns=1000)).client(framed(ask("a.test", 1), ask("b.test", 2)))
    wire.filter.client_eof()
    wire.expire(2000)
    assert all_failed(wire)
    assert (wire.filter.end, wire.filter.failure) == (End.CLOSE, "")


def test_what_is_over_does_not_expire() -> None:
    wire = pending().server(b"\0\3abc").expire(1 << 60)
    assert (wire.to_client, wire.filter.end, wire.shared.counters["dns.timeouts"]) == (b"", End.ABORT, 0)


def test_ids_begin_again() -> None:
    wire = Wire()
    stuck = wire.client(framed(ask("stuck.test"))).asked[0]
    seen = set()
    for _ in range(66000):
        forwarded = wire.filter.client_data(framed(ask()), 1)[2:]
        assert forwarded[:2] != stuck[:2]
        seen.add(forwarded[:2])
        wire.filter.server_data(framed(reply(forwarded)), 1)
    assert len(seen) == 65535


# -- ends --------------------------------------------------------------------------------------------------------------


def pending() -> Wire:
    return Wire().client(framed(ask("a.test", 1), ask("b.test", 2)))


def all_failed(wire: Wire) -> bool:
    wire.take()
    told = [(message[:2], message[3] & 15) for message in wire.told]
    recorded = [(exchange.query.name, exchange.rcode, exchange.answer) for exchange in wire.exchanges]
    return told == [(b"\0\1", 2), (b"\0\2", 2)] and recorded == [("a.test", 2, b""), ("b.test", 2, b"")]


def test_the_server_is_not_there() -> None:
    wire = pending()
    wire.filter.server_unreachable("no route", 150)
    assert all_failed(wire)
    assert (wire.filter.end, wire.filter.failure) == (End.CLOSE, "no route")
    assert [exchange.answered for exchange in wire.exchanges] == [150, 150]
    wire.filter.finish(200)
    assert len(wire.exchanges) == 2


def test_the_server_ends_before_it_answers() -> None:
    wire = pending()
    wire.server(framed(reply(wire.asked[0]))[:-1])
    wire.filter.server_eof()
    assert all_failed(wire)
    assert wire.filter.end is End.CLOSE
    assert wire.filter.failure


def test_the_server_ends_a_quiet_connection() -> None:
    wire = Wire().client(framed(ask()))
    wire.server(framed(reply(wire.asked[0])))
    wire.filter.server_eof()
    assert (wire.filter.answer, wire.filter.end, wire.filter.failure) == (b"", End.CLOSE, "")


def test_the_client_ends_and_waits() -> None:
    wire = pending()
    wire.filter.client_eof()
    assert wire.filter.end is None
    first, second = wire.asked
    wire.server(framed(reply(second)))
    assert wire.filter.end is None
    wire.server(framed(reply(first)))
    assert wire.filter.end is End.CLOSE
    assert len(wire.told) == 2


@pytest.mark.parametrize("data", [b"", b"\0", framed(ask())[:-1]])
def test_the_client_ends(data: bytes) -> None:
    wire = Wire().client(data)
    wire.filter.client_eof()
    assert (wire.filter.end, wire.to_server) == (End.CLOSE, b"")


def test_a_query_that_is_not_whole_must_be_soon() -> None:
    wire = Wire().client(framed(ask("a.test", 1), ask("b.test", 2))[:-1])
    first = wire.filter.unfinished_head
    assert first
    assert not wire.filter.is_idle
    wire.client(framed(ask("b.test", 2))[-1:])
    assert wire.filter.unfinished_head == 0
    wire.client(b"\0")
    assert wire.filter.unfinished_head not in (0, first)
    wire.filter.time_out()
    assert all_failed(wire)
    assert (wire.filter.end, wire.filter.limit) == (End.CLOSE, "header_timeout")


def test_draining() -> None:
    assert Wire().filter.drain(1)
    assert Wire().client(b"\0\x20").filter.drain(1)
    wire = pending()
    assert not wire.filter.drain(1)
    wire.client(framed(ask("c.test", 3)))
    first, second = wire.asked
    wire.server(framed(reply(first)))
    assert not wire.filter.drain(2)
    wire.server(framed(reply(second)))
    assert wire.filter.end is End.CLOSE
    assert wire.filter.drain(3)


def test_what_is_left_is_recorded_once() -> None:
    wire = pending()
    wire.filter.finish(300)
    wire.filter.finish(300)
    assert [(it.tag, it.answered, it.rcode) for it in wire.exchanges] == [("the tag", 0, -1)] * 2
    wire.client(framed(ask("late.test")))
    assert len(wire.asked) == 2


def test_another_judge_and_another_opener() -> None:
    wire = pending()
    other = Wire()
    wire.filter.judge, wire.filter.opener = other.judge, other.opener
    wire.client(framed(ask("c.test", 3))).server(framed(*map(reply, wire.asked)))
    assert [query.name for query in other.judge.seen] == ["c.test"]
    assert [name for name, _ in other.opener.opened] == ["a.test", "b.test", "c.test"]
    assert wire.opener == Opener()


# -- any bytes, in any pieces ------------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        framed(ask("a.test", 1)),
        framed(ask("deny.test", 2)),
        framed(ask("full.test", 3)),
        framed(message(asked() * 2, questions=2)),
        framed(message(asked(), flags=RESPONSE)),
        framed(ask())[:-2],
        b"\0",
        b"\x16\x03\x01",
    ]
)
STREAMS = st.lists(PARTS | st.binary(max_size=30), max_size=8).map(b"".join)
CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def in_pieces(stream: bytes, sizes: list[int]) -> list[bytes]:
    found, start, turn = [], 0, 0
    while start < len(stream):
        size = sizes[turn % len(sizes)]
        found.append(stream[start : start + size])
        start, turn = start + size, turn + 1
    return found


@given(STREAMS, CUTS)
def test_however_the_client_sends_it(stream: bytes, sizes: list[int]) -> None:
    whole, cut = Wire().client(stream), Wire()
    for piece in in_pieces(stream, sizes):
        cut.client(piece)
    assert (cut.to_server, cut.to_client) == (whole.to_server, whole.to_client)
    assert (cut.filter.end, cut.filter.failure) == (whole.filter.end, whole.filter.failure)
    assert cut.judge.seen == whole.judge.seen
    for wire in (whole, cut):
        assert all(not read_query(forwarded).facts.name.startswith("deny") for forwarded in messages(wire.to_server))
        wire.filter.finish(1)
        assert len(wire.exchanges) == len(wire.judge.seen)


def _replies() -> list[bytes]:
    forwarded = pending().client(framed(ask("full.test", 3))).asked
    broken = reply(forwarded[0], at(ONE, owner=pointer(99)))
    return [framed(it) for it in (*map(reply, forwarded), broken, reply(forwarded[0])[:-1])]


@given(st.lists(st.sampled_from(_replies()) | st.binary(max_size=30), max_size=8).map(b"".join), CUTS)
def test_however_the_server_sends_it(stream: bytes, sizes: list[int]) -> None:
    whole = pending().client(framed(ask("full.test", 3))).server(stream)
    cut = pending().client(framed(ask("full.test", 3)))
    for piece in in_pieces(stream, sizes):
        cut.server(piece)
    assert cut.to_client == whole.to_client
    assert (cut.filter.end, cut.filter.failure) == (whole.filter.end, whole.filter.failure)
    assert cut.opener == whole.opener
    for wire in (whole, cut):
        assert all(told[:2] in (b"\0\1", b"\0\2", b"\0\3") for told in wire.told)
        wire.filter.finish(1)
        assert len(wire.exchanges) == 3
