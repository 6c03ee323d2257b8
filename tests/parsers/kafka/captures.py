"""What real clients and servers have said to each other (`../shared/reference/kafka-captures`)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from parsers.kafka.codecs import is_flexible
from tests.parsers.kafka.oracle import CAPTURES

API_VERSIONS = 18
_RECORD = struct.Struct(">BII")
"""Direction (0: from the client), connection, length."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A request with its answer, both without headers; `answer` is None where there was none (acks=0)."""

    key: int
    version: int
    body: bytes
    answer: bytes | None = None

    def __str__(self) -> str:
        return f"request {self.key} version {self.version}: {self.body.hex()}"


@cache
def exchanges() -> tuple[Captured, ...]:
    """All of them, in the order of the requests. What came more than once is there more than once."""
    if not CAPTURES.is_dir():
        pytest.fail(f"{CAPTURES} is missing: these tests need the captured frames")
    found = [exchange for path in sorted(CAPTURES.glob("*.bin")) for exchange in _exchanges(path.read_bytes())]
    assert len(found) > 1000, "not all of the captured frames are there"
    return tuple(found)


@cache
def requests() -> tuple[Captured, ...]:
    """Each request once, without its answer."""
    return tuple(dict.fromkeys(Captured(item.key, item.version, item.body) for item in exchanges()))


def _exchanges(data: bytes) -> list[Captured]:
    found: list[Captured] = []
    waiting: dict[tuple[int, int], int] = {}
    position = 0
    while position < len(data):
        direction, connection, size = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        frame = data[position : position + size]
        position += size
        if direction == 0:
            correlation, request = _request(frame)
            waiting[connection, correlation] = len(found)
            found.append(request)
            continue
        (correlation,) = struct.unpack_from(">i", frame)
        index = waiting.pop((connection, correlation), None)
        if index is not None:
            found[index] = _answered(found[index], frame)
    return found


def _request(frame: bytes) -> tuple[int, Captured]:
    key, version, correlation, client = struct.unpack_from(">hhih", frame)
    end = 10 + max(0, client)
    if is_flexible(key, version):
        assert frame[end] == 0, "clients of today send no tagged fields in headers"
        end += 1
    return correlation, Captured(key, version, frame[end:])


def _answered(request: Captured, frame: bytes) -> Captured:
    has_tags = request.key != API_VERSIONS and is_flexible(request.key, request.version)
    return Captured(request.key, request.version, request.body, frame[5 if has_tags else 4 :])


@cache
def genuine_refusals() -> dict[str, Any]:
    """What a genuine broker with ACLs answered ("Produce v9"): about `t1`, which it allows, and `secret`, which not."""
    path = CAPTURES / "genuine-acl-replies.txt"
    if not path.is_file():
        pytest.fail(f"{path} is missing: these tests compare with what a genuine broker answers")
    found: dict[str, Any] = {}
    title = ""
    for line in path.read_text().splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
        elif line.strip() and not _is_cut(line):
            found[title] = json.loads(line)
    return found


def _is_cut(line: str) -> bool:
    return not line.rstrip().endswith("}")
