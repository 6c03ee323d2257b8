"""Which congestion control connections to pods of the node get."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from proxy.worker.congestion import is_default_paced, unpace


@pytest.mark.parametrize(("default", "paced"), [("cubic\n", False), ("reno\n", False), ("bbr\n", True)])
def test_what_paces(tmp_path: Path, default: str, paced: bool) -> None:
    setting = tmp_path / "tcp_congestion_control"
    setting.write_text(default, encoding="ascii")
    assert is_default_paced(setting) is paced


def test_a_node_that_does_not_say() -> None:
    assert is_default_paced(Path("/nowhere")) is False


def test_unpaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        unpace(ours)
        found = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        assert found.rstrip(b"\0") == b"reno"
