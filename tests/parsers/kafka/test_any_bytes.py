"""Whatever clients and servers send: nothing that names a forbidden topic reaches the server, answers come in the order
of the requests, and all that is held is let go.

`KAFKA_ANY_BYTES=1000000` runs as many conversations as it says.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from config.policy.resolved import KafkaRule
from parsers.filters import End
from parsers.kafka.apis import APIS
from parsers.kafka.codecs import build, decode_response, encode_request_body, encode_response, is_flexible
from parsers.limits import KafkaLimits
from tests.parsers.kafka.captures import exchanges, requests
from tests.parsers.kafka.driving import Wire, consume, frame, number_of, produce
from tests.parsers.kafka.oracle import Filler, messages, mutations_of
from tests.parsers.kafka.strict import ASSIGNED, METADATA, PRODUCE, Understood, cut, understood

COUNT = int(os.environ.get("KAFKA_ANY_BYTES", "20000"))
CHUNKS = 10
"""Tests among which they are dealt out, each with a seed of its own."""

ALLOWED = "t1"
HIDDEN = "hidden-topic"
"""No client asks for it, and the server tells of it when it is asked for all topics."""

API_VERSIONS, DESCRIBE_QUORUM = 18, 55
RULES: tuple[tuple[KafkaRule, ...], ...] = (
    (produce(ALLOWED), consume(ALLOWED)),
    (KafkaRule(None, topic=ALLOWED),),
)
TIGHT = KafkaLimits(
    request_bytes=4000,
    buffered_bytes=2000,
    small_request_bytes=600,
    held_bytes=3000,
    pending_requests=2,
    waiting_answer_bytes=200,
    streamed_bytes=64,
    topic_ids=3,
    session_topics=3,
)
INNER = (b"t1", b"secret", b"t2", b"\x03t1", b"\x07secret", b"\0\x02t1", b"\0\x06secret", b"\0\0\0\1", b"\x02", b"\0")


# -- what there is to say ----------------------------------------------------------------------------------------------


@cache
def topic_ids() -> dict[bytes, str]:
    """As the captured servers have told."""
    found = {UUID(int=13).bytes: HIDDEN}
    for item in exchanges():
        if item.key == METADATA and item.version >= 10 and item.answer:
            for topic in decode_response(METADATA, item.version, item.answer).topics:
                if topic.name is not None and topic.topic_id is not None:
                    found[topic.topic_id.bytes] = topic.name
    return found


@cache
def asked() -> tuple[tuple[int, int, bytes], ...]:
    """Requests to begin with, the captured ones and one of each kind and version: (key, version, body)."""
    real = [(item.key, item.version, item.body) for item in requests()]
    rng, made = random.Random(4), []
    known = [UUID(bytes=topic) for topic in topic_ids()]
    for api in APIS.values():
        for version in range(api.lowest, api.highest + 1):
            message = _Named(rng, known).message(classes(api.key), version)
            made.append((api.key, version, encode_request_body(message)))
    return (*real, *real, *made)


def classes(key: int) -> Any:
    from parsers.kafka.codecs import request_class

    return messages("request").get(key) or request_class(key)


class _Named(Filler):
    """Topics have names and ids that there are."""

    def __init__(self, rng: random.Random, known: Sequence[UUID]) -> None:
        super().__init__(rng, many=2)
        self.known = known

    def _simple(self, field: Any, name: str) -> Any:
        if field.type_str == "string":
            return self.rng.choice((ALLOWED, ALLOWED, "secret"))
        if field.type_str == "uuid" and self.rng.random() < 0.8:
            return self.rng.choice(self.known)
        return super()._simple(field, name)


@cache
def answers() -> dict[tuple[int, int], tuple[bytes, ...]]:
    found: dict[tuple[int, int], list[bytes]] = {}
    for item in exchanges():
        if item.answer is not None and len(item.answer) < 2000 and item.key != METADATA:
            found.setdefault((item.key, item.version), []).append(item.answer)
    return {kind: tuple(dict.fromkeys(bodies)) for kind, bodies in found.items()}


def answer_of(request: Understood, rng: random.Random) -> bytes:
    if request.key == METADATA:
        body = metadata_answer(request.version, request.names, request.ids, request.everything)
    else:
        bodies = answers().get((request.key, request.version))
        body = rng.choice(bodies) if bodies else usual_answer(request.key, request.version)
    has_tags = request.key != API_VERSIONS and is_flexible(request.key, request.version)
    head = request.number.to_bytes(4, "big", signed=True) + (b"\0" if has_tags else b"")
    return (len(head) + len(body)).to_bytes(4, "big") + head + body


@cache
def usual_answer(key: int, version: int) -> bytes:
    has_tags = key != API_VERSIONS and is_flexible(key, version)
    return encode_response(build("response", key, version), 0)[9 if has_tags else 8 :]


@cache
def metadata_answer(version: int, names: frozenset[str], ids: frozenset[bytes], everything: bool) -> bytes:
    by_name = {name: topic for topic, name in topic_ids().items()}
    told: list[dict[str, Any]] = [_told(version, name, by_name.get(name)) for name in sorted(names)]
    told += [_told(version, topic_ids().get(topic), topic) for topic in sorted(ids)]
    if everything:
        told = [_told(version, name, by_name[name]) for name in (ALLOWED, "secret", HIDDEN)]
    frame = encode_response(build("response", METADATA, version, brokers=[], topics=told), 0)
    return frame[9 if version >= 9 else 8 :]


def _told(version: int, name: str | None, topic: bytes | None) -> dict[str, Any]:
    more = {"topic_id": UUID(bytes=topic)} if topic and version >= 10 else {}
    known = name is not None and topic is not None
    return {"error_code": 0 if known else 100 if name is None else 3, "name": name or "", "partitions": [], **more}


# -- and what becomes of it --------------------------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    """In a few places; mostly with the size that it then has."""
    kind = rng.random()
    if kind < 0.2:
        old, new = rng.choice(INNER), rng.choice(INNER)
        changed = data.replace(old, new, rng.randrange(1, 3))
    elif kind < 0.3:
        at = rng.randrange(4, len(data))
        changed = data[:at] + rng.choice(INNER) + data[at:]
    else:
        start = 4 if kind < 0.4 else min(14, len(data) - 1)
        changed = data[:start] + next(mutations_of(data[start:], rng, 1))
    if rng.random() < 0.9 and len(changed) > 4:
        changed = (len(changed) - 4).to_bytes(4, "big") + changed[4:]
    return changed


def pieces(data: bytes, rng: random.Random) -> Iterator[bytes]:
    kind = rng.random()
    if kind < 0.04 and len(data) < 1500:
        places = list(range(1, len(data)))
    else:
        places = sorted(rng.randrange(len(data) + 1) for _ in range(0 if kind < 0.5 else rng.randrange(1, 6)))
    for start, stop in zip([0, *places], [*places, len(data)], strict=True):
        if start < stop:
            yield data[start:stop]


class Conversation:
    """One connection. `is_honest`: the server answers what it is asked. At times, what needs not be seen goes by."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.is_honest = rng.random() < 0.75
        self.wire = Wire(*rng.choice(RULES), limits=TIGHT if rng.random() < 0.2 else None, cap=rng.random() < 0.1)
        goes_by = rng.random() < 0.3
        self.say = self.wire.client_past if goes_by else self.wire.client
        self.reply = self.wire.server_past if goes_by else self.wire.server
        self.sent = b""
        self.seen: list[Understood] = []
        self._read = 0
        self._learned = False

    def run(self) -> None:
        rng, wire = self.rng, self.wire
        first, count = rng.randrange(len(asked())), rng.randrange(1, 5)
        frames = []
        for number in range(1, count + 1):
            key, version, body = asked()[(first + number) % len(asked())] if rng.random() < 0.7 else rng.choice(asked())
            made = frame(key, version, number, rng.choice(("me", "")), body)
            frames.append(mutated(made, rng) if rng.random() < (0.6 if self.is_honest else 0.1) else made)
        self.sent = b"".join(frames)
        for piece in pieces(self.sent, rng):
            self.say(piece)
            if rng.random() < 0.7:
                self.serve()
            if wire.filter.end is not None:
                break
        for _ in range(8):
            before = len(self.seen), len(wire.to_client)
            self.serve()
            wire.pass_time(600)
            if before == (len(self.seen), len(wire.to_client)):
                break
        self.check()
        self.finish()

    def serve(self) -> None:
        """What has reached the server is looked at, and answered."""
        new = cut(bytes(self.wire.to_server[self._read :]))
        for raw in new.frames:
            self._read += len(raw)
            request = understood(raw)
            self.seen.append(request)
            self.check_topics(request)
            if request.key == PRODUCE and request.acks == 0:
                continue
            self.answer(answer_of(request, self.rng))

    def answer(self, raw: bytes) -> None:
        rng = self.rng
        if self.is_honest:
            for piece in pieces(raw, rng):
                self.reply(piece)
            return
        kind = rng.random()
        if kind < 0.5:
            raw = mutated(raw, rng)
        elif kind < 0.6:
            raw += raw
        elif kind < 0.7:
            raw = raw[: rng.randrange(len(raw))]
        elif kind < 0.75:
            raw = rng.choice((b"\x7f\xff\xff\xff", b"\x40\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\3")) + raw[4:]
        elif kind < 0.8:
            raw = rng.randbytes(rng.randrange(40)) + raw
        for piece in pieces(raw, rng):
            self.reply(piece)

    # -- what must hold

    def check_topics(self, request: Understood) -> None:
        if request.key != DESCRIBE_QUORUM:  # its topic is that in which servers keep what they know of themselves
            assert request.names <= {ALLOWED}, request
        # Metadata of ids is asked by the filter itself, and what is answered to clients is filtered.
        if self.is_honest and request.key != METADATA and request.key not in ASSIGNED:
            assert {topic_ids().get(topic) for topic in request.ids} <= {ALLOWED}, request

    def check(self) -> None:
        wire, filter_ = self.wire, self.wire.filter
        assert filter_.end in (None, End.ABORT)
        assert bool(filter_.failure) == (filter_.end is End.ABORT)
        got = cut(bytes(wire.to_client))
        numbers = [number_of(raw) for raw in got.frames]
        asked_for = [int.from_bytes(raw[8:12], "big") for raw in cut(self.sent).frames]
        left = iter(asked_for)
        assert all(number in left for number in numbers), f"{numbers} are answers to {asked_for}"
        if self.is_honest:
            assert not got.rest or filter_.end is not None, "an answer is cut off"
            assert HIDDEN.encode() not in wire.to_client
        if filter_.end is None and self.is_honest:
            self.check_all_is_answered(asked_for, numbers)

    def check_all_is_answered(self, asked_for: list[int], numbers: list[int]) -> None:
        stream = cut(self.sent)
        silent = [n for n, raw in zip(asked_for, stream.frames, strict=True) if raw[4:6] == b"\0\0"]
        answered = list(numbers)
        for number in asked_for:
            if answered and answered[0] == number:
                answered.pop(0)
            else:
                assert number in silent, f"{number} of {asked_for} is not answered: {numbers}"
        if not stream.rest:  # of Produce, the beginning may have gone on already
            assert self.wire.filter.is_idle

    def finish(self) -> None:
        wire = self.wire
        wire.filter.finish(wire.now)
        assert wire.shared.held_bytes == 0
        produced = bytes(wire.to_server[self._read :])
        assert not cut(produced).frames or self.wire.filter.end is not None
        for told in wire.told():
            if told.ruling.permit and told.request.api_key != DESCRIBE_QUORUM:
                assert set(told.request.topics or ()) <= {ALLOWED}


