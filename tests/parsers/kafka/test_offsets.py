"""OffsetFetch: topics left out of the positions of a group, against kafka-python, real answers, and hostile ones."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any

import pytest

from parsers.errors import ParseError
from parsers.kafka.offsets import without_topics
from tests.parsers.kafka.oracle import Filler, assert_withstands, captured, encoded, messages

Response: Any = messages("response")[9]
VERSIONS = range(1, 11)


def seen(topic: str | bytes) -> bool:
    return topic[0] % 2 == 0 if isinstance(topic, bytes) else "c" not in topic


def answer_of(version: int, seed: int, many: int = 4) -> Any:
    return Filler(random.Random(f"{version} {seed}"), many=many).message(Response, version)


def filtered(version: int, message: Any) -> Any:
    if version < 8:
        message.topics = [topic for topic in message.topics if seen(topic.name)]
    for group in message.groups if version >= 8 else ():
        group.topics = [topic for topic in group.topics if seen(topic.topic_id.bytes if version >= 10 else topic.name)]
    return message


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_left_is_what_the_oracle_says(version: int) -> None:
    changed = 0
    for seed in range(60):
        message = answer_of(version, seed)
        body = encoded(message)
        assert without_topics(version, body, lambda _: True) == body
        expected = encoded(filtered(version, message))
        assert without_topics(version, body, seen) == expected
        changed += body != expected
    assert changed > 10


@pytest.mark.parametrize("version", VERSIONS)
def test_each_topic_is_asked_about_once(version: int) -> None:
    message = answer_of(version, 4, many=9)
    asked: list[str | bytes] = []

    def none(topic: str | bytes) -> bool:
        asked.append(topic)
        return False

    without_topics(version, encoded(message), none)
    topics = message.topics if version < 8 else [topic for group in message.groups for topic in group.topics]
    assert asked == [topic.topic_id.bytes if version >= 10 else topic.name for topic in topics]


def test_real_answers() -> None:
    count = 0
    for version, _, body in captured(9):
        assert without_topics(version, body, lambda _: True) == body
        message = Response.decode(without_topics(version, body, lambda _: False), version=version)
        assert not message.topics
        assert not any(group.topics for group in message.groups or ())
        count += 1
    assert count > 5


@pytest.mark.parametrize("version", VERSIONS)
def test_hostile_bytes(version: int) -> None:
    rng = random.Random(version)
    for seed in range(12):
        body = encoded(answer_of(version, seed))
        if len(body) < 1500:
            assert_withstands(lambda body: without_topics(version, body, seen), body, rng)


@pytest.mark.parametrize("version", VERSIONS)
def test_huge_counts_fail_at_once(version: int) -> None:
    body = encoded(answer_of(version, 7))
    for count in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f"):
        for position in range(min(len(body), 60)):
            began = time.process_time()
            with contextlib.suppress(ParseError):
                without_topics(version, body[:position] + count + body[position + 1 :], seen)
            assert time.process_time() - began < 0.3
