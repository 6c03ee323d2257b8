"""Large bodies and tunnels pass within the kernel: the same bytes, the same ends, and the filter sees what it has to.

The test itself is the server.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.lab.support import Http, Node, own_node, request_bytes
from tests.parsers.tls.hellos import real_hello

pytestmark = pytest.mark.lab

WORKLOADS = """
kind: Pod
apiVersion: v1
metadata: {name: server, namespace: shop, labels: {app: server}}
---
kind: Pod
apiVersion: v1
metadata: {name: client, namespace: shop, labels: {app: client}}
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{path: "/public.*"}]}
  - toPorts:
    - ports: [{port: "443", protocol: TCP}]
      serverNames: [a.test]
"""
MAX_RELAYS = 2
SETTINGS = {"workers": 1, "max-relays": MAX_RELAYS}
MIB = 1 << 20
BODY = random.Random(1).randbytes(24 * MIB)
RESET = struct.pack("ii", 1, 0)
HELLO = real_hello("a.test", ssl.TLSVersion.TLSv1_3)
GET = request_bytes("GET", "/public")
POST = b"POST /public HTTP/1.1\r\nHost: server\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with own_node(lab_name, tmp_path_factory.mktemp("relays"), WORKLOADS, POLICY, SETTINGS) as node:
        yield node


@contextmanager
def listening(node: Node, port: int) -> Iterator[socket.socket]:
    with node.lab.socket("shop/server") as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(10)
        listener.bind(("0.0.0.0", port))
        listener.listen()
        yield listener


@contextmanager
def both_ends(node: Node, first: bytes, port: int = 80) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Client and server of a connection through the proxy, on which `first` has arrived."""
    with listening(node, port) as listener, accepted(node, listener, first) as ends:
        yield ends


@contextmanager
def accepted(node: Node, listener: socket.socket, first: bytes) -> Iterator[tuple[socket.socket, socket.socket]]:
    with node.connection(listener.getsockname()[1]) as client:
        client.sendall(first)
        server, _ = listener.accept()
        with server:
            server.settimeout(10)
            assert received(server, len(first)) == first
            yield client, server


def received(connection: socket.socket, count: int) -> bytes:
    out = bytearray()
    while len(out) < count:
        data = connection.recv(min(MIB, count - len(out)))
        assert data, f"it ended after {len(out)} bytes"
        out += data
    return bytes(out)


@contextmanager
def sending(connection: socket.socket, data: bytes) -> Iterator[None]:
    """All of it is sent once this is left, unless the other end is gone."""
    errors: list[OSError] = []

    def send() -> None:
        try:
            connection.sendall(data)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()
    assert not errors


def is_reset(connection: socket.socket) -> bool:
    """Or does it end as if all had been said?"""
    try:
        while connection.recv(MIB):
            pass
    except ConnectionResetError:
        return True
    return False


def refuses_more(connection: socket.socket) -> bool:
    try:
        for _ in range(200):
            connection.sendall(bytes(MIB))
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def counters(node: Node) -> dict[str, int]:
    told: dict[str, int] = node.lab.agent.status()["counters"]
    return {name: told.get(name, 0) for name in ("relays", "relayed_bytes", "limits.max_relays")}


