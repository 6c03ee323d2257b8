"""What the filter lets pass, other parsers frame the same way; and how bytes arrive changes nothing.

The oracles are h11 and llhttp: two of the parsers that may stand behind us. They may refuse what we accept only for a
reason in `_may_stop`, and never may they find another request in what we forward than those that were judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from parsers.facts import HttpRequest
from parsers.filters import End
from tests.parsers.http1 import streams
from tests.parsers.http1.driving import Connection, Outcome, bytewise, client_only
from tests.parsers.http1.oracles import Framed, Reading, read_with_h11, read_with_llhttp

SETTINGS = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
LLHTTP_METHODS = frozenset((*streams.METHODS, b"TRACE", b"M-SEARCH"))
"""Of the methods here, those that llhttp knows: it has a table and refuses every other token."""


def _may_stop(before: list[HttpRequest], request: HttpRequest, oracle: str, forwarded: bytes) -> str:
    """Why an oracle may read no further than up to this request although we forwarded it. Less is never a danger."""
    if oracle == "llhttp" and request.method not in LLHTTP_METHODS:
        return "llhttp has a table of methods"
    if oracle == "llhttp" and before and (b"proxy-connection", b"close") in before[-1].headers:
        return "llhttp takes Proxy-Connection for Connection"
    if oracle == "h11" and before and b" HTTP/1.0\r\n" in forwarded:
        return "h11 reads nothing behind a request of HTTP/1.0"
    return ""


def _check(outcome: Outcome, reading: Reading, oracle: str) -> list[Framed]:
    """The oracle found the requests that were judged, in order, and nothing else."""
    judged = outcome.requests[:-1] if outcome.end is End.ABORT else outcome.requests
    found = [(request.method, request.target) for request in reading.requests]
    expected = [(request.method, request.path) for request in judged]
    assert found == expected[: len(found)], f"{oracle} finds other requests: {reading.error}"
    if len(found) < len(expected):
        why = _may_stop(judged[: len(found)], judged[len(found)], oracle, outcome.to_server)
        assert why, f"{oracle} stops before {expected[len(found)]}: {reading.error or 'it waits for more'}"
        event(why)
    return reading.requests


def agree(data: bytes) -> None:
    outcome = client_only([data])
    event(f"{len(outcome.requests)} requests, {'refused' if outcome.failure else 'accepted'}")
    h11_found = _check(outcome, read_with_h11(outcome.to_server), "h11")
    llhttp_found = _check(outcome, read_with_llhttp(outcome.to_server), "llhttp")
    both = min(len(h11_found), len(llhttp_found))
    assert h11_found[:both] == llhttp_found[:both], "the bodies differ"


@SETTINGS
@given(st.lists(streams.odd_request(), min_size=1, max_size=3).map(b"".join))
def test_odd_requests_are_framed_alike_by_all(data: bytes) -> None:
    agree(data)


@SETTINGS
@given(streams.mutated(st.lists(streams.plain_request(), min_size=1, max_size=3).map(b"".join)))
def test_changed_bytes_are_framed_alike_by_all(data: bytes) -> None:
    agree(data)


@SETTINGS
@given(st.lists(streams.plain_request(), min_size=1, max_size=4).map(b"".join))
def test_well_formed_requests_are_all_forwarded(data: bytes) -> None:
    outcome = client_only([data])
    assert outcome.failure == ""
    assert len(read_with_h11(outcome.to_server).requests) == len(outcome.requests)


@SETTINGS
@given(streams.mutated(st.lists(streams.odd_request(), min_size=1, max_size=2).map(b"".join)), streams.CUTS)
def test_a_split_changes_no_verdict_on_odd_bytes(data: bytes, cuts: list[int]) -> None:
    """A request that is cut off (ABORT) may have got further in one split than in another; nothing else may differ.

    Of a refusal the answer may differ: what is wrong first is not always seen first.
    """
    whole = client_only([data])
    for pieces in (streams.split(data, cuts), bytewise(data)):
        other = client_only(pieces)
        assert other.requests == whole.requests
        assert other.end is whole.end
        if whole.end is End.ABORT:
            shorter, longer = sorted((whole.to_server, other.to_server), key=len)
            assert longer.startswith(shorter)
        else:
            assert other.to_server == whole.to_server


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: requests, the answers to those that are permitted, and how both arrive."""

    requests: list[bytes]
    answers: list[streams.Answer]
    cuts: list[int]
    client_closes: bool


