"""Servers of all kinds behind a port with HTTP rules: the test itself is the server, byte by byte."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.flows.model import Verdict
from proxy.lab import names, processes
from tests.lab.support import Http, Node, eventually, request_bytes

pytestmark = pytest.mark.lab

# Key and proof are those of RFC 6455 §1.3.
UPGRADE = (
    b"GET /public/ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@pytest.fixture(scope="module")
def empty(node: Node) -> Node:
    """The node, its server pod without a program."""
    inodes = processes.netns_inodes([names.netns_path(node.lab.name, "shop/server")])
    for process in processes.members(inodes):
        os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not processes.members(inodes))
    return node


@contextmanager
def server(node: Node) -> Iterator[socket.socket]:
    with node.lab.socket("shop/server") as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(10)
        listener.bind(("0.0.0.0", 80))
        listener.listen()
        yield listener


@contextmanager
def accepted(listener: socket.socket, first: bytes) -> Iterator[socket.socket]:
    """The proxy's connection, its first request read."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(10)
        seen = b""
        while len(seen) < len(first):
            seen += connection.recv(4096)
        assert seen == first
        yield connection


def test_nobody_listens(empty: Node) -> None:
    with empty.http() as http:
        assert http.request("GET", "/public").status == 503
        flow = empty.flow(http.local_port, lambda flow: flow.verdict is Verdict.ERROR)
    assert "Connection refused" in flow.summary


def test_a_websocket_is_a_tunnel_until_both_ends_close(empty: Node) -> None:
    with server(empty) as listener, empty.http() as http:
        http.send(UPGRADE)
        with accepted(listener, UPGRADE) as upstream:
            upstream.sendall(SWITCHING + b"\x81\x02hi")
            answer = http.answer()
            assert (answer.status, answer.headers["upgrade"]) == (101, "websocket")
            http.send(b"\x81\x80mask")
            assert upstream.recv(64) == b"\x81\x80mask"
            http.connection.shutdown(socket.SHUT_WR)
            assert upstream.recv(64) == b""
            upstream.sendall(b"\x88\x00")
        assert http.connection.recv(64) in (b"\x81\x02hi\x88\x00", b"\x88\x00")
        assert http.connection.recv(64) == b""


def test_an_answer_that_is_cut_off_does_not_look_whole(empty: Node) -> None:
    request = request_bytes("GET", "/public")
    with server(empty) as listener, empty.http() as http:
        http.send(request)
        with accepted(listener, request) as upstream:
            upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        with pytest.raises(ConnectionResetError, match="reset"):
            http.answer()


def test_an_ambiguous_answer_becomes_502(empty: Node) -> None:
    request = request_bytes("GET", "/public")
    with server(empty) as listener, empty.http() as http:
        http.send(request)
        with accepted(listener, request) as upstream:
            upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
            assert http.answer().status == 502


def test_an_early_answer_and_a_body_that_still_comes(empty: Node) -> None:
    head = b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
    with server(empty) as listener, empty.http() as http:
        http.send(head + b"01234")
        with accepted(listener, head + b"01234") as upstream:
            upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            assert http.answer().status == 200
            http.send(b"56789" + request_bytes("GET", "/public"))
            left = b"56789" + request_bytes("GET", "/public")
            while left:
                data = upstream.recv(4096)
                assert data
                assert left.startswith(data)
                left = left[len(data) :]


def test_a_client_that_says_close_and_stays_is_let_go(empty: Node) -> None:
    """The server does not close either: the proxy does, behind the answer."""
    request = b"GET /public HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with server(empty) as listener, empty.http() as http:
        http.send(request)
        with accepted(listener, request) as upstream:
            upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            assert http.answer().body == b"ok"
            assert http.connection.recv(64) == b""
            with pytest.raises(ConnectionResetError):
                upstream.recv(64)


def test_a_refused_client_makes_no_connection(empty: Node) -> None:
    with server(empty) as listener, empty.http() as http:
        assert http.request("GET", "/secret").status == 403
        listener.settimeout(1)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_the_server_sees_the_client(empty: Node) -> None:
    request = request_bytes("GET", "/public")
    with server(empty) as listener, empty.http() as http:
        http.send(request)
        with accepted(listener, request) as upstream:
            assert upstream.getpeername()[0] == empty.address("shop/client", 4)
            upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert Http(http.connection).answer().status == 204
