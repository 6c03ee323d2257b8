"""kafka-python as the oracle: messages with random content; and what real clients and servers have said."""

from __future__ import annotations

import importlib
import random
import struct
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from parsers.errors import ParseError

CAPTURES = Path(__file__).resolve().parents[4] / "shared" / "reference" / "kafka-captures"
MODULES = ("metadata", "consumer", "producer", "admin", "sasl")

NUMBERS = {"int8": 7, "int16": 15, "uint16": 15, "int32": 31, "int64": 63}
NAMES = ("a", "topic-1", "Ünïcode.tøpic", "x" * 200, "secret", "")


@cache
def messages(kind: str) -> dict[int, Any]:
    """kafka-python's classes of all requests or responses, by key."""
    found: dict[int, Any] = {}
    for name in MODULES:
        module: ModuleType = importlib.import_module(f"kafka.protocol.{name}")
        for member in vars(module).values():
            if isinstance(member, type) and getattr(member, "type", None) == kind and hasattr(member, "API_KEY"):
                found[member.API_KEY] = member
    assert len(found) >= 50, "most of Apache's messages are there"
    return found


def versions(message: Any) -> range:
    lowest, highest = message.valid_versions
    return range(lowest, highest + 1)


class Filler:
    """Fills messages with random content. `errors`: how often an error code is not 0."""

    def __init__(self, rng: random.Random, errors: float = 0.2, many: int = 3) -> None:
        self.rng = rng
        self.errors = errors
        self.many = many

    def message(self, cls: Any, version: int, **given: Any) -> Any:
        values: dict[str, Any] = {}
        for field in cls._struct.fields.values():
            if field.name in given or not field.for_version_q(version):
                continue
            if field.tagged_field_q(version) and self.rng.random() < 0.5:
                continue
            values[field.name] = self.value(field, version)
        return cls(version=version, **values, **given)

    def value(self, field: Any, version: int) -> Any:
        rng = self.rng
        if field.nullable_for_version_q(version) and rng.random() < 0.3:
            return None
        if field.is_struct_array():
            return [self._struct(field, version) for _ in range(rng.randrange(self.many))]
        if field.is_struct():
            return self._struct(field, version)
        if field.is_array():
            return [self._simple(field.array_of, "") for _ in range(rng.randrange(self.many * 2))]
        return self._simple(field, field.name)

    def _struct(self, field: Any, version: int) -> Any:
        return self.message(field.data_class, version)

    def _simple(self, field: Any, name: str) -> Any:
        rng, kind = self.rng, field.type_str
        if name.endswith("error_code"):
            return rng.randrange(-1, 134) if rng.random() < self.errors else 0
        if kind in NUMBERS:
            return rng.getrandbits(NUMBERS[kind])
        if kind == "bitfield":
            return set(rng.sample(range(30), 3))
        if kind == "bool":
            return rng.random() < 0.5
        if kind == "uuid":
            return uuid.UUID(int=rng.getrandbits(128))
        if kind == "float64":
            return rng.random()
        if kind in ("bytes", "records"):
            return rng.randbytes(rng.randrange(300))
        assert kind == "string", kind
        return rng.choice(NAMES)


def encoded(message: Any) -> bytes:
    return bytes(message.encode())


def captured(key: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(version, request, answer) of what was captured with real clients: bodies, without headers."""
    if not CAPTURES.is_dir():
        pytest.fail(f"{CAPTURES} is missing: these tests need the captured frames")
    for path in sorted(CAPTURES.glob("*.bin")):
        yield from _exchanges(path.read_bytes(), key)


def _exchanges(data: bytes, wanted: int) -> Iterator[tuple[int, bytes, bytes]]:
    waiting: dict[tuple[int, int], tuple[int, int, bytes]] = {}
    position = 0
    while position < len(data):
        direction, connection, size = struct.unpack_from(">BII", data, position)
        frame = data[position + 9 : position + 9 + size]
        position += 9 + size
        if direction == 0:
            key, version, correlation = struct.unpack_from(">hhi", frame)
            client = struct.unpack_from(">h", frame, 8)[0]
            body = frame[10 + max(0, client) :]
            waiting[connection, correlation] = (key, version, body)
            continue
        (correlation,) = struct.unpack_from(">i", frame)
        request = waiting.pop((connection, correlation), None)
        if request is None or request[0] != wanted:
            continue
        key, version, body = request
        flexible = messages("request")[key].flexible_version_q(version)
        tags = 1 if flexible else 0
        assert body[:tags] == bytes(tags)
        answer = frame[4:] if key == 18 else frame[4 + tags :]
        yield version, body[tags:], answer


def assert_withstands(reader: Callable[[bytes], object], body: bytes, rng: random.Random, mutations: int = 200) -> None:
    """Whatever is done to `body`, `reader` returns or raises ParseError; of a message cut short, the latter."""
    for end in range(len(body)):
        with pytest.raises(ParseError):
            reader(body[:end])
    with pytest.raises(ParseError):
        reader(body + b"\0")
    for mutated in mutations_of(body, rng, mutations):
        try:
            reader(mutated)
        except ParseError:
            continue


def mutations_of(body: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    for _ in range(count):
        mutated = bytearray(body)
        for _ in range(rng.randrange(1, 4)):
            position = rng.randrange(len(mutated))
            match rng.randrange(4):
                case 0:
                    mutated[position] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 1:
                    mutated[position] = rng.randrange(256)
                case 2:
                    mutated[position : position + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
                case _:
                    del mutated[position : position + rng.randrange(1, 5)]
            if not mutated:
                break
        yield bytes(mutated)
