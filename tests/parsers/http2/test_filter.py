"""The filter between a real client and a real server: what each of them gets."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from parsers.facts import EditKind, HeaderEdit
from parsers.filters import End
from parsers.http.judging import Denial, Ruling
from parsers.http2 import frames
from parsers.http2.frames import ErrorCode
from parsers.http2.hpack import encode
from parsers.limits import Http2Limits
from tests.parsers.http2.driving import GRPC, PathJudge, Wire, request

STEPS = pytest.mark.parametrize("step", [1, 7, 1 << 20])
COOKIE = (b"x-trace", b"0123456789abcdef")


@STEPS
def test_an_allowed_exchange(step: int) -> None:
    wire = Wire(step=step)
    number = wire.get(b"/a")
    wire.run()
    assert wire.requests == [(number, b"/a")]
    assert (wire.status(number), wire.at_client[number].body, wire.at_client[number].ended) == (200, b"ok", True)
    assert wire.statuses == [(b"/a", 200)]
    assert wire.filter.is_idle


def test_frames_of_allowed_requests_go_on_as_they_came() -> None:
    wire = Wire().run()
    before = len(wire.to_server)
    wire.get(b"/a", COOKIE)
    sent = wire.client.data_to_send()
    wire.raw_from_client(sent)
    assert wire.to_server[before:] == sent


@STEPS
def test_a_refused_stream_never_reaches_the_server(step: int) -> None:
    wire = Wire(step=step).run()
    refused, allowed = wire.get(b"/deny"), wire.get(b"/a")
    wire.run()
    assert wire.requests == [(allowed, b"/a")]
    assert wire.status(refused) == 403
    assert wire.at_client[refused].ended
    assert wire.statuses == [(b"/deny", 403), (b"/a", 200)]


@STEPS
def test_the_tables_of_the_two_ends_part_ways_unharmed(step: int) -> None:
    """A refused block stores what later ones refer to; the server has never seen it."""
    wire = Wire(step=step).run()
    wire.get(b"/deny", COOKIE, (b"x-other", b"one"))
    wire.run()
    numbers = [wire.get(b"/a", COOKIE, (b"x-other", value)) for value in (b"one", b"two", b"one")]
    wire.run()
    assert [wire.at_server[number].headers[0] for number in numbers] == [
        request(b"/a", COOKIE, (b"x-other", value)) for value in (b"one", b"two", b"one")
    ]
    assert [wire.status(number) for number in numbers] == [200, 200, 200]


def test_the_same_request_again_is_judged_once() -> None:
    wire = Wire().run()
    for _ in range(5):
        wire.get(b"/a", COOKIE)
        wire.run()
    assert len(wire.judge.seen) == 2, "once as literals, once as what they became in the table"
    assert len(wire.requests) == 5


def test_another_judge_is_met_by_the_next_stream() -> None:
    wire = Wire().run()
    for _ in range(3):
        wire.get(b"/a")
        wire.run()
    wire.filter.judge = PathJudge(lambda request: False)
    number = wire.get(b"/a")
    wire.run()
    assert wire.status(number) == 403
    assert len(wire.requests) == 3


def test_a_refusal_has_its_body_when_there_is_credit_for_it() -> None:
    wire = Wire().run()
    wire.client.increment_flow_control_window(1 << 20)
    wire.run()
    number = wire.get(b"/deny")
    wire.run()
    assert wire.at_client[number].body == b"Access denied\r\n"


def test_without_credit_a_refusal_has_no_body() -> None:
    wire = Wire().run()
    number = wire.get(b"/deny")
    wire.run()
    assert dict(wire.at_client[number].headers[0])[b"content-length"] == b"0"
    assert wire.at_client[number].ended


def test_the_windows_of_both_ends_agree_after_refusals() -> None:
    """What we put into one direction and leave out of the other is in nobody's account."""
    wire = Wire().run()
    wire.client.increment_flow_control_window(1 << 20)
    for _ in range(50):
        wire.get(b"/deny")
        number = wire.ask(request(b"/deny", method=b"POST"), end=False)
        wire.client.send_data(number, b"x" * 1000, end_stream=True)
        wire.run()
    assert wire.client.outbound_flow_control_window == wire.server.inbound_flow_control_window
    granted = wire.client.inbound_flow_control_window
    assert granted - Http2Limits().body_credit <= wire.server.outbound_flow_control_window <= granted