def resident() -> int:
    """KiB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_conversations(chunk: int) -> None:
    begun, before, ended = time.monotonic(), 0, 0
    for number in range(COUNT // CHUNKS):
        if number == min(2000, COUNT // CHUNKS // 2):
            before = resident()
        seed = chunk * COUNT + number
        conversation = Conversation(random.Random(seed))
        try:
            conversation.run()
        except Exception as error:
            error.add_note(f"seed {seed}: {conversation.sent.hex()}")
            raise
        ended += conversation.wire.filter.end is not None
    after = resident()
    print(f"{COUNT // CHUNKS} in {time.monotonic() - begun:.1f} s, {before} to {after} KiB, {ended} ended")
    assert after < before + 50_000, "memory grows"
    assert 0.05 < ended * CHUNKS / COUNT < 0.9


def test_an_answer_that_comes_before_the_clock_is_looked_at() -> None:
    """A refusal is due, the timer has not rung yet, and the server answers the request behind it."""
    wire = Wire(consume(ALLOWED))
    topics = [{"topic": "secret", "partitions": [{"partition": 0}]}]
    heartbeat = encode_request_body(build("request", 12, 4, group_id="g", generation_id=1, member_id="m"))
    fetch = encode_request_body(build("request", 1, 11, max_wait_ms=300, topics=topics))
    wire.client(frame(1, 11, 1, "me", fetch), frame(12, 4, 2, "me", heartbeat))
    wire.now += 301_000_000
    wire.server(encode_response(build("response", 12, 4), 2))
    assert wire.filter.end is None, wire.filter.failure
    assert [number_of(raw) for raw in wire.got()] == [1, 2]
