"""What the client says when there is no agent to talk to."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from proxy.api.client import AgentError, Client


def test_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "penstock.sock"
    with pytest.raises(AgentError, match="there is no such socket") as caught:
        Client(path).get("/v1/healthz")
    assert str(path) in caught.value.message
    assert "penstock run --policy-dir" in caught.value.hint


def test_nobody_serves_it(tmp_path: Path) -> None:
    path = tmp_path / "penstock.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(AgentError, match="nobody serves it"):
        Client(path).get("/v1/healthz")


def test_not_permitted(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    path = tmp_path / "penstock.sock"
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(path))
        path.chmod(0o600)
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            try:
                Client(path).get("/")
            except AgentError as error:
                os._exit(0 if "not permitted" in error.message else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "broke off"),
        (b"nonsense\r\n\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz", "no JSON"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nxyz", "HTTP 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}", "broke off"),
    ],
)
def test_a_server_that_is_no_agent(tmp_path: Path, answer: bytes, message: str) -> None:
    path = tmp_path / "penstock.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            peer, _ = server.accept()
            peer.recv(65536)
            peer.sendall(answer)
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(AgentError, match=message):
            Client(path).get("/v1/healthz")
        thread.join(30)


def test_silence_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "penstock.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(AgentError, match=r"did not answer within 0\.1 s"):
            Client(path, timeout_s=0.1).get("/v1/healthz")
