"""The filter as a transcript: what each side sends, what the other side gets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.facts import HttpRequest
from parsers.filters import End
from parsers.http.judging import Denial, Ruling
from parsers.http1.filter import Http1Filter
from parsers.http1.judging import MEMO_ENTRIES, HeadMemo, Http1Shared
from parsers.limits import Http1Limits

DENIED = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 15\r\ncontent-type: text/plain\r\n\r\nAccess denied\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

KEY, VERSION = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13"  # RFC 6455 §1.3
WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket", KEY, VERSION)
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def get(path: bytes = b"/a", *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: a.test", *headers, b"", b""))


@dataclass
class PathJudge:
    """Refuses paths that begin with /deny."""

    memo: HeadMemo = field(default_factory=lambda: HeadMemo(looks_at_headers=False))
    seen: list[bytes] = field(default_factory=list)
    told: bytes = b""

    def rule(self, request: HttpRequest) -> Ruling:
        self.seen.append(request.path)
        return Ruling(not request.path.startswith(b"/deny"), told=self.told)


class Wire:
    """A filter between two transcripts."""

    def __init__(self, limits: Http1Limits | None = None) -> None:
        self.judge = PathJudge()
        self.shared = Http1Shared(limits or Http1Limits())
        self.filter = Http1Filter(self.judge, self.shared)
        self.to_server = b""
        self.to_client = b""

    def client(self, data: bytes, step: int = 1 << 20) -> Wire:
        for at in range(0, len(data), step):
            self.to_server += self.filter.client_data(data[at : at + step], 0)
            self._take_answer()
        return self

    def server(self, data: bytes, step: int = 1 << 20) -> Wire:
        for at in range(0, len(data), step):
            if self.filter.end is not None:
                break
            self.to_client += self.filter.server_data(data[at : at + step], 0)
            self._take_answer()
        return self

    def _take_answer(self) -> None:
        self.to_client += self.filter.answer
        self.filter.answer = b""

    @property
    def statuses(self) -> list[int]:
        return [exchange.status for exchange in self.shared.exchanges]


class Wordless(PathJudge):
    """Refuses without an answer."""

    def __init__(self, denial: Denial) -> None:
        super().__init__()
        self._denial = denial

    def rule(self, request: HttpRequest) -> Ruling:
        return replace(super().rule(request), denial=self._denial)


STEPS = pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])


@STEPS
def test_allowed_exchange_goes_on_verbatim(step: int) -> None:
    wire = Wire().client(get(), step).server(OK, step)
    assert (wire.to_server, wire.to_client, wire.statuses) == (get(), OK, [200])
    assert wire.filter.is_idle


@STEPS
def test_memo_gives_the_same_answer_again(step: int) -> None:
    wire = Wire()
    for _ in range(3):
        wire.client(get(), step).server(OK, step)
    assert wire.to_server == get() * 3
    assert wire.judge.seen == [b"/a"]


@STEPS
def test_refused_request_never_reaches_the_server(step: int) -> None:
    wire = Wire().client(get(b"/deny"), step)
    assert (wire.to_server, wire.to_client, wire.statuses) == (b"", DENIED, [403])
    assert wire.filter.end is None
    assert wire.client(get(), step).server(OK, step).to_server == get()


@STEPS
def test_refusal_of_a_pipelined_request_waits_for_its_turn(step: int) -> None:
    wire = Wire().client(get(b"/1") + get(b"/deny") + get(b"/3"), step)
    assert wire.to_server == get(b"/1") + get(b"/3")
    assert wire.to_client == b""
    wire.server(OK + OK.replace(b"ok", b"no"), step)
    assert wire.to_client == OK + DENIED + OK.replace(b"ok", b"no")


@STEPS
def test_a_refusal_by_reset_waits_for_its_turn(step: int) -> None:
    wire = Wire()
    wire.filter.judge = Wordless(Denial.RESET)
    wire.client(get(b"/1") + get(b"/deny") + get(b"/3"), step)
    assert (wire.to_server, wire.filter.end) == (get(b"/1"), None)
    wire.server(OK, step)
    assert (wire.to_client, wire.filter.end, wire.statuses) == (OK, End.ABORT, [0, 200])
    at_once = Wire()
    at_once.filter.judge = Wordless(Denial.RESET)
    assert at_once.client(get(b"/deny"), step).filter.end is End.ABORT


@STEPS
def test_a_refusal_by_silence_says_nothing_more(step: int) -> None:
    wire = Wire()
    wire.filter.judge = Wordless(Denial.DROP)
    wire.client(get(b"/1") + get(b"/deny") + get(b"/3"), step).server(OK, step)
    assert (wire.to_server, wire.to_client, wire.filter.end) == (get(b"/1"), OK, None)
    wire.filter.client_eof()
    assert wire.filter.end is End.CLOSE


def test_refused_requests_are_bounded_in_one_read_and_not_on_a_connection() -> None:
    wire = Wire(Http1Limits(pipelined_requests=10))
    for _ in range(50):
        wire.client(get(b"/deny"))
    assert (wire.to_client, wire.filter.end) == (DENIED * 50, None)
    wire.client(get(b"/deny") * 12)
    assert (wire.filter.end, wire.filter.limit) == (End.CLOSE, "pipelined_requests")
    assert wire.to_client.startswith(DENIED * 60 + b"HTTP/1.1 429 ")


def test_a_refusal_may_say_why() -> None:
    wire = Wire()
    wire.filter.judge = PathJudge(told=b"no rule permits it")
    assert b"\r\nx-denied-by: no rule permits it\r\n" in wire.client(get(b"/deny")).to_client


@STEPS
def test_refused_body_is_read_over(step: int) -> None:
    smuggled = get(b"/smuggled")
    body = b"Content-Length: %d" % len(smuggled)
    wire = Wire().client(get(b"/deny", body, method=b"POST") + smuggled + get(b"/next"), step)
    assert wire.to_server == get(b"/next")
    assert wire.to_client == DENIED
    chunked = get(b"/deny", b"Transfer-Encoding: chunked", method=b"POST") + b"3\r\nabc\r\n0\r\n\r\n"
    wire = Wire().client(chunked + get(b"/next"), step)
    assert wire.to_server == get(b"/next")


@STEPS
def test_large_refused_body_ends_the_connection(step: int) -> None:
    limits = Http1Limits(discarded_body_bytes=10)
    wire = Wire(limits).client(get(b"/deny", b"Content-Length: 11", method=b"POST") + b"x" * 11 + get(), step)
    assert wire.to_server == b""
    assert b"connection: close" in wire.to_client
    assert wire.filter.end is End.CLOSE
    chunks = b"8\r\nabcdefgh\r\n" * 3
    wire = Wire(limits).client(get(b"/deny", b"Transfer-Encoding: chunked", method=b"POST") + chunks, step)
    assert (wire.to_server, wire.to_client, wire.filter.end) == (b"", DENIED, End.CLOSE)


@STEPS
def test_request_bodies_go_on(step: int) -> None:
    post = get(b"/p", b"Content-Length: 5", method=b"POST") + b"hello"
    chunked = get(b"/c", b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nhello\r\n0\r\n\r\n"
    wire = Wire().client(post + chunked + get(), step)
    assert wire.to_server == post + chunked + get()


@STEPS
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    ],
)
def test_responses_of_all_framings(response: bytes, step: int) -> None:
    wire = Wire().client(get() * 2).server(response + OK, step)
    assert wire.to_client == response + OK
    assert wire.filter.is_idle


@STEPS
def test_head_has_no_body(step: int) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
    wire = Wire().client(get(method=b"HEAD") + get()).server(response + OK, step)
    assert wire.to_client == response + OK
    assert Wire().client(get(b"/deny", method=b"HEAD")).to_client == DENIED.removesuffix(b"Access denied\r\n")


@STEPS
def test_body_until_close(step: int) -> None:
    wire = Wire().client(get()).server(b"HTTP/1.1 200 OK\r\n\r\nsome", step).server(b" more", step)
    wire.filter.server_eof()
    assert wire.to_client.endswith(b"some more")
    assert wire.filter.end is End.CLOSE


@STEPS
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\xa5\x01",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"\r\n\r\n" + get(),
        b"\n" + get(),
    ],
)
def test_bytes_that_do_not_parse_end_the_connection(garbage: bytes, step: int) -> None:
    wire = Wire().client(garbage + get(b"/after"), step)
    assert wire.to_server == b""
    assert wire.to_client.startswith(b"HTTP/1.1 400 ")
    assert wire.filter.end is End.CLOSE
    assert wire.filter.failure


@STEPS
def test_error_answer_waits_for_what_is_owed(step: int) -> None:
    wire = Wire().client(get() + b"\x00", step)
    assert (wire.to_server, wire.to_client) == (get(), b"")
    wire.server(OK, step)
    assert wire.to_client.startswith(OK + b"HTTP/1.1 400 ")
    assert wire.filter.end is End.CLOSE


@STEPS
def test_one_empty_line_in_front_is_ignored(step: int) -> None:
    assert Wire().client(b"\r\n" + get(), step).to_server == get()


@STEPS
def test_broken_chunk_is_seen_as_broken_by_the_server(step: int) -> None:
    wire = Wire().client(get(b"/c", b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nhelloXX", step)
    assert wire.filter.end is End.ABORT
    assert not wire.to_server.endswith(b"0\r\n\r\n")


def test_request_cut_off_is_aborted() -> None:
    wire = Wire().client(get(b"/p", b"Content-Length: 5", method=b"POST") + b"hel")
    wire.filter.client_eof()
    assert wire.filter.end is End.ABORT


def test_half_close_waits_for_the_answer() -> None:
    wire = Wire().client(get())
    wire.filter.client_eof()
    assert wire.to_client == b""
    wire.server(OK)
    assert (wire.to_client, wire.filter.end) == (OK, End.CLOSE)


def test_nothing_follows_a_request_that_closes() -> None:
    wire = Wire().client(get(b"/a", b"Connection: close") + get(b"/b"))
    assert wire.to_server == get(b"/a", b"Connection: close")
    assert b"connection: close" in Wire().client(get(b"/deny", b"Connection: close") + get()).to_client


@STEPS
def test_the_answer_to_the_last_request_ends_the_connection(step: int) -> None:
    wire = Wire().client(get(b"/a", b"Connection: close"), step).server(OK, step)
    assert (wire.to_client, wire.filter.end) == (OK, End.CLOSE)
    assert wire.filter.awaits_server_close


def test_expectation_of_a_refused_request() -> None:
    wire = Wire().client(get(b"/deny", b"Expect: 100-continue", b"Content-Length: 3", method=b"POST"))
    assert wire.to_client.startswith(b"HTTP/1.1 403 ")
    assert wire.filter.end is End.CLOSE


@STEPS
def test_websocket_becomes_a_tunnel(step: int) -> None:
    upgrade = get(b"/ws", *WEBSOCKET)
    agreed = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + ACCEPT + b"\r\n"
    wire = Wire().client(upgrade, step).server(agreed + b"\x81\x02hi", step).client(b"\x81\x80\x00", step)
    assert wire.to_client == agreed + b"\x81\x02hi"
    assert wire.to_server == upgrade + b"\x81\x80\x00"
    refused = Wire().client(upgrade, step).server(OK, step).client(get(), step).server(OK, step)
    assert refused.to_server == upgrade + get()


def test_bytes_before_the_upgrade_are_refused() -> None:
    upgrade = get(b"/ws", *WEBSOCKET)
    wire = Wire().client(upgrade + b"GET /admin HTTP/1.1\r\n")
    assert wire.to_server == upgrade
    assert wire.filter.failure


@STEPS
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"garbage",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00\r\n\r\n",
    ],
)
def test_bad_response_becomes_502(response: bytes, step: int) -> None:
    wire = Wire().client(get()).server(response, step)
    assert wire.to_client.startswith(b"HTTP/1.1 502 ")
    assert wire.filter.end is End.CLOSE


@STEPS
def test_surplus_bytes_of_the_server_are_not_handed_on(step: int) -> None:
    wire = Wire().client(get()).server(OK + OK, step)
    assert (wire.to_client, wire.filter.end) == (OK, End.CLOSE)


@STEPS
def test_bad_chunk_of_a_response_aborts(step: int) -> None:
    wire = Wire().client(get()).server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n", step)
    assert wire.filter.end is End.ABORT


def test_informational_responses_are_bounded() -> None:
    wire = Wire().client(get()).server(b"HTTP/1.1 102 Processing\r\n\r\n" * 17)
    assert wire.filter.end is End.ABORT


def test_response_cut_off_is_aborted() -> None:
    wire = Wire().client(get()).server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    wire.filter.server_eof()
    assert wire.filter.end is End.ABORT


def test_early_response_while_the_body_is_sent() -> None:
    post = get(b"/p", b"Content-Length: 10", method=b"POST")
    wire = Wire().client(post + b"hello").server(OK).client(b"world" + get()).server(OK)
    assert wire.to_server == post + b"helloworld" + get()
    assert wire.to_client == OK + OK


def test_too_many_pipelined_requests() -> None:
    wire = Wire(Http1Limits(pipelined_requests=3)).client(get() * 5)
    assert wire.to_server == get() * 3
    wire.server(OK * 3)
    assert wire.to_client.startswith(OK * 3 + b"HTTP/1.1 429 ")


def test_unreachable_server() -> None:
    wire = Wire().client(get())
    wire.filter.server_unreachable("nobody listens", 0)
    assert wire.filter.answer.startswith(b"HTTP/1.1 503 ")
    assert (wire.statuses, wire.filter.end) == ([503], End.CLOSE)


def test_unanswered_requests_are_recorded() -> None:
    wire = Wire().client(get() + get())
    wire.filter.finish(0)
    assert wire.statuses == [0, 0]


def test_slow_head_times_out() -> None:
    wire = Wire().client(b"GET / HT")
    assert wire.filter.unfinished_head
    wire.filter.time_out()
    assert wire.filter.answer.startswith(b"HTTP/1.1 408 ")


def test_another_judge_is_met_by_the_next_request() -> None:
    wire = Wire().client(get()).server(OK)

    @dataclass
    class NoJudge:
        memo: HeadMemo = field(default_factory=lambda: HeadMemo(looks_at_headers=False))

        def rule(self, request: HttpRequest) -> Ruling:
            return Ruling(False)

    wire.filter.judge = NoJudge()
    wire.client(get())
    assert wire.to_client == OK + DENIED


def test_memo_is_bounded() -> None:
    wire = Wire()
    for number in range(2 * MEMO_ENTRIES + 10):
        wire.client(get(b"/%d" % number)).server(OK)
    for number in range(2 * MEMO_ENTRIES + 10):
        wire.client(get(b"/same", b"X-Number: %d" % (number // 2))).server(OK)
    memo = wire.judge.memo
    assert memo.plain is not None
    assert len(memo) <= MEMO_ENTRIES
    assert len(memo.plain) <= MEMO_ENTRIES


def test_requests_that_differ_in_nothing_that_rules_see_are_judged_once_and_go_on_each_as_it_came() -> None:
    wire = Wire()
    heads = [get(b"/a", b"X-Number: %d" % (number % 7)) for number in range(30)]
    for head in heads:
        wire.client(head).server(OK)
    wire.client(b"".join(heads))
    assert wire.to_server == b"".join(heads) * 2
    assert wire.judge.seen == [b"/a"]
    denied = [get(b"/deny", b"X-Number: %d" % number) for number in range(3)]
    for head in denied:
        wire.client(head)
    assert wire.judge.seen == [b"/a", b"/deny"]


MESSAGES = st.lists(
    st.sampled_from(
        [
            get(),
            get(b"/deny"),
            get(b"/b/../c"),
            get(b"/p", b"Content-Length: 3", method=b"POST") + b"abc",
            get(b"/deny", b"Content-Length: 3", method=b"POST") + b"abc",
            get(b"/c", b"Transfer-Encoding: chunked", method=b"PUT") + b"2;x\r\nhi\r\n0\r\n\r\n",
            get(b"/deny", b"Transfer-Encoding: chunked", method=b"PUT") + b"2\r\nhi\r\n0\r\nT: 1\r\n\r\n",
            b"\r\n" + get(),
            b"\x00",
            get(b"/a", b"Connection: close"),
        ]
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200)
@given(messages=MESSAGES, step=st.integers(1, 60), server_step=st.integers(1, 60))
def test_any_split_of_both_streams_gives_the_same(messages: list[bytes], step: int, server_step: int) -> None:
    stream = b"".join(messages)
    whole = Wire().client(stream)
    answers = OK * sum(1 for e in whole.filter._owed if e.judged is not None and e.judged.ruling.permit)
    whole.server(answers)
    split = Wire().client(stream, step).server(answers, server_step)
    assert (split.to_server, split.to_client, split.filter.end) == (whole.to_server, whole.to_client, whole.filter.end)
    assert split.statuses == whole.statuses
