"""Conversations that decide who wins: attacks on the order of messages, on upgrades and on what is remembered."""

from __future__ import annotations

import pytest

from parsers.facts import HttpRequest
from parsers.filters import UNBOUNDED, End, Way
from tests.parsers.http1.driving import Connection, bytewise, client_only

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
DENIED = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
PROOF = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n" + PROOF + b"\r\n"
HANDSHAKE = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"  # RFC 6455 §1.3
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + HANDSHAKE


def permits(request: HttpRequest) -> bool:
    return not request.path.startswith(b"/admin")


def upgrade(fields: bytes) -> bytes:
    return b"GET /chat HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_the_body_of_an_upgrade_request_is_not_read_as_requests(framing: bytes) -> None:
    """A server that says no still reads the body that was announced: what is in it must not be judged as requests.

    Otherwise a permitted request that the server takes for that body brings, as *its* body, one that nobody judges.
    """
    carrier = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(DENIED)
    if b"%d" in framing:
        framing %= len(carrier)
    connection = Connection(permits)
    connection.client(upgrade(WEBSOCKET + framing))
    connection.server(NOT_FOUND)
    connection.client(carrier + DENIED)
    assert b"/a" not in [request.path for request in connection.done().requests]
    assert DENIED not in connection.outcome.to_server


