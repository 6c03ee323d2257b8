"""The lab's own server, on the loopback interface."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest


def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "proxy.lab.echo", "--port", "0", "--pod", "a/b", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, int(child.stdout.readline().split()[-1])


def stop(child: subprocess.Popen[str]) -> str:
    child.kill()
    output, _ = child.communicate()
    return output


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    child, number = start()
    yield number
    stop(child)


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_it_says_who_asked_for_what(port: int) -> None:
    status, body = ask(port, "POST", "/x?y=1", b"hello")
    facts = json.loads(body)
    assert status == 200
    assert (facts["pod"], facts["client"], facts["method"], facts["path"]) == ("a/b", "127.0.0.1", "POST", "/x?y=1")
    assert facts["body"] == {"length": 5, "crc32": "3610a686"}


def test_special_paths(port: int) -> None:
    assert ask(port, "GET", "/bytes/100000") == (200, bytes(100_000))
    assert ask(port, "GET", "/status/404")[0] == 404
    assert ask(port, "GET", "/status/204") == (204, b"")
    assert json.loads(ask(port, "GET", "/drip")[1])["path"] == "/drip"


def exchange(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while data := connection.recv(1 << 16):
            parts.append(data)
    return b"".join(parts)


def test_pipelined_requests_and_chunked_bodies(port: int) -> None:
    chunked = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    answer = exchange(port, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + chunked + b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.index(b'"path": "/a"') < answer.index(b'"length": 5') < answer.index(b'"path": "/c"')


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nbroken\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_nothing_is_guessed(port: int, sent: bytes) -> None:
    assert exchange(port, sent + b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_the_access_log_has_the_peers_address() -> None:
    child, port = start()
    ask(port, "DELETE", "/gone")
    assert "127.0.0.1 DELETE /gone 200\n" in stop(child)


def test_plain_tcp() -> None:
    child, port = start("--tcp")
    assert exchange(port, b"any bytes \x00\xff") == b"any bytes \x00\xff"
    stop(child)
