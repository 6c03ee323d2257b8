"""Workers that die, agents that stop: what is under way, and what comes next."""

from __future__ import annotations

import errno
import os
import signal
import socket

import pytest

from tests.lab.support import Http, Node, eventually

pytestmark = pytest.mark.lab


def workers(node: Node) -> list[dict[str, int]]:
    found: list[dict[str, int]] = node.lab.agent.status()["proxy"]["workers"]
    return found


def test_a_worker_that_is_killed_is_replaced(node: Node) -> None:
    """Its listener lives on in the agent: connections wait for the successor and are served."""
    before = {worker["pid"] for worker in workers(node)}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for _ in range(8):
        with node.http() as http:
            assert http.request("GET", "/public").status == 200
            assert http.request("GET", "/secret").status == 403
    node.eventually(lambda: all(worker["ready"] for worker in workers(node)))
    assert before.isdisjoint(worker["pid"] for worker in workers(node))
    assert all(worker["restarts"] == 1 for worker in workers(node))


def connect_when_free(connection: socket.socket, address: tuple[str, int]) -> None:
    """The client's own kernel refuses the ports (EADDRNOTAVAIL) until the last socket's FIN has been acknowledged."""

    def connected() -> bool:
        try:
            connection.connect(address)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return False
        return True

    eventually(connected)


@pytest.mark.parametrize("ip", [4, 6])
def test_a_source_port_is_used_again_at_once(node: Node, ip: int) -> None:
    """The proxy closed first, so its socket waits (TIME-WAIT): a new connection on the same ports must not."""
    family = socket.AF_INET6 if ip == 6 else socket.AF_INET
    port = 0
    for request, status in ((b"\x00\r\n\r\n", 400), (b"GET /public HTTP/1.1\r\nhost: x\r\n\r\n", 200)) * 2:
        with node.lab.socket("shop/client", family) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.settimeout(10)
            connection.bind(("", port))
            port = connection.getsockname()[1]
            connect_when_free(connection, (node.address("shop/server", ip), 80))
            http = Http(connection)
            http.send(request)
            assert http.answer().status == status
            if status == 400:
                assert connection.recv(64) == b""


def test_sigterm_lets_a_request_finish(node: Node) -> None:
    """New connections are refused at once; an answer under way is complete; plain ports never notice."""
    size = 50_000_000
    with node.http() as http:
        http.send(b"GET /bytes/%d HTTP/1.1\r\nhost: x\r\n\r\n" % size)
        pid = node.lab.agent_pid
        assert pid is not None
        http.connection.recv(1)
        os.kill(pid, signal.SIGTERM)
        left = size
        while left > 0 and (data := http.connection.recv(1 << 20)):
            left -= len(data)
        assert left < 0, "the head came on top of the body"
    with node.connection(81) as connection:
        connection.sendall(b"still here")
        assert connection.recv(64) == b"still here"
    node.eventually(lambda: node.lab.agent_pid is None)
    node.lab.start_agent()
    with node.http() as http:
        assert http.request("GET", "/public").status == 200


def test_a_second_agent_is_told_of_the_first(node: Node) -> None:
    second = node.lab.exec("node", node.lab.agent.command(node.policies))
    assert second.returncode == 1
    assert f"in use by process {node.lab.agent_pid}" in second.stderr
    with node.http() as http:
        assert http.request("GET", "/public").status == 200


def test_a_broken_endpoints_file_at_start_opens_nothing(node: Node) -> None:
    """Without it the agent does not know whom to protect: what is pinned stays."""
    file = node.lab.state.directory / "endpoints.yaml"
    good = file.read_text(encoding="utf-8")
    node.kill_agent()
    file.write_text("endpoints: [", encoding="utf-8")
    try:
        node.lab.agent.reap_ended()
        node.lab.agent.start(node.policies)
        node.eventually(node.lab.agent.socket.exists)
        node.is_silent(82)
        node.is_silent(81, source="shop/stranger")
        with node.connection(81) as connection:
            connection.sendall(b"known already")
            assert connection.recv(64) == b"known already"
        with pytest.raises(ConnectionError), node.http() as http:
            http.request("GET", "/public")
    finally:
        file.write_text(good, encoding="utf-8")
    node.eventually(lambda: node.is_healthy())
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