@pytest.mark.parametrize("order", [(b"h2c", b"websocket"), (b"websocket", b"h2c")])
def test_no_protocol_but_the_judged_one_is_offered(order: tuple[bytes, bytes]) -> None:
    """Two Upgrade lines: the server may take either, and only WebSocket may become a tunnel (RFC 9110 §7.8)."""
    lines = b"".join(b"Upgrade: %b\r\n" % name for name in order)
    outcome = client_only([upgrade(b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n" + lines)])
    assert b"h2c" not in outcome.to_server


def test_a_switch_to_another_protocol_than_asked_for_is_no_tunnel() -> None:
    connection = Connection(permits)
    connection.client(upgrade(WEBSOCKET))
    connection.server(SWITCHING % b"h2c")
    connection.client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    outcome = connection.done()
    assert outcome.end is not None
    assert b"PRI" not in outcome.to_server


def test_no_tunnel_after_bytes_that_came_too_early() -> None:
    connection = Connection(permits)
    connection.client(upgrade(WEBSOCKET) + b"early")
    connection.server(SWITCHING % b"websocket")
    connection.client(b"late")
    outcome = connection.done()
    assert outcome.end is not None
    assert b"late" not in outcome.to_server


def test_a_websocket_is_a_tunnel() -> None:
    connection = Connection(permits)
    connection.client(upgrade(WEBSOCKET))
    connection.server(SWITCHING % b"websocket" + b"hello")
    connection.client(b"\x81\x02hi")
    outcome = connection.done()
    assert outcome.to_server == upgrade(WEBSOCKET) + b"\x81\x02hi"
    assert outcome.to_client == SWITCHING % b"websocket" + b"hello"
    assert outcome.end is None


@pytest.mark.parametrize(
    "proof", [b"", b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n", PROOF * 2], ids=["none", "wrong", "two"]
)
def test_a_server_that_does_not_prove_its_consent_opens_no_tunnel(proof: bytes) -> None:
    connection = Connection(permits)
    connection.client(upgrade(WEBSOCKET))
    connection.server(SWITCHING.replace(PROOF, proof) % b"websocket")
    connection.client(b"late")
    outcome = connection.done()
    assert outcome.end is not None
    assert outcome.to_server == upgrade(WEBSOCKET)
    assert b" 101 " not in outcome.to_client


@pytest.mark.parametrize(
    "handshake",
    [b"", HANDSHAKE.replace(b"13", b"8"), HANDSHAKE.replace(b"==", b"="), HANDSHAKE * 2],
    ids=["none", "version", "key", "twice"],
)
def test_an_upgrade_without_a_proper_handshake_stays_http(handshake: bytes) -> None:
    outcome = client_only([upgrade(WEBSOCKET.replace(HANDSHAKE, handshake))])
    assert outcome.requests
    assert b"Upgrade" not in outcome.to_server


CONNECT = b"CONNECT db.test:443 HTTP/1.1\r\nHost: db.test:443\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize("pieces", [[CONNECT], bytewise(CONNECT)])
def test_connect_is_judged_by_its_authority_and_then_a_tunnel(pieces: list[bytes]) -> None:
    connection = Connection(permits)
    for piece in pieces:
        connection.client(piece)
    connection.server(ESTABLISHED + b"\x00\x01")
    connection.client(b"\x16\x03")
    outcome = connection.done()
    assert [(r.method, r.path, r.host) for r in outcome.requests] == [(b"CONNECT", b"", b"db.test:443")]
    assert outcome.to_server == CONNECT + b"\x16\x03"
    assert outcome.to_client == ESTABLISHED + b"\x00\x01"
    assert outcome.end is None


def test_everything_goes_by_in_a_tunnel() -> None:
    connection = Connection(permits)
    connection.client(CONNECT)
    assert connection.filter.unread(Way.FROM_SERVER) == connection.filter.unread(Way.FROM_CLIENT) == 0
    connection.server(ESTABLISHED)
    assert connection.filter.unread(Way.FROM_SERVER) == connection.filter.unread(Way.FROM_CLIENT) == UNBOUNDED
    connection.client_past(b"a" * 100)
    connection.server_past(b"b" * 100)
    connection.client(b"c")
    connection.server(b"d")
    outcome = connection.done()
    assert outcome.to_server == CONNECT + b"a" * 100 + b"c"
    assert outcome.to_client == ESTABLISHED + b"b" * 100 + b"d"


def test_everything_goes_by_until_the_server_closes() -> None:
    connection = Connection(permits)
    connection.client(GET)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    connection.server(head)
    assert connection.filter.unread(Way.FROM_SERVER) == UNBOUNDED
    assert connection.filter.unread(Way.FROM_CLIENT) == 0
    connection.server_past(b"b" * 100)
    connection.server_eof()
    outcome = connection.done()
    assert (outcome.to_client, outcome.end) == (head + b"b" * 100, End.CLOSE)


def test_nothing_goes_by_of_a_refused_body() -> None:
    connection = Connection(permits)
    connection.client(b"POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
    assert connection.filter.unread(Way.FROM_CLIENT) == 0


def test_the_authority_that_was_judged_is_the_one_that_goes_on() -> None:
    outcome = client_only([CONNECT.replace(b"Host: db.test", b"Host: other.test")])
    assert outcome.requests[0].host == b"db.test:443"
    assert outcome.to_server == CONNECT


@pytest.mark.parametrize("early", [b"x", GET])
def test_no_tunnel_for_bytes_before_the_server_agreed(early: bytes) -> None:
    connection = Connection(permits)
    connection.client(CONNECT + early)
    connection.server(ESTABLISHED)
    outcome = connection.done()
    assert outcome.end is not None
    assert outcome.to_server == CONNECT


def test_a_server_that_refuses_to_connect_stays_with_http() -> None:
    connection = Connection(permits)
    connection.client(CONNECT)
    connection.server(NOT_FOUND)
    connection.client(DENIED + GET)
    outcome = connection.done()
    assert outcome.to_server == CONNECT + GET


@pytest.mark.parametrize("target", [b"db.test", b"/", b"db.test:0", b"db.test:70000", b"http://db.test:443/", b"a@b:1"])
def test_connect_needs_host_and_port(target: bytes) -> None:
    assert not client_only([CONNECT.replace(b"CONNECT db.test:443", b"CONNECT " + target)]).to_server


def test_connect_with_a_body_is_refused() -> None:
    assert not client_only([CONNECT.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx")]).to_server


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_last_answer_ends_a_connection_whose_client_has_stopped(rounds: int) -> None:
    """Also when request and answer are remembered from the round before."""
    connection = Connection()
    for number in range(rounds):
        connection.client(GET)
        if number == rounds - 1:
            connection.client_eof()
        connection.server(OK)
    assert connection.done().end is End.CLOSE


def test_informational_responses_are_counted_per_request() -> None:
    """A server may send hints before every answer, for as long as the connection lives."""
    connection = Connection()
    for _ in range(40):
        connection.client(GET)
        connection.server(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        connection.server(OK)
    outcome = connection.done()
    assert outcome.failure == ""
    assert outcome.to_client.count(b"200 OK") == 40


def test_nothing_follows_an_answer_that_ends_with_its_connection() -> None:
    """What came behind such a body would be part of it (RFC 9112 §6.3)."""
    connection = Connection(permits)
    connection.client(GET + DENIED)
    connection.server(b"HTTP/1.1 200 OK\r\n\r\nbody")
    connection.server_eof()
    outcome = connection.done()
    assert outcome.to_client == b"HTTP/1.1 200 OK\r\n\r\nbody"
    assert outcome.end is End.CLOSE


@pytest.mark.parametrize("length", [16370, 16380, 16384, 16390, 16400])
def test_the_limit_of_the_request_line_does_not_depend_on_packets(length: int) -> None:
    line = b"GET /" + b"a" * (length - len("GET / HTTP/1.1")) + b" HTTP/1.1\r\n"
    data = line + b"Host: a\r\n\r\n"
    whole, cut = client_only([data]), client_only([data[: len(line) - 2], data[len(line) - 2 :]])
    assert cut.to_server == whole.to_server
    assert cut.to_client == whole.to_client


@pytest.mark.parametrize("length", [8190, 8192, 8194, 8196, 8198, 8200])
def test_the_limit_of_trailers_does_not_depend_on_packets(length: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    trailers = b"X: " + b"a" * (length - len("X: \r\n\r\n")) + b"\r\n\r\n"
    whole, cut = client_only([head + trailers]), client_only([head, *bytewise(trailers)])
    assert cut.end is whole.end
    assert cut.failure == whole.failure


@pytest.mark.parametrize("name", [b"X_Original_URL", b"X_Rewrite-URL", b"X_HTTP_METHOD_OVERRIDE"])
def test_a_header_that_names_another_path_or_method_is_not_forwarded_in_disguise(name: bytes) -> None:
    """CGI, WSGI and PHP read `_` and `-` in a header's name as the same character."""
    outcome = client_only([b"GET /a HTTP/1.1\r\nHost: a\r\n" + name + b": /admin\r\n\r\n"])
    assert name not in outcome.to_server


def test_options_of_a_whole_server_in_absolute_form() -> None:
    """RFC 9112 §3.2.4: without a path and query it is the server, `*`, that is meant."""
    outcome = client_only([b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert outcome.to_server.startswith(b"OPTIONS * HTTP/1.1\r\n")
