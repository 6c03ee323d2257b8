"""The filter: what each side sends, what the other side gets, and how it ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from parsers.facts import ClientHello
from parsers.filters import UNBOUNDED, End, Filter, Way
from parsers.tls.client_hello import TlsLimits
from parsers.tls.filter import NameRuling, TlsFilter
from tests.parsers.tls.hellos import hello, host, in_records, large_hello, named, real_hello, record

HELLO = real_hello("a.test", ssl.TLSVersion.TLSv1_3)
DENIED = real_hello("deny.test", ssl.TLSVersion.TLSv1_3)
STEPS = pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])


@dataclass
class NameJudge:
    """Refuses names that begin with deny."""

    seen: list[str] = field(default_factory=list)

    def rule_name(self, hello: ClientHello) -> NameRuling:
        self.seen.append(hello.server_name)
        if hello.server_name.startswith("deny"):
            return NameRuling(False, "the note", "the name is not allowed")
        return NameRuling(True, "the note")


class Wire:
    """A filter between two transcripts."""

    def __init__(self, limits: TlsLimits | None = None) -> None:
        self.judge = NameJudge()
        self.filter = TlsFilter(self.judge, limits or TlsLimits())
        self.to_server = b""
        self.to_client = b""

    def client(self, data: bytes, step: int = 1 << 20) -> Wire:
        for at in range(0, len(data), step):
            self.to_server += self.filter.client_data(data[at : at + step], 0)
        return self

    def server(self, data: bytes, step: int = 1 << 20) -> Wire:
        for at in range(0, len(data), step):
            self.to_client += self.filter.server_data(data[at : at + step], 0)
        return self

    @property
    def said(self) -> tuple[End | None, str, str]:
        return self.filter.end, self.filter.failure, self.filter.limit


def test_it_is_a_filter() -> None:
    filter_: Filter = Wire().filter
    assert (filter_.answer, filter_.end) == (b"", None)


@STEPS
def test_permitted_connection_passes_both_ways_unread(step: int) -> None:
    wire = Wire().client(HELLO, step)
    assert wire.to_server == HELLO
    wire.server(b"any answer", step).client(b"any reply", step).server(b"and on", step)
    assert (wire.to_server, wire.to_client) == (HELLO + b"any reply", b"any answerand on")
    assert wire.judge.seen == ["a.test"]
    assert wire.said == (None, "", "")


def test_everything_goes_by_in_a_tunnel_and_nothing_before() -> None:
    wire = Wire().client(HELLO[:-1])
    assert {wire.filter.unread(way) for way in Way} == {0}
    wire.client(HELLO[-1:])
    assert {wire.filter.unread(way) for way in Way} == {UNBOUNDED}
    for way in Way:
        wire.filter.passed(way, 1 << 30)
    wire.filter.server_eof()
    wire.filter.client_eof()
    assert wire.said == (None, "", "")
    denied = Wire().client(DENIED)
    assert {denied.filter.unread(way) for way in Way} == {0}


@STEPS
def test_nothing_passes_before_the_last_byte_of_the_hello(step: int) -> None:
    wire = Wire().client(HELLO[:-1], step)
    assert (wire.to_server, wire.judge.seen, wire.filter.hello, wire.filter.ruling) == (b"", [], None, None)
    assert wire.client(HELLO[-1:]).to_server == HELLO


@STEPS
def test_early_data_passes_behind_the_hello(step: int) -> None:
    sent = in_records(HELLO[5:], 100) + record(b"early", kind=23)
    assert Wire().client(sent, step).to_server == sent


@STEPS
def test_refused_connection_is_reset(step: int) -> None:
    wire = Wire().client(DENIED + b"more", step)
    assert (wire.to_server, wire.filter.answer) == (b"", b"")
    assert wire.said == (End.ABORT, "the name is not allowed", "")
    assert (wire.judge.seen, wire.filter.may_be_silent) == (["deny.test"], False)


def test_after_a_refusal_nothing_passes() -> None:
    wire = Wire().client(DENIED).client(HELLO).server(b"x")
    wire.filter.client_eof()
    wire.filter.server_eof()
    wire.filter.time_out()
    assert (wire.to_server, wire.to_client) == (b"", b"")
    assert wire.said == (End.ABORT, "the name is not allowed", "")


@pytest.mark.parametrize(("data", "name"), [(HELLO, "a.test"), (DENIED, "deny.test"), (record(hello()), "")])
def test_verdict_can_be_reported(data: bytes, name: str) -> None:
    filter_ = Wire().client(data).filter
    assert filter_.hello == ClientHello(name)
    assert filter_.ruling is not None
    assert filter_.ruling.note == "the note"


@STEPS
@pytest.mark.parametrize(
    ("data", "failure", "limit"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "these bytes are not the start of a TLS connection", ""),
        (record(hello(named(host(b"10.0.0.1")))), "the server name is an address", ""),
        (record(large_hello(300)), "the TLS hello is too long", "hello_bytes"),
        (in_records(HELLO[5:], 10), "the TLS hello is spread over too many records", "record_count"),
    ],
)
def test_bytes_that_are_no_hello_end_in_a_reset(data: bytes, failure: str, limit: str, step: int) -> None:
    wire = Wire(TlsLimits(hello_bytes=len(HELLO) if limit != "hello_bytes" else 299, record_count=3))
    wire.client(data + b"more", step)
    assert (wire.to_server, wire.judge.seen, wire.said) == (b"", [], (End.ABORT, failure, limit))
    assert (wire.filter.hello, wire.filter.ruling) == (None, None)


EARLY: list[tuple[Callable[[TlsFilter], object], str, str]] = [
    (lambda f: f.server_data(b"220 ready\r\n", 0), "the server sent bytes before the client's TLS hello", ""),
    (lambda f: f.server_eof(), "the server stopped before the client's TLS hello", ""),
    (lambda f: f.time_out(), "the TLS hello did not arrive in time", "header_timeout"),
    (lambda f: f.server_unreachable("connection refused", 0), "connection refused", ""),
]


@pytest.mark.parametrize("sent", [b"", HELLO[:1], HELLO[:-1]])
@pytest.mark.parametrize(("event", "failure", "limit"), EARLY)
def test_what_ends_it_before_the_hello(
    event: Callable[[TlsFilter], object], failure: str, limit: str, sent: bytes
) -> None:
    wire = Wire().client(sent)
    assert not event(wire.filter)
    assert wire.said == (End.ABORT, failure, limit)
    assert wire.client(HELLO).to_server == b""


def test_ends_pass_through_a_tunnel() -> None:
    wire = Wire().client(HELLO)
    wire.filter.client_eof()
    assert wire.server(b"still").to_client == b"still"
    wire.filter.server_eof()
    wire.filter.time_out()
    assert wire.said == (None, "", "")
    assert wire.filter.may_be_silent


def test_other_way_of_a_half_closed_tunnel() -> None:
    wire = Wire().client(HELLO)
    wire.filter.server_eof()
    assert wire.client(b"still").to_server == HELLO + b"still"


def test_unreachable_server_is_a_reset() -> None:
    wire = Wire().client(HELLO)
    wire.filter.server_unreachable("connection refused", 0)
    assert wire.said == (End.ABORT, "connection refused", "")
    assert (wire.filter.answer, wire.filter.may_be_silent) == (b"", False)


def test_hello_is_awaited_from_the_first_moment_on() -> None:
    wire = Wire()
    assert (wire.filter.unfinished_head, wire.filter.is_idle, wire.filter.may_be_silent) == (1, False, False)
    wire.client(HELLO[:-1])
    assert (wire.filter.unfinished_head, wire.filter.is_idle, wire.filter.may_be_silent) == (1, False, False)
    wire.client(HELLO[-1:])
    assert (wire.filter.unfinished_head, wire.filter.is_idle, wire.filter.may_be_silent) == (0, False, True)
    assert not wire.filter.awaits_server_close


def test_drained_only_before_the_hello() -> None:
    wire = Wire()
    assert wire.filter.drain(0)
    assert wire.client(HELLO[:-1]).filter.drain(0)
    assert not wire.client(HELLO[-1:]).filter.drain(0)


def test_other_judge_before_the_hello_is_the_one_asked() -> None:
    wire = Wire().client(HELLO[:-1])
    other = NameJudge()
    wire.filter.judge = other
    wire.client(HELLO[-1:])
    assert (wire.judge.seen, other.seen) == ([], ["a.test"])


def test_nothing_passes_when_the_judge_fails() -> None:
    class Failing:
        def rule_name(self, hello: ClientHello) -> NameRuling:
            raise RuntimeError("a bug")

    filter_ = TlsFilter(Failing(), TlsLimits())
    with pytest.raises(RuntimeError, match="a bug"):
        filter_.client_data(HELLO, 0)
    assert (filter_.client_data(HELLO, 0), filter_.server_data(b"x", 0)) == (b"", b"")
    assert (filter_.may_be_silent, filter_.unfinished_head) == (False, 0)


def test_no_more_is_held_than_the_limits_allow() -> None:
    sent = in_records(large_hello(1000), 251) + b"more"
    wire = Wire(TlsLimits(hello_bytes=1000, record_count=4)).client(sent[: 4 * 5 + 1004 - 1], 1)
    assert (wire.to_server, wire.filter.end) == (b"", None)
    assert wire.client(sent[4 * 5 + 1004 - 1 :], 1).to_server == sent


def test_finished_filter_lets_go() -> None:
    wire = Wire().client(HELLO[:-1])
    wire.filter.finish(0)
    assert wire.client(HELLO[-1:]).to_server == b""
    assert repr(wire.filter) == "TlsFilter(ended)"


def anonymous(protocol: int) -> ssl.SSLContext:
    """TLS 1.2 without certificates."""
    context = ssl.SSLContext(protocol)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


@STEPS
def test_real_connection(step: int) -> None:
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    client = anonymous(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(client_in, client_out, server_hostname="a.test")
    server = anonymous(ssl.PROTOCOL_TLS_SERVER).wrap_bio(server_in, server_out, server_side=True)
    wire = Wire()
    for _ in range(3):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
            carry(wire, client_out, server_in, server_out, client_in, step)
    client.write(b"ping")
    server.write(b"pong")
    carry(wire, client_out, server_in, server_out, client_in, step)
    assert (server.read(), client.read()) == (b"ping", b"pong")


def carry(
    wire: Wire,
    client_out: ssl.MemoryBIO,
    server_in: ssl.MemoryBIO,
    server_out: ssl.MemoryBIO,
    client_in: ssl.MemoryBIO,
    step: int,
) -> None:
    wire.client(client_out.read(), step)
    if server_out.pending:
        wire.server(server_out.read(), step)
    server_in.write(wire.to_server)
    client_in.write(wire.to_client)
    wire.to_server = wire.to_client = b""


@pytest.mark.parametrize("sent", [HELLO[:1], HELLO[:-1]])
def test_a_client_that_stops_in_its_hello_is_reset(sent: bytes) -> None:
    wire = Wire().client(sent)
    wire.filter.client_eof()
    assert wire.said == (End.ABORT, "the client stopped before its TLS hello was complete", "")


def test_a_client_that_says_nothing_ends_quietly() -> None:
    wire = Wire()
    wire.filter.client_eof()
    assert wire.said == (End.CLOSE, "", "")
    assert wire.client(HELLO).to_server == b""


def test_a_connection_that_is_over_holds_on_to_nobody() -> None:
    wire = Wire().client(HELLO)
    wire.filter.finish(0)
    assert wire.filter.judge is not wire.judge
