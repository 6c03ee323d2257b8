"""The cases of h2spec, as bytes, through the real proxy to a server that keeps all the rules.

`expected` lists what a client may see; nothing there: it must be served, which a PING behind the case's bytes shows.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.support import Node, own_node
from tests.parsers.http1.test_corpus import CORPUS, need

pytestmark = pytest.mark.lab

FILE = "h2spec_cases.jsonl"
ORIGIN = Path(__file__).parent / "h2_origin.py"
WORKLOADS = f"""
kind: Pod
apiVersion: v1
metadata:
  name: server
  namespace: shop
  labels: {{app: server}}
  annotations: {{lab.penstock.io/run: exec {sys.executable} -P {ORIGIN} 80}}
spec: {{containers: [{{ports: [{{containerPort: 80}}]}}]}}
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
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{path: "/.*"}, {method: OPTIONS}]}
"""
PING, PONG = b"\0\0\x08\x06\0\0\0\0\0penstock", b"\0\0\x08\x06\x01\0\0\0\0penstock"
ERRORS = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
]
HTTP1_ANSWER = b"HTTP/1.1 "
CLOSED, SERVED = "Connection closed", "served"


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    says: str
    expected: tuple[str, ...]
    connections: tuple[bytes, ...]


def load() -> list[Case]:
    path = CORPUS / FILE
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Case(row["id"], row["desc"], tuple(row["expected"]), tuple(base64.b64decode(text) for text in row["conns"]))
        for row in rows
    ]


CASES = load()


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with own_node(lab_name, tmp_path_factory.mktemp("h2spec"), WORKLOADS, POLICY) as node:
        yield node


def seen(connection: socket.socket, data: bytes, expected: tuple[str, ...]) -> list[str]:
    """What comes back, in h2spec's words, up to what is expected or the answer to a PING behind the case's bytes."""
    connection.settimeout(5)
    back = b""
    try:
        connection.sendall(data if expected else data + PING)
        while not set(_words(back)) & set(expected or [SERVED]):
            piece = connection.recv(1 << 16)
            if not piece:
                return [*_words(back), CLOSED]
            back += piece
    except (ConnectionResetError, BrokenPipeError):
        return [*_words(back), CLOSED]
    except TimeoutError:
        return [*_words(back), "nothing more"]
    return _words(back)


def _words(data: bytes) -> list[str]:
    words = [CLOSED] if data.startswith(HTTP1_ANSWER) else [SERVED] if PONG in data else []
    at = 0
    while len(data) - at >= 9:
        length, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
        stream, payload = int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : at + 9 + length]
        if kind == 0:
            words.append(f"DATA Frame (length:{length}, flags:0x{flags:02x}, stream_id:{stream})")
        elif kind in (3, 7) and len(payload) == length:
            code = int.from_bytes(payload[:4] if kind == 3 else payload[4:8], "big")
            name = ERRORS[code] if code < len(ERRORS) else str(code)
            words.append(f"{'RST_STREAM' if kind == 3 else 'GOAWAY'} Frame (Error Code: {name})")
        at += 9 + length
    return words


def test_the_cases_are_there() -> None:
    need(FILE)
    assert len(CASES) >= 89


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_of_h2spec(node: Node, case: Case) -> None:
    for number, data in enumerate(case.connections):
        # The others are h2spec's own look at the server.
        expected = () if number else case.expected
        with node.connection(80) as connection:
            words = seen(connection, data, expected) if data else [SERVED]
        assert set(words) & set(expected or [SERVED]), f"{case.says}: {words}"
