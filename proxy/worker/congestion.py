"""Congestion control of connections between the proxy and pods of its own node.

There is no network in between whose capacity had to be found out or shared. What measures it and paces what is sent
(BBR, which nodes may have for the sake of their uplink) only holds such connections up.

Source: tcp(7), tcp_congestion_control and TCP_CONGESTION.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

_DEFAULT = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_UNPACED = frozenset(("cubic", "reno"))
_ALWAYS_THERE = b"reno"


def is_default_paced(setting: Path = _DEFAULT) -> bool:
    """Would connections be paced that nobody has spoken for?"""
    try:
        return setting.read_text(encoding="ascii").strip() not in _UNPACED
    except OSError:
        return False


def unpace(connection: socket.socket) -> None:
    with suppress(OSError):  # slower, no more than that
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _ALWAYS_THERE)