@pytest.fixture
def relayed(node: Node) -> Iterator[None]:
    """Most of the test's bytes have to take this way, or it shows nothing."""
    before = counters(node)
    yield
    node.eventually(lambda: counters(node)["relayed_bytes"] - before["relayed_bytes"] > len(BODY) // 4)


def answered(head: bytes = b"", body: bytes = BODY) -> bytes:
    return OK + (head or b"Content-Length: %d\r\n" % len(body)) + b"\r\n" + body


@pytest.mark.usefixtures("relayed")
def test_a_large_answer_and_what_follows_it(node: Node) -> None:
    with both_ends(node, GET) as (client, server):
        whole = answered()
        with sending(server, whole):
            assert received(client, len(whole)) == whole
        http = Http(client)
        assert http.request("GET", "/secret").status == 403
        http.send(GET)
        assert received(server, len(GET)) == GET
        server.sendall(answered(body=b"small"))
        assert http.answer().body == b"small"


@pytest.mark.usefixtures("relayed")
def test_a_refusal_waits_behind_a_large_answer(node: Node) -> None:
    with both_ends(node, GET) as (client, server):
        whole = answered()
        server.sendall(whole[:MIB])
        client.sendall(request_bytes("GET", "/secret"))
        with sending(server, whole[MIB:]):
            assert received(client, len(whole)) == whole
        assert Http(client).answer().status == 403


@pytest.mark.usefixtures("relayed")
def test_a_large_request_and_what_follows_it(node: Node) -> None:
    head = POST + b"Content-Length: %d\r\n\r\n" % len(BODY)
    with both_ends(node, head) as (client, server):
        with sending(client, BODY + request_bytes("GET", "/secret") + GET):
            assert received(server, len(BODY) + len(GET)) == BODY + GET
        server.sendall(answered(body=b"first") + answered(body=b"second"))
        http = Http(client)
        assert [http.answer().status for _ in range(3)] == [200, 403, 200]


@pytest.mark.usefixtures("relayed")
def test_an_early_answer_to_a_request_that_is_not_read_on(node: Node) -> None:
    """What waits for the server does not cost the client its answer."""
    head = POST + b"Content-Length: %d\r\n\r\n" % (1 << 30)
    with both_ends(node, head) as (client, server):
        with sending(client, BODY):
            assert received(server, len(BODY)) == BODY
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(1 << 27))
        answer = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
        server.sendall(answer)
        server.shutdown(socket.SHUT_WR)
        client.settimeout(10)
        assert received(client, len(answer)) == answer
        assert client.recv(1) == b""


@pytest.mark.usefixtures("relayed")
def test_large_chunks_both_ways(node: Node) -> None:
    chunked = b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in (BODY[: 9 * MIB], b"x", BODY[9 * MIB :]))
    chunked += b"0\r\n\r\n"
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    with both_ends(node, head) as (client, server):
        with sending(client, chunked + GET):
            assert received(server, len(chunked) + len(GET)) == chunked + GET
        whole = answered(b"Transfer-Encoding: chunked\r\n", chunked) + answered(body=b"second")
        with sending(server, whole):
            assert received(client, len(whole)) == whole


@pytest.mark.usefixtures("relayed")
def test_a_chunk_that_is_longer_than_its_size(node: Node) -> None:
    """What comes behind a relayed chunk is read as strictly as ever."""
    chunked = b"%x\r\n" % len(BODY) + BODY + b"XX0\r\n\r\n"
    with both_ends(node, GET) as (client, server):
        whole = answered(b"Transfer-Encoding: chunked\r\n", chunked)
        with sending(server, whole):
            assert received(client, MIB) == whole[:MIB]
            assert is_reset(client)


@pytest.mark.usefixtures("relayed")
@pytest.mark.parametrize("how", ["ends", "is reset"])
def test_an_answer_that_is_cut_off_does_not_look_whole(node: Node, how: str) -> None:
    with both_ends(node, GET) as (client, server):
        whole = answered()
        with sending(server, whole[:-100]):
            assert received(client, len(whole) - 200) == whole[:-200]
        if how == "is reset":
            received(client, 100)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.close()
        assert is_reset(client)


@pytest.mark.usefixtures("relayed")
@pytest.mark.parametrize("how", ["ends", "is reset"])
def test_a_request_that_is_cut_off_does_not_look_whole(node: Node, how: str) -> None:
    head = POST + b"Content-Length: %d\r\n\r\n" % len(BODY)
    with both_ends(node, head) as (client, server):
        with sending(client, BODY[:-100]):
            assert received(server, len(BODY) - 200) == BODY[:-200]
        if how == "is reset":
            received(server, 100)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert is_reset(server)