TALKS = st.builds(
    Talk,
    st.lists(streams.plain_request(), min_size=1, max_size=5),
    st.lists(streams.answer(), min_size=5, max_size=5),
    streams.CUTS,
    st.booleans(),
)


def permits(request: HttpRequest) -> bool:
    return not request.path.startswith(b"/admin")


def _answers(talk: Talk) -> list[bytes]:
    """What the server sends for each request; nothing for those that it does not get."""
    asked = [client_only([request]).requests[0] for request in talk.requests]
    return [
        (answer.to_head if request.method == b"HEAD" else answer.whole) if permits(request) else b""
        for request, answer in zip(asked, talk.answers, strict=False)
    ]


def _at_once(talk: Talk) -> Outcome:
    """Everything the client has to say, then everything the server has."""
    connection = Connection(permits)
    connection.client(b"".join(talk.requests))
    if talk.client_closes:
        connection.client_eof()
    connection.server(b"".join(_answers(talk)))
    return connection.done()


def _in_turn(talk: Talk, step: int) -> Outcome:
    """One request, its answer, the next request; in pieces of `step` bytes, or cut at `cuts` where that is 0."""
    connection = Connection(permits)
    for number, (request, answer) in enumerate(zip(talk.requests, _answers(talk), strict=True)):
        for piece in _pieces(request, talk, step):
            connection.client(piece)
        if talk.client_closes and number == len(talk.requests) - 1:
            connection.client_eof()
        for piece in _pieces(answer, talk, step):
            connection.server(piece)
    return connection.done()


def _pieces(data: bytes, talk: Talk, step: int) -> list[bytes]:
    return [data[at : at + step] for at in range(0, len(data), step)] if step else streams.split(data, talk.cuts)


def _same(one: Outcome, other: Outcome) -> None:
    assert other.to_server == one.to_server
    assert other.to_client == one.to_client
    assert other.end is one.end
    assert other.failure == one.failure
    # Refusals are recorded when they are made, which may be before earlier requests have their answer.
    assert sorted(other.statuses) == sorted(one.statuses)
    assert other.is_idle == one.is_idle


HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"


@SETTINGS
@given(TALKS)
@example(Talk([GET] * 2, [streams.Answer(OK, OK)] * 5, [], client_closes=True))
def test_how_a_conversation_arrives_changes_nothing(talk: Talk) -> None:
    """Whole messages in turn, cut anywhere, byte by byte: the same bytes come out, and the same records."""
    whole = _in_turn(talk, 1 << 16)
    assert whole.failure == ""
    _same(whole, _in_turn(talk, 0))
    _same(whole, _in_turn(talk, 1))


def _past(talk: Talk) -> Outcome:
    """In turn, and what the filter needs not see goes by it."""
    connection = Connection(permits)
    for number, (request, answer) in enumerate(zip(talk.requests, _answers(talk), strict=True)):
        connection.client_past(request)
        if talk.client_closes and number == len(talk.requests) - 1:
            connection.client_eof()
        connection.server_past(answer)
    return connection.done()


@SETTINGS
@given(TALKS)
def test_what_goes_by_changes_nothing(talk: Talk) -> None:
    _same(_in_turn(talk, 1), _past(talk))


@SETTINGS
@given(streams.mutated(st.lists(streams.odd_request(), min_size=1, max_size=2).map(b"".join)))
def test_nothing_goes_by_that_decides_on_odd_bytes(data: bytes) -> None:
    connection = Connection(memo=False)
    connection.client_past(data)
    connection.client_eof()
    past, seen = connection.done(), client_only(bytewise(data))
    assert (past.requests, past.end, past.failure) == (seen.requests, seen.end, seen.failure)
    assert (past.to_server, past.to_client) == (seen.to_server, seen.to_client)


@SETTINGS
@given(TALKS)
def test_pipelining_changes_nothing(talk: Talk) -> None:
    """All requests at once, then all answers: as in turn, refusals in their places."""
    _same(_in_turn(talk, 1 << 16), _at_once(talk))


@SETTINGS
@given(TALKS)
def test_a_denied_request_never_reaches_the_server(talk: Talk) -> None:
    outcome = _at_once(talk)
    targets = [request.target for request in read_with_h11(outcome.to_server).requests]
    assert targets == [request.path for request in client_only([b"".join(talk.requests)]).requests if permits(request)]
