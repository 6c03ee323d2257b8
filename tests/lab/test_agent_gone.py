"""kill -9 of the agent and all its workers: what was decided stays decided, and nothing opens."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.lab.support import Node

pytestmark = pytest.mark.lab


@pytest.fixture
def orphaned(node: Node) -> Iterator[Node]:
    """The node without agent and workers; afterwards a new agent serves again."""
    node.kill_agent()
    yield node
    if node.lab.agent_pid is None:
        node.lab.start_agent()


def talks(connection: socket.socket, text: bytes) -> bool:
    connection.sendall(text)
    return connection.recv(64) == text


@pytest.mark.parametrize("ip", [4, 6])
def test_plain_connections_go_on(node: Node, ip: int) -> None:
    with node.connection(81, ip) as connection:
        assert talks(connection, b"before")
        node.kill_agent()
        assert talks(connection, b"while nobody is there")
        with node.connection(81, ip) as another:
            assert talks(another, b"a new one")
        node.lab.start_agent()
        assert talks(connection, b"after")


@pytest.mark.parametrize("ip", [4, 6])
def test_what_is_denied_stays_denied(orphaned: Node, ip: int) -> None:
    orphaned.is_silent(82, ip)
    orphaned.is_silent(81, ip, "shop/stranger")
    orphaned.is_silent(80, ip, "shop/stranger")


@pytest.mark.parametrize("ip", [4, 6])
def test_ports_with_http_rules_fail_closed(orphaned: Node, ip: int) -> None:
    """Not even an allowed request passes: there is nobody to tell it from the others."""
    before = len(orphaned.server_log())
    with orphaned.lab.socket("shop/client", socket.AF_INET6 if ip == 6 else socket.AF_INET) as connection:
        connection.settimeout(1.5)
        assert _answer(connection, (orphaned.address("shop/server", ip), 80)) == b""
    assert len(orphaned.server_log()) == before


def _answer(connection: socket.socket, address: tuple[str, int]) -> bytes:
    try:
        connection.connect(address)
        connection.sendall(b"GET /public HTTP/1.1\r\nhost: x\r\n\r\n")
        return connection.recv(64)
    except (TimeoutError, ConnectionError):
        return b""


@pytest.mark.parametrize("ip", [4, 6])
def test_an_open_http_connection_does_not_slip_through(node: Node, ip: int) -> None:
    """No packet of a connection that was proxied reaches the server unproxied."""
    with node.http(ip) as http:
        assert http.request("GET", "/public").status == 200
        before = len(node.server_log())
        node.kill_agent()
        http.connection.settimeout(1.5)
        with pytest.raises((TimeoutError, ConnectionError)):
            http.request("GET", "/public")
        assert len(node.server_log()) == before
    node.lab.start_agent()


def test_a_new_agent_takes_over(orphaned: Node) -> None:
    """It adopts what is pinned: maps keep their ids, and everything is served as before."""
    pinned = sorted(path.name for path in orphaned.lab.agent.bpf_mount.rglob("*"))
    assert pinned
    orphaned.lab.start_agent()
    assert sorted(path.name for path in orphaned.lab.agent.bpf_mount.rglob("*")) == pinned
    for ip in (4, 6):
        with orphaned.http(ip) as http:
            assert http.request("GET", "/public").status == 200
            assert http.request("POST", "/public").status == 403
        orphaned.is_silent(82, ip)


def test_a_second_agent_is_refused(node: Node) -> None:
    """Two agents on one state folder would undo each other."""
    pid = node.lab.agent_pid
    command = node.lab.agent.command(node.lab.agent.state_dir.parent / "none")
    done = node.lab.exec("node", command)
    assert done.returncode != 0
    assert node.lab.agent_pid == pid
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