@pytest.mark.usefixtures("relayed")
def test_a_client_that_goes_away(node: Node) -> None:
    with both_ends(node, GET) as (client, server):
        half = answered()[: len(BODY) // 2]
        with sending(server, half):
            received(client, len(half))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert refuses_more(server)


@pytest.mark.usefixtures("relayed")
def test_a_client_that_reads_late(node: Node) -> None:
    with both_ends(node, GET) as (client, server):
        whole = answered()
        with sending(server, whole):
            time.sleep(2.5)
            assert received(client, len(whole)) == whole


@pytest.mark.usefixtures("relayed")
def test_urgent_data_amid_a_large_answer(node: Node) -> None:
    """It is not of the stream, here as with any reader, and nobody spins on it."""
    with both_ends(node, GET) as (client, server):
        whole, half = answered(), len(BODY) // 2
        with sending(server, whole[:half]):
            assert received(client, half) == whole[:half]
        server.send(b"!", socket.MSG_OOB)
        with sending(server, whole[half:]):
            assert received(client, len(whole) - half) == whole[half:]


@pytest.mark.usefixtures("relayed")
def test_an_answer_until_the_server_closes(node: Node) -> None:
    with both_ends(node, GET) as (client, server):
        whole = OK + b"\r\n" + BODY
        with sending(server, whole):
            assert received(client, len(whole)) == whole
        server.close()
        assert client.recv(1) == b""


@pytest.mark.usefixtures("relayed")
def test_a_tunnel_that_becomes_quiet_and_ends_way_by_way(node: Node) -> None:
    """Both ways at once; then a word now and then; then one way ends, and the other goes on."""
    with both_ends(node, HELLO, 443) as (client, server):
        with sending(client, BODY), sending(server, BODY), ThreadPoolExecutor(1) as pool:
            seen = pool.submit(received, client, len(BODY))
            assert received(server, len(BODY)) == BODY
            assert seen.result(20) == BODY
        for _ in range(3):
            time.sleep(0.9)
            client.sendall(b"question")
            assert received(server, 8) == b"question"
            server.sendall(b"answer")
            assert received(client, 6) == b"answer"
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        with sending(server, BODY):
            assert received(client, len(BODY)) == BODY
        server.close()
        assert client.recv(1) == b""


@pytest.mark.usefixtures("relayed")
def test_a_name_that_is_withdrawn_ends_its_relay(node: Node) -> None:
    file = node.policies / "server.yaml"
    before = file.read_text(encoding="utf-8")
    try:
        with both_ends(node, HELLO, 443) as (client, server):
            with sending(server, BODY):
                assert received(client, len(BODY)) == BODY
            put_in_force(node, file, before.replace("a.test", "b.test"))
            assert is_reset(client)
            assert refuses_more(server)
    finally:
        put_in_force(node, file, before)


def put_in_force(node: Node, file: Path, text: str) -> None:
    revision = node.revision()
    file.write_text(text, encoding="utf-8")
    node.eventually(lambda: node.revision() > revision)


def test_no_more_of_them_than_there_may_be(node: Node) -> None:
    """Who comes later passes through the worker; afterwards all may be used again."""
    before = counters(node)
    with listening(node, 443) as listener, ExitStack() as stack:
        ends = [stack.enter_context(accepted(node, listener, HELLO)) for _ in range(3 * MAX_RELAYS)]
        with ThreadPoolExecutor(2 * len(ends)) as pool:
            sent = [pool.submit(server.sendall, BODY) for _, server in ends]
            assert all(pool.map(lambda pair: received(pair[0], len(BODY)) == BODY, ends))
            assert [sending.result(10) for sending in sent] == [None] * len(ends)
    node.eventually(lambda: counters(node)["limits.max_relays"] > before["limits.max_relays"])
    test_a_large_answer_and_what_follows_it(node)
    last = counters(node)
    test_a_large_answer_and_what_follows_it(node)
    node.eventually(lambda: counters(node)["relayed_bytes"] - last["relayed_bytes"] > len(BODY) // 4)