def test_the_body_of_a_refused_request_is_read_over() -> None:
    wire = Wire().run()
    number = wire.ask(request(b"/deny", method=b"POST"), end=False)
    wire.run()
    assert wire.status(number) == 403
    assert wire.at_client[number].reset == ErrorCodes.NO_ERROR
    allowed = wire.get(b"/a")
    wire.run()
    assert wire.status(allowed) == 200


def test_a_refused_call_gets_the_status_of_grpc() -> None:
    wire = Wire().run()
    number = wire.ask(request(b"/deny.Service/Method", *GRPC, method=b"POST"), end=False)
    wire.run()
    headers = dict(wire.at_client[number].headers[0])
    assert headers == {
        b":status": b"200",
        b"content-type": b"application/grpc",
        b"grpc-status": b"7",
        b"grpc-message": b"Access denied",
    }
    assert wire.at_client[number].ended
    assert wire.statuses == [(b"/deny.Service/Method", 403)]


@pytest.mark.parametrize("kind", [b"application/grpc-web", b"application/grpcevil", b"text/plain"])
def test_others_than_grpc_get_http(kind: bytes) -> None:
    wire = Wire().run()
    number = wire.get(b"/deny", (b"content-type", kind))
    wire.run()
    assert wire.status(number) == 403


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_flavours_of_grpc(kind: bytes) -> None:
    wire = Wire().run()
    number = wire.get(b"/deny", (b"content-type", kind))
    wire.run()
    assert wire.status(number) == 200


def test_a_call_with_an_encoded_slash_gets_invalid_argument() -> None:
    wire = Wire().run()
    number = wire.ask(request(b"/pkg.Service%2FMethod", *GRPC, method=b"POST"))
    wire.run()
    assert dict(wire.at_client[number].headers[0])[b"grpc-status"] == b"3"
    assert wire.requests == []


def test_a_refusal_by_reset() -> None:
    wire = Wire(PathJudge(denial=Denial.RESET)).run()
    number = wire.get(b"/deny")
    wire.run()
    assert wire.at_client[number].reset == ErrorCodes.CANCEL
    assert wire.statuses == [(b"/deny", 0)]


def test_a_refusal_by_silence() -> None:
    wire = Wire(PathJudge(denial=Denial.DROP)).run()
    number = wire.ask(request(b"/deny", method=b"POST"), end=False)
    wire.client.send_data(number, b"x" * 1000)
    allowed = wire.get(b"/a")
    wire.run()
    assert number not in wire.at_client
    assert wire.status(allowed) == 200
    assert wire.client.outbound_flow_control_window == 65535, "the credit of what is read over comes back"
    wire.client.reset_stream(number)
    wire.run()
    assert wire.filter.is_idle


def test_a_path_is_forwarded_in_the_form_that_was_judged() -> None:
    wire = Wire().run()
    numbers = [wire.get(path) for path in (b"/x/../a//b", b"/%61", b"/a")]
    wire.run()
    assert [path for _, path in wire.requests] == [b"/a/b", b"/a", b"/a"]
    assert [wire.status(number) for number in numbers] == [200] * 3
    number = wire.get(b"/x/../deny")
    wire.run()
    assert wire.status(number) == 403


@pytest.mark.parametrize("path", [b"/a%2Fb", b"/a%00", b"/a\\b", b"/a%zz", b"a", b"*", b"/a/..;/b"])
def test_ambiguous_paths_are_refused(path: bytes) -> None:
    wire = Wire().run()
    number = wire.get(path)
    wire.run()
    assert wire.status(number) == 400
    assert wire.requests == []


