"""Attacks by many or by slowness, and floods: memory stays bounded, every bound is counted, others are served."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from parsers.http2 import frames
from parsers.http2.frames import PREFACE, ErrorCode
from parsers.http2.hpack import encode
from tests.lab.clients import peak_kib, resident_kib
from tests.lab.support import Http, Node, own_node, request_bytes

pytestmark = pytest.mark.lab

ORIGIN = Path(__file__).parent / "h2_origin.py"
WORKLOADS = f"""
kind: Pod
apiVersion: v1
metadata:
  name: server
  namespace: shop
  labels: {{app: server}}
  annotations:
    lab.penstock.io/run: exec python -m proxy.lab.echo --port 80
    lab.penstock.io/run.two: exec {sys.executable} -P {ORIGIN} 81
spec: {{containers: [{{ports: [{{containerPort: 80}}, {{containerPort: 81}}]}}]}}
---
kind: Pod
apiVersion: v1
metadata: {{name: client, namespace: shop, labels: {{app: client}}}}
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - toPorts:
    - ports: [{port: "80", protocol: TCP}, {port: "81", protocol: TCP}]
      rules: {http: [{path: "/(public|bytes|upload|drip).*"}]}
"""
MAX_CONNECTIONS = 300
SETTINGS = {"workers": 1, "header-timeout-s": 2, "max-connections": MAX_CONNECTIONS, "flood-penalty-s": 0}
ALLOWED_GROWTH_KIB = 48 << 10
GET = encode([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"server"), (b":path", b"/public")])
DENIED = encode([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"server"), (b":path", b"/secret")])


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """An agent with one worker, so that everybody meets the same one, and little patience."""
    with own_node(lab_name, tmp_path_factory.mktemp("attacks"), WORKLOADS, POLICY, SETTINGS) as node:
        yield node


@pytest.fixture
def worker(node: Node) -> Iterator[int]:
    """The worker's pid. Whatever a test does, it is the same one afterwards, and serves."""
    pid = worker_pid(node)
    yield pid
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
    assert worker_pid(node) == pid


def worker_pid(node: Node) -> int:
    return int(node.lab.agent.status()["proxy"]["workers"][0]["pid"])


def counted(node: Node, name: str) -> int:
    return int(node.lab.agent.status()["counters"].get(f"limits.{name}", 0))


def grown(node: Node, name: str, before: int, by: int = 1) -> None:
    node.eventually(lambda: counted(node, name) >= before + by)


def test_slow_heads_of_many_end_at_the_time_limit(node: Node, worker: int) -> None:
    """Slowloris: each connection sends a little of its head now and then."""
    before, count = counted(node, "header_timeout"), 200
    with ExitStack() as stack:
        slow = [stack.enter_context(node.connection(80)) for _ in range(count)]
        for connection in slow:
            connection.sendall(b"GET /public HTTP/1.1\r\nHost: server\r\n")
        for round_ in range(3):
            for connection in slow:
                with suppress(ConnectionError):
                    connection.sendall(b"X-%d: 1\r\n" % round_)
            with node.http() as http:
                assert http.request("GET", "/public").status == 200
            time.sleep(0.5)
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    grown(node, "header_timeout", before, count)


def test_readers_that_do_not_read_hold_up_their_servers_and_not_the_memory(node: Node, worker: int) -> None:
    before = resident_kib(worker)
    with ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(node.connection(80))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request_bytes("GET", f"/bytes/{64 << 20}"))
        time.sleep(2)
        with node.http() as http:
            assert http.request("GET", "/public").status == 200
        assert peak_kib(worker) - before < ALLOWED_GROWTH_KIB


def test_refusals_wait_for_a_client_that_reads_them(node: Node, worker: int) -> None:
    """Pipelined requests that are all refused: what their client does not read is not piled up."""
    before = resident_kib(worker)
    with node.connection(80, timeout=2) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        burst = request_bytes("GET", "/secret") * 200
        with suppress(TimeoutError, ConnectionError):
            for _ in range(400):
                connection.sendall(burst)
                time.sleep(0.002)
        assert peak_kib(worker) - before < ALLOWED_GROWTH_KIB


def test_the_longest_idle_connection_makes_room_for_a_new_one(node: Node, worker: int) -> None:
    before = counted(node, "idle_connections")
    with ExitStack() as stack:
        crowd = [stack.enter_context(node.http()) for _ in range(MAX_CONNECTIONS + 50)]
        assert crowd[-1].request("GET", "/public").status == 200
        with pytest.raises(OSError, match=r"reset|ended"):
            crowd[0].request("GET", "/public")
    grown(node, "idle_connections", before, 50)


def test_a_crowd_that_is_busy_keeps_others_out_and_is_counted(node: Node, worker: int) -> None:
    """Connections with a request under way are nobody's to close."""
    before = counted(node, "max_connections")
    with ExitStack() as stack:
        busy = [stack.enter_context(node.http()) for _ in range(MAX_CONNECTIONS)]
        for http in busy:
            http.send(request_bytes("GET", "/drip"))
        time.sleep(1)
        with pytest.raises(OSError, match=r"reset|ended"), node.http() as http:
            http.request("GET", "/public")
        for http in busy:
            assert http.answer().status == 200
    grown(node, "max_connections", before)


