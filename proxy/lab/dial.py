"""Connect to a port, send a line, expect it back: a probe for servers that speak no HTTP.

    python -m proxy.lab.dial HOST PORT [--ip 4|6] [--timeout S] [--local-ports A-B]

Prints one JSON object: {"outcome": "connected" | "timeout" | "refused" | ..., "local_port", "time_connect"}.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass

_LINE = b"penstock probe\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcome` is a word of the probe files; `time_connect` is in seconds, without name resolution."""

    outcome: str
    local_port: int = 0
    time_connect: float = 0.0
    detail: str = ""


def dial(host: str, port: int, family: socket.AddressFamily, timeout: float, local_ports: range) -> Outcome:
    outcome, connection = connect(host, port, family, timeout, local_ports)
    if connection is None:
        return outcome
    with connection:
        return Outcome(*_exchange(connection, outcome.local_port, outcome.time_connect))


def connect(
    host: str, port: int, family: socket.AddressFamily, timeout: float, local_ports: range
) -> tuple[Outcome, socket.socket | None]:
    """A connection, or why there is none."""
    try:
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    except OSError as error:
        return Outcome("unresolved", detail=str(error)), None
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    local = bind_free(connection, local_ports)
    start = time.monotonic()
    try:
        connection.connect(address)
    except OSError as error:
        connection.close()
        return Outcome(_failed(error), local, detail=str(error)), None
    local = local or int(connection.getsockname()[1])
    return Outcome("connected", local, time.monotonic() - start), connection


def _failed(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    return "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"


def bind_free(connection: socket.socket, local_ports: range) -> int:
    """Bind to the first of the ports that is free; 0 if none is."""
    for port in local_ports:
        try:
            connection.bind(("", port))
        except OSError:
            continue
        return port
    return 0


def _exchange(connection: socket.socket, local: int, took: float) -> tuple[str, int, float, str]:
    try:
        connection.sendall(_LINE)
        back = b""
        while len(back) < len(_LINE) and (data := connection.recv(64)):
            back += data
    except OSError as error:
        return "reset", local, took, str(error)
    return ("connected" if back == _LINE else "garbled"), local, took, ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proxy.lab.dial")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--ip", type=int, choices=(4, 6), default=4)
    parser.add_argument("--timeout", type=float, default=2.0)
    parser.add_argument("--local-ports", default="", metavar="A-B")
    options = parser.parse_args(arguments)
    first, _, last = options.local_ports.partition("-")
    local_ports = range(int(first), int(last) + 1) if last else range(0)
    family = socket.AF_INET6 if options.ip == 6 else socket.AF_INET
    outcome = dial(options.host, options.port, family, options.timeout, local_ports)
    print(json.dumps(asdict(outcome)))
    return 0 if outcome.outcome == "connected" else os.EX_UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