MALFORMED = {
    "upper case": request(b"/a", (b"X-A", b"1")),
    "control character": request(b"/a", (b"x-a", b"1\r\nx-b: 2")),
    "NUL": request(b"/a", (b"x-a", b"1\0x-b\x002")),
    "empty name": request(b"/a", (b"", b"1")),
    "space in front": request(b"/a", (b"x-a", b" 1")),
    "space behind": request(b"/a", (b"x-a", b"1 ")),
    "connection": request(b"/a", (b"connection", b"close")),
    "transfer coding": request(b"/a", (b"transfer-encoding", b"chunked")),
    "upgrade": request(b"/a", (b"upgrade", b"h2c")),
    "te": request(b"/a", (b"te", b"gzip")),
    "two lengths": request(b"/a", (b"content-length", b"0"), (b"content-length", b"0")),
    "length": request(b"/a", (b"content-length", b"+0")),
    "length without body": request(b"/a", (b"content-length", b"1")),
    "other host": request(b"/a", (b"host", b"b.test")),
    "two hosts": request(b"/a", (b"host", b"a.test"), (b"host", b"a.test")),
    "no method": request()[1:],
    "no scheme": [request()[0], *request()[2:]],
    "no path": request()[:3],
    "empty path": request(b""),
    "two paths": [*request(), (b":path", b"/b")],
    "path behind headers": [*request()[:3], (b"x-a", b"1"), (b":path", b"/a")],
    "status": [*request(), (b":status", b"200")],
    "unknown pseudo-header field": [*request(), (b":x", b"1")],
    "extended CONNECT": [*request(method=b"CONNECT"), (b":protocol", b"websocket")],
    "CONNECT with a path": request(method=b"CONNECT"),
    "method": request(method=b"GET /a HTTP/1.1"),
    "space in path": request(b"/a b"),
    "8 bit in path": request(b"/\xe4"),
    "scheme": [(b":scheme", b"http://evil/") if name == b":scheme" else (name, value) for name, value in request()],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_are_reset(headers: list[tuple[bytes, bytes]]) -> None:
    wire = Wire().run()
    number = wire.ask(headers)
    allowed = wire.get(b"/a", COOKIE)
    wire.run()
    assert wire.at_client[number].reset == ErrorCodes.PROTOCOL_ERROR
    assert wire.requests == [(allowed, b"/a")], "and nobody else is harmed"
    assert wire.status(allowed) == 200
    assert len(wire.shared.complaints) == 1


@pytest.mark.parametrize("host", [b"a.test@b", b"a/b", b"a.test:0", b"a,b"])
def test_hosts_that_are_none(host: bytes) -> None:
    wire = Wire().run()
    number = wire.ask([(b":authority", host) if name == b":authority" else (name, v) for name, v in request()])
    wire.run()
    assert wire.status(number) == 400


def test_host_may_stand_for_authority() -> None:
    wire = Wire().run()
    wire.ask([*request()[:2], request()[3], (b"host", b"h.test")])
    wire.run()
    assert wire.judge.seen[0].host == b"h.test"
    assert len(wire.requests) == 1


def test_connect_is_judged_by_its_authority() -> None:
    wire = Wire().run()
    wire.ask([(b":method", b"CONNECT"), (b":authority", b"db.test:5432")], end=False)
    wire.run()
    assert (wire.judge.seen[0].method, wire.judge.seen[0].host) == (b"CONNECT", b"db.test:5432")


def test_a_cookie_in_parts_is_one_header_for_rules() -> None:
    wire = Wire().run()
    number = wire.get(b"/a", *[(b"cookie", b"c%d=1" % i) for i in range(200)])
    wire.run()
    assert dict(wire.judge.seen[0].headers)[b"cookie"].startswith(b"c0=1; c1=1; ")
    assert dict(wire.at_server[number].headers[0])[b"cookie"].count(b"; ") == 199


def test_headers_that_name_another_request_are_left_out() -> None:
    wire = Wire().run()
    number = wire.get(b"/a", (b"x-original-url", b"/deny"), (b"x_http_method", b"DELETE"))
    wire.run()
    assert wire.at_server[number].headers[0] == request(b"/a")


def test_edits_are_made_and_secrets_are_in_no_table() -> None:
    edits = (HeaderEdit(EditKind.SET, b"x-token", b"secret"), HeaderEdit(EditKind.REMOVE, b"x-bad"))
    wire = Wire(PathJudge(ruling=Ruling(True, edits=edits))).run()
    for _ in range(3):
        number = wire.get(b"/a", (b"x-bad", b"1"))
        wire.run()
        assert wire.at_server[number].headers[0] == request(b"/a", (b"x-token", b"secret"))
    assert wire.to_server.count(b"secret") == 3


def test_trailers_of_requests_are_left_out() -> None:
    wire = Wire().run()
    number = wire.ask(request(method=b"POST"), end=False)
    wire.client.send_data(number, b"body")
    wire.client.send_headers(number, [(b"x-trailer", b"1")], end_stream=True)
    after = wire.get(b"/a", (b"x-trailer", b"1"))
    wire.run()
    assert (len(wire.at_server[number].headers), wire.at_server[number].body) == (1, b"body")
    assert wire.status(number) == wire.status(after) == 200


def test_bodies_pass_in_both_directions() -> None:
    wire = Wire()
    wire.answers = False
    number = wire.ask(request(method=b"POST"), end=False)
    wire.run()
    wire.client.send_data(number, b"x" * 16384, pad_length=None)
    wire.client.send_data(number, b"y" * 100, pad_length=50, end_stream=True)
    wire.run()
    assert wire.at_server[number].body == b"x" * 16384 + b"y" * 100
    wire.server.send_headers(number, [(b":status", b"200")])
    wire.server.send_data(number, b"z" * 10000)
    wire.server.send_headers(number, [(b"grpc-status", b"0")], end_stream=True)
    wire.run()
    assert wire.at_client[number].body == b"z" * 10000
    assert wire.at_client[number].headers[1] == [(b"grpc-status", b"0")]
    assert wire.filter.is_idle


@pytest.mark.parametrize("size", [3, 5])
def test_a_body_must_have_the_length_that_it_says(size: int) -> None:
    wire = Wire().run()
    number = wire.ask(request(b"/a", (b"content-length", b"4"), method=b"POST"), end=False)
    wire.client.send_data(number, b"x" * size, end_stream=True)
    wire.run()
    assert wire.at_client[number].reset == ErrorCodes.PROTOCOL_ERROR
    assert wire.at_server[number].reset is not None
    assert not wire.at_server[number].ended
    assert wire.client.outbound_flow_control_window == 65535


def test_an_early_answer_leaves_the_connection_in_order() -> None:
    wire = Wire().run()
    number = wire.ask(request(method=b"POST"), end=False)
    wire.run()
    wire.server.send_headers(number, [(b":status", b"413")], end_stream=True)
    wire.server.reset_stream(number, ErrorCodes.NO_ERROR)
    wire.run()
    after = wire.get(b"/a")
    wire.run()
    assert (wire.status(number), wire.status(after)) == (413, 200)


def test_a_cancelled_stream_is_cancelled_at_the_server() -> None:
    wire = Wire()
    wire.answers = False
    number = wire.ask(request(method=b"POST"), end=False)
    wire.run()
    wire.client.reset_stream(number, ErrorCodes.CANCEL)
    wire.run()
    assert wire.at_server[number].reset == ErrorCodes.CANCEL
    assert wire.statuses == [(b"/a", 0)]


def test_what_we_do_not_allow_nobody_agrees_to() -> None:
    wire = Wire()
    wire.client.update_settings({SettingCodes.ENABLE_PUSH: 1, SettingCodes.HEADER_TABLE_SIZE: 65536})
    wire.server.update_settings({SettingCodes.ENABLE_CONNECT_PROTOCOL: 1, SettingCodes.MAX_FRAME_SIZE: 1 << 20})
    wire.run()
    at_server, at_client = wire.server.remote_settings, wire.client.remote_settings
    assert (at_server.enable_push, at_server.header_table_size) == (0, 4096)
    assert (at_client.enable_connect_protocol, at_client.max_frame_size) == (0, 16384)
    assert at_client.max_concurrent_streams <= Http2Limits().concurrent_streams
    assert at_client.max_header_list_size == Http2Limits().header_list_bytes


def test_more_streams_than_allowed_are_refused_and_may_be_tried_again() -> None:
    wire = Wire(limits=Http2Limits(concurrent_streams=2))
    wire.answers = False
    numbers = [wire.get(b"/a", (b"x-n", b"%d" % i)) for i in range(4)]
    wire.run()
    assert [number for number, _ in wire.requests] == numbers[:2]
    assert [wire.at_client[number].reset for number in numbers[2:]] == [ErrorCodes.REFUSED_STREAM] * 2


def test_a_server_that_can_not_be_reached() -> None:
    wire = Wire()
    plain, call = wire.get(b"/a"), wire.ask(request(b"/p.S/M", *GRPC, method=b"POST"))
    wire._client_turn()
    wire.filter.server_unreachable("no route", 1)
    wire._take_answer()
    assert wire.status(plain) == 503
    assert dict(wire.at_client[call].headers[0])[b"grpc-status"] == b"14"
    assert (wire.filter.end, wire.goaway) == (End.CLOSE, 0)
    assert wire.statuses == [(b"/a", 503), (b"/p.S/M", 503)]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\4\3\0\0\0\0\1\0\0\0\0"])
def test_a_server_that_does_not_speak_http2(answer: bytes) -> None:
    wire = Wire()
    number = wire.get(b"/a")
    wire._client_turn()
    wire.raw_from_server(answer)
    assert wire.status(number) == 502
    assert wire.is_over
    assert wire.filter.failure == "the server does not speak HTTP/2"


def test_a_push_is_the_end() -> None:
    wire = Wire().run()
    wire.get(b"/a")
    wire._client_turn()
    wire.raw_from_server(b"\0\0\4\5\4\0\0\0\1\0\0\0\2")
    assert wire.is_over


def test_a_server_that_speaks_out_of_turn() -> None:
    wire = Wire().run()
    refused = wire.get(b"/deny")
    wire.run()
    wire.raw_from_server(b"\0\0\1\1\5" + refused.to_bytes(4, "big") + b"\x88")
    assert wire.is_over
    assert "not asked" in wire.filter.failure


def test_a_header_of_the_server_that_splits_is_not_passed_on() -> None:
    wire = Wire().run()
    wire.answers = False
    number = wire.get(b"/a")
    wire.run()
    wire.server.send_headers(number, [(b":status", b"200"), (b"x-a", b"1\r\nset-cookie: x")])
    wire.run()
    assert wire.is_over
    assert wire.status(number) == 502


def test_draining_announces_itself_and_takes_nothing_new() -> None:
    wire = Wire().run()
    wire.answers = False
    number = wire.get(b"/a")
    wire.run()
    filter_ = wire.filter
    assert not filter_.drain(1)
    assert not filter_.drain(2_000_000_000)
    assert filter_.answer == frames.goaway(frames.MAX_STREAM, ErrorCode.NO_ERROR) + frames.goaway(1, ErrorCode.NO_ERROR)
    filter_.answer = b""
    late = frames.headers(3, encode(request(b"/late")), end_stream=True)
    assert filter_.client_data(late, 1) == b""
    assert filter_.answer == frames.rst_stream(3, ErrorCode.REFUSED_STREAM)
    wire.server.send_headers(number, [(b":status", b"200")], end_stream=True)
    assert filter_.server_data(wire.server.data_to_send(), 1)
    assert filter_.drain(3_000_000_000)