def read_all(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


FLOODS = {
    "PING": (frames.frame(frames.PING, 0, 0, b"12345678"), "control_frames"),
    "SETTINGS": (frames.frame(frames.SETTINGS, 0, 0), "control_frames"),
    "PRIORITY": (frames.frame(frames.PRIORITY, 0, 5, b"\0\0\0\0\1"), "control_frames"),
    "WINDOW_UPDATE": (frames.window_update(0, 1), "control_frames"),
    "unknown frames": (frames.frame(200, 0, 0), "control_frames"),
    "empty DATA": (frames.data(1, b"", end_stream=False), "empty_frames"),
}


def two(connection: socket.socket) -> None:
    """The beginning of a connection of HTTP/2, with one request under way."""
    connection.sendall(PREFACE + frames.frame(frames.SETTINGS, 0, 0) + frames.headers(1, GET, end_stream=False))


def last_words(connection: socket.socket) -> bytes:
    """Everything that comes until the end."""
    seen = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            seen += piece
    return seen


@pytest.mark.parametrize(("piece", "limit"), FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_of_frames_that_carry_nothing(node: Node, worker: int, piece: bytes, limit: str) -> None:
    before, memory = counted(node, limit), resident_kib(worker)
    with node.connection(81) as connection:
        two(connection)
        with suppress(ConnectionError):
            for _ in range(1000):
                connection.sendall(piece * 100)
        words = last_words(connection)
    assert words == b"" or int(ErrorCode.ENHANCE_YOUR_CALM).to_bytes(4, "big") in words
    grown(node, limit, before)
    assert peak_kib(worker) - memory < ALLOWED_GROWTH_KIB


def test_rapid_reset(node: Node, worker: int) -> None:
    before = counted(node, "reset_streams")
    with node.connection(81) as connection:
        connection.sendall(PREFACE + frames.frame(frames.SETTINGS, 0, 0))
        with suppress(ConnectionError):
            for number in range(1, 20_001, 2):
                connection.sendall(
                    frames.headers(number, GET, end_stream=True) + frames.rst_stream(number, ErrorCode.CANCEL)
                )
        last_words(connection)
    grown(node, "reset_streams", before)


def test_a_header_block_without_end(node: Node, worker: int) -> None:
    before = counted(node, "header_block_bytes")
    with node.connection(81) as connection:
        two(connection)
        connection.sendall(frames.frame(frames.HEADERS, 0, 3, GET))
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(frames.frame(frames.CONTINUATION, 0, 3, b"x" * 16384))
        last_words(connection)
    grown(node, "header_block_bytes", before)


def test_a_header_block_that_never_ends_runs_into_the_time_limit(node: Node, worker: int) -> None:
    before = counted(node, "header_timeout")
    with node.connection(81) as connection:
        two(connection)
        connection.sendall(frames.frame(frames.HEADERS, 0, 3, GET))
        last_words(connection)
    grown(node, "header_timeout", before)


def test_streams_whose_client_opens_no_window(node: Node, worker: int) -> None:
    """Bodies that nobody takes stay where they are: with the server."""
    before = resident_kib(worker)
    closed = frames.frame(frames.SETTINGS, 0, 0, b"\0\4\0\0\0\0")
    with node.connection(81, timeout=2) as connection:
        connection.sendall(PREFACE + closed)
        connection.sendall(b"".join(frames.headers(n, GET, end_stream=True) for n in range(1, 201, 2)))
        with pytest.raises(TimeoutError):
            read_all(connection)
        with node.http() as http:
            assert http.request("GET", "/public").status == 200
        assert peak_kib(worker) - before < ALLOWED_GROWTH_KIB


def test_refused_streams_of_a_client_that_does_not_read(node: Node, worker: int) -> None:
    before = resident_kib(worker)
    with node.connection(81, timeout=2) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(PREFACE + frames.frame(frames.SETTINGS, 0, 0))
        with suppress(TimeoutError, ConnectionError):
            for number in range(1, 2_000_001, 2):
                connection.sendall(frames.headers(number, DENIED, end_stream=True))
        assert peak_kib(worker) - before < ALLOWED_GROWTH_KIB


def test_more_streams_at_once_than_allowed(node: Node, worker: int) -> None:
    before = counted(node, "concurrent_streams")
    with node.connection(81) as connection:
        connection.sendall(PREFACE + frames.frame(frames.SETTINGS, 0, 0))
        connection.sendall(b"".join(frames.headers(n, GET, end_stream=False) for n in range(1, 2101, 2)))
        seen = b""
        while frames.rst_stream(2051, ErrorCode.REFUSED_STREAM) not in seen:
            seen += connection.recv(1 << 16)
    grown(node, "concurrent_streams", before, 20)


def test_a_connection_between_requests_may_rest(node: Node, worker: int) -> None:
    """The time limit is for heads: a connection that has answered may rest."""
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
        time.sleep(3)
        assert Http(http.connection).request("GET", "/public").status == 200
