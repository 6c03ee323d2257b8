"""What we encode, read by Apache Kafka's own codec: every request's default form, and the refusals of all requests."""

from __future__ import annotations

import importlib
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.policy.kafka_apis import ALWAYS
from parsers.kafka.apis import APIS
from parsers.kafka.codecs import build, decode_request, encode_request_body, is_flexible
from parsers.kafka.skim import FETCH, PRODUCE, skim_fetch, skim_produce
from tests.acceptance.kafka.broker import LIBS, java
from tests.acceptance.kafka.sides import compiled, with_classes
from tests.parsers.kafka.oracle import CAPTURES

pytestmark = pytest.mark.acceptance

CORRELATION = 0x01020304
CLIENT = b"client"


@dataclass(frozen=True, slots=True)
class Frame:
    """`kind`: request or response. `data`: without its length."""

    kind: str
    key: int
    version: int
    data: bytes
    what: str = ""

    def line(self) -> str:
        return f"{self.kind} {self.key} {self.version} {self.data.hex()}\n"

    def __str__(self) -> str:
        return f"{self.what} {APIS[self.key].name} {self.version} ({self.data[:60].hex()})"


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not LIBS.is_dir():
        pytest.fail("Apache Kafka is not there: `make acceptance` installs it")
    return compiled(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module")
def refusals() -> Any:
    return importlib.import_module("parsers.kafka.refusals")


def judged(classes: Path, frames: Sequence[Frame]) -> list[str]:
    """What Apache's codec objects to."""
    lines = "".join(frame.line() for frame in frames)
    done = subprocess.run(with_classes(java("Codec"), classes), input=lines, capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()
    assert len(told) == len(frames), done.stderr
    return [f"{frame}: {said}" for frame, said in zip(frames, told, strict=True) if said != f"ok {CORRELATION}"]


def every_version() -> Iterator[tuple[int, int]]:
    for api in APIS.values():
        for version in range(api.lowest, api.highest + 1):
            yield api.key, version


def request_frame(key: int, version: int, body: bytes) -> Frame:
    head = struct.pack(">hhih", key, version, CORRELATION, len(CLIENT)) + CLIENT
    return Frame("request", key, version, head + bytes(is_flexible(key, version)) + body, "default")


def refusal(refusals: Any, key: int, version: int, body: bytes, what: str) -> Frame:
    answer = refused(refusals, key, version, body)
    (size,) = struct.unpack_from(">i", answer)
    assert size == len(answer) - 4
    return Frame("response", key, version, answer[4:], what)


def refused(refusals: Any, key: int, version: int, body: bytes) -> bytes:
    """With its length. Some have ways of their own."""
    if key == PRODUCE:
        topics = skim_produce(version, body, 0, len(body)).topics
        return bytes(refusals.refuse_produce(version, CORRELATION, topics))
    if key == FETCH:
        topics = skim_fetch(version, body, 0, len(body)).topics
        return bytes(refusals.refuse_fetch(version, CORRELATION, topics))
    answer, error = refusals.refuse(key, version, CORRELATION, decode_request(key, version, body))
    assert error, f"{APIS[key].name} {version} is refused without an error"
    return bytes(answer)


def refusable() -> Iterator[tuple[int, int, bytes]]:
    """All but what is part of every connection."""
    return ((key, version, body) for key, version, body in defaults() if key not in ALWAYS)


def defaults() -> Iterator[tuple[int, int, bytes]]:
    for key, version in every_version():
        yield key, version, encode_request_body(build("request", key, version))


def test_all_that_brokers_listen_for_can_be_read(classes: Path) -> None:
    said = subprocess.check_output(with_classes(java("Codec", "table"), classes), text=True).splitlines()
    theirs = {int(key): (name, int(lowest), int(highest)) for key, name, lowest, highest in map(str.split, said)}
    without_frames = {17: ("SaslHandshake", 1, 1)}
    assert {api.key: (api.name, api.lowest, api.highest) for api in APIS.values()} == theirs | without_frames


def test_requests_as_we_encode_them(classes: Path) -> None:
    frames = [request_frame(key, version, body) for key, version, body in defaults()]
    assert len(frames) > 200
    assert judged(classes, frames) == []


def test_refusals_of_every_request_in_every_version(classes: Path, refusals: Any) -> None:
    frames = [refusal(refusals, key, version, body, "default") for key, version, body in refusable()]
    assert len(frames) > 200
    assert judged(classes, frames) == []


def test_refusals_of_captured_requests(classes: Path, refusals: Any) -> None:
    frames = [refusal(refusals, key, version, body, "captured") for key, version, body in captured_requests()]
    assert len(frames) > 500
    assert judged(classes, frames) == []


def captured_requests() -> Iterator[tuple[int, int, bytes]]:
    """(key, version, body) of what real clients sent."""
    for path in sorted(CAPTURES.glob("*.bin")):
        for frame in sent(path.read_bytes()):
            key, version, _, client = struct.unpack_from(">hhih", frame)
            if key not in ALWAYS and APIS[key].lowest <= version <= APIS[key].highest:
                yield key, version, frame[10 + max(0, client) + is_flexible(key, version) :]


def sent(capture: bytes) -> Iterator[bytes]:
    """The frames from clients."""
    position = 0
    while position < len(capture):
        direction, _, size = struct.unpack_from(">BII", capture, position)
        if direction == 0:
            yield capture[position + 9 : position + 9 + size]
        position += 9 + size


def test_the_answer_to_versions_that_nobody_knows(classes: Path, refusals: Any) -> None:
    answer = bytes(refusals.unsupported_api_versions(CORRELATION))
    assert judged(classes, [Frame("response", 18, 0, answer[4:])]) == []


def test_the_codec_objects_to_what_is_wrong(classes: Path) -> None:
    """Else the tests above would show nothing."""
    good = request_frame(3, 9, encode_request_body(build("request", 3, 9)))
    wrong = [Frame("request", 3, 9, good.data + b"\0"), Frame("request", 3, 9, good.data[:-1])]
    assert [len(judged(classes, [frame])) for frame in (good, *wrong)] == [0, 1, 1]
