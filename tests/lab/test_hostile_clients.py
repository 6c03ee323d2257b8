"""Clients that mean harm, or behave as if: each gets its due, and the others do not notice."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from parsers.http2 import frames
from parsers.http2.frames import PREFACE
from proxy.flows.model import Verdict
from proxy.lab import Lab
from proxy.lab.progress import Progress
from proxy.worker.floods import TOLERATED
from tests.lab.support import Http, Node

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
CROWD = 1000


@pytest.fixture(scope="module")
def node(lab_name: str, policies: Path) -> Iterator[Node]:
    """An agent with one worker, so that everybody meets the same one, and little patience."""
    settings = {"workers": 1, "header-timeout-s": 1}
    with Lab.up(
        lab_name, [HERE / "workloads.yaml"], policies=policies, settings=settings, progress=Progress(quiet=True)
    ) as lab:
        yield Node(lab)


def counter(node: Node, name: str) -> int:
    return int(node.lab.agent.status()["counters"].get(name, 0))


def worker_pid(node: Node) -> int:
    return int(node.lab.agent.status()["proxy"]["workers"][0]["pid"])


def resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_listener_is_not_reached_by_its_address(node: Node, family: int) -> None:
    """Whoever connects to the proxy itself, from the node, was not redirected: there is nobody to judge for."""
    before = counter(node, "refused.direct")
    port = _listener_port(node, family)
    with node.lab.socket("node", family) as connection:
        connection.settimeout(5)
        with pytest.raises(ConnectionError):
            _ask(connection, ("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
    node.eventually(lambda: counter(node, "refused.direct") > before)


def _ask(connection: socket.socket, address: tuple[str, int]) -> None:
    connection.connect(address)
    Http(connection).request("GET", "/public")


def _listener_port(node: Node, family: int) -> int:
    """From the kernel's own table: the listening loopback socket of the worker's namespace."""
    table = "tcp6" if family == socket.AF_INET6 else "tcp"
    for line in Path(f"/proc/{worker_pid(node)}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        address, _, port = fields[1].partition(":")
        is_loopback = address in ("0100007F", "00000000000000000000000001000000")
        if fields[3] == "0A" and is_loopback:
            return int(port, 16)
    raise AssertionError("no listener")


@pytest.mark.parametrize(
    "hello",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        b"\x00" * 100,
    ],
)
def test_other_protocols_end_with_a_record(node: Node, hello: bytes) -> None:
    before = len(node.server_log())
    with node.http() as http:
        http.send(hello)
        assert http.connection.recv(4096)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 505", b"")
        flow = node.flow(http.local_port, lambda flow: flow.verdict is Verdict.ERROR)
    assert flow.summary
    assert len(node.server_log()) == before


def test_tls_on_a_port_for_http_ends_in_a_reset_that_says_so(node: Node) -> None:
    with node.http() as http:
        http.send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03")
        with pytest.raises(ConnectionResetError):
            http.answer()
        flow = node.flow(http.local_port, lambda flow: flow.verdict is Verdict.ERROR)
    assert "TLS" in flow.summary


def test_a_head_that_never_ends_is_answered_408(node: Node) -> None:
    with node.http() as http:
        http.send(b"GET /public HTTP/1.1\r\nhost: x\r\nx-slow: ")
        assert http.answer().status == 408
        assert http.connection.recv(64) == b""
    node.eventually(lambda: counter(node, "limits.header_timeout") >= 1)


def test_a_crowd_that_says_nothing_disturbs_nobody(node: Node) -> None:
    pid = worker_pid(node)
    with ExitStack() as crowd:
        with node.http() as http:
            assert http.request("GET", "/public").status == 200
        before = resident_kib(pid)
        for _ in range(CROWD):
            connection = crowd.enter_context(node.connection(80))
            connection.send(b"G")
        with node.http() as http:
            assert http.request("GET", "/public").status == 200
            assert http.request("GET", "/secret").status == 403
        assert resident_kib(pid) - before < 32 * 1024
    assert worker_pid(node) == pid


def test_a_client_that_does_not_read_is_not_buffered_for(node: Node) -> None:
    """100 MB are asked for and not taken: the server has to wait, the proxy does not keep them."""
    pid = worker_pid(node)
    before = resident_kib(pid)
    with node.http() as slow, node.http() as other:
        slow.send(b"GET /bytes/100000000 HTTP/1.1\r\nhost: x\r\n\r\n")
        for _ in range(50):
            assert other.request("GET", "/public").status == 200
        assert resident_kib(pid) - before < 16 * 1024


def test_a_flood_of_refused_requests_in_one_go(node: Node) -> None:
    with node.http() as http:
        http.send(b"GET /secret HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
        for _ in range(1000):
            assert http.answer().status == 403
        assert http.request("GET", "/public").status == 200


def test_a_client_of_many_floods_waits_and_others_do_not(node: Node) -> None:
    """Connections that it has already go on. By its other address the client is somebody else."""
    flood = PREFACE + frames.frame(frames.SETTINGS, 0, 0) + frames.frame(frames.PING, 0, 0, b"12345678") * 2000
    with node.http() as before:
        assert before.request("GET", "/public").status == 200
        for _ in range(TOLERATED + 2):
            with suppress(ConnectionError), node.connection(80) as connection:
                connection.sendall(flood)
                while connection.recv(1 << 16):
                    pass
        node.eventually(lambda: counter(node, "limits.control_frames") >= TOLERATED)
        with pytest.raises(OSError, match=r"reset|ended"), node.http() as refused:
            refused.request("GET", "/public")
        assert before.request("GET", "/public").status == 200
    with node.http(ip=6) as other:
        assert other.request("GET", "/public").status == 200
    assert counter(node, "limits.flooding_clients") >= 1
