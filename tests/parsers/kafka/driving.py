"""Drives a `KafkaFilter`: what client and server send, what each of them gets, and what was held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from config.policy.kafka import KafkaMatcher
from config.policy.kafka_apis import CONSUME, PRODUCE
from config.policy.resolved import KafkaRule
from parsers.facts import KafkaRequest
from parsers.filters import Way
from parsers.kafka.codecs import (
    build,
    decode_response,
    encode_request_body,
    encode_response,
    is_flexible,
    response_class,
)
from parsers.kafka.filter import KafkaFilter
from parsers.kafka.judging import KafkaExchange, KafkaRuling
from parsers.kafka.requests import KafkaShared
from parsers.limits import KafkaLimits
from tests.parsers.past import pieces

SERVER = ("10.0.0.1", 9092)
MS = 1_000_000


def produce(topic: str = "") -> KafkaRule:
    return KafkaRule(PRODUCE, topic=topic, role="produce")


def consume(topic: str = "") -> KafkaRule:
    return KafkaRule(CONSUME, topic=topic, role="consume")


class Judge:
    """The rules of the policy language, without identities."""

    def __init__(self, rules: Sequence[KafkaRule]) -> None:
        self._matcher = KafkaMatcher([(rule, number) for number, rule in enumerate(rules, 1)])

    def rule_kafka(self, request: KafkaRequest) -> KafkaRuling:
        origin = self._matcher.judge(request)
        return KafkaRuling(origin is not None, origin)

    def refuse_kafka(self, request: KafkaRequest, reason: str) -> KafkaRuling:
        return KafkaRuling(False, reason)


class Wire:
    """One connection through a filter. Time stands still unless `pass_time` is called."""

    def __init__(self, *rules: KafkaRule, limits: KafkaLimits | None = None, cap: bool = False) -> None:
        self.shared = KafkaShared(limits or KafkaLimits(), cap=cap)
        self.now = 1_000 * MS
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.client_is_held = self.server_is_held = False
        self.wakes: list[int] = []
        self.filter = KafkaFilter(Judge(rules), self.shared, SERVER, self, self)

    # -- Valve

    def hold_client(self) -> None:
        self.client_is_held = True

    def release_client(self) -> None:
        assert self.client_is_held
        self.client_is_held = False

    def hold_server(self) -> None:
        self.server_is_held = True

    def release_server(self) -> None:
        self.server_is_held = False

    def send_to_server(self, data: bytes) -> None:
        self.to_server += data

    def wake_at(self, when: int) -> None:
        self.wakes.append(when)

    # -- both ends

    def client_past(self, data: bytes) -> None:
        """As `client`, but what needs not be seen goes by."""
        for piece, has_gone_by in pieces(self.filter, Way.FROM_CLIENT, data):
            if has_gone_by:
                self.to_server += piece
            else:
                self.client(piece)

    def server_past(self, data: bytes) -> None:
        for piece, has_gone_by in pieces(self.filter, Way.FROM_SERVER, data):
            if has_gone_by:
                self.to_client += piece
            else:
                self.server(piece)

    def client(self, *frames: bytes, step: int = 0) -> None:
        data = b"".join(frames)
        for at in range(0, len(data), step or len(data) or 1):
            self.to_server += self.filter.client_data(data[at : at + step] if step else data, self.now)
            self._collect()

    def server(self, *frames: bytes, step: int = 0) -> None:
        data = b"".join(frames)
        for at in range(0, len(data), step or len(data) or 1):
            self.to_client += self.filter.server_data(data[at : at + step] if step else data, self.now)
            self._collect()

    def pass_time(self, ms: int) -> None:
        self.now += ms * MS
        due = [when for when in self.wakes if when <= self.now]
        self.wakes = [when for when in self.wakes if when > self.now]
        for _ in due:
            self.filter.wake(self.now)
            self._collect()

    def _collect(self) -> None:
        self.to_client += self.filter.answer
        self.filter.answer = b""

    def sent(self) -> list[bytes]:
        """Frames that the server has got since the last call."""
        frames, self.to_server = split(bytes(self.to_server)), bytearray()
        return frames

    def got(self) -> list[bytes]:
        """Frames that the client has got since the last call."""
        frames, self.to_client = split(bytes(self.to_client)), bytearray()
        return frames

    def told(self) -> list[KafkaExchange]:
        done = list(self.shared.exchanges)
        self.shared.exchanges.clear()
        return done


def split(data: bytes) -> list[bytes]:
    """Whole frames, with their sizes."""
    frames = []
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        assert len(data) >= size, "a frame is cut off"
        frames.append(data[:size])
        data = data[size:]
    return frames


def request(key: int, version: int, number: int = 1, client: str = "me", **fields: Any) -> bytes:
    """A whole frame. Fields are those of kafka-python's class."""
    message = build("request", key, version, **fields)
    return frame(key, version, number, client, encode_request_body(message))


def frame(key: int, version: int, number: int, client: str, body: bytes) -> bytes:
    head = key.to_bytes(2, "big") + version.to_bytes(2, "big") + number.to_bytes(4, "big")
    head += len(client).to_bytes(2, "big") + client.encode()
    if is_flexible(key, version):
        head += b"\0"
    return (len(head) + len(body)).to_bytes(4, "big") + head + body


def response(key: int, version: int, number: int = 1, **fields: Any) -> bytes:
    return encode_response(build("response", key, version, **fields), number)


def decoded(key: int, version: int, raw: bytes) -> Any:
    """The message of an answer's frame."""
    flexible = key != 18 and response_class(key).flexible_version_q(version)
    return decode_response(key, version, raw[9 if flexible else 8 :])


def number_of(raw: bytes) -> int:
    return int.from_bytes(raw[4:8], "big")
