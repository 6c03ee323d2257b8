"""DescribeTopicPartitions: requests and answers against kafka-python, and hostile ones."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any

import pytest

from parsers.errors import ParseError
from parsers.kafka.described import read_request, rewritten_request, spliced
from tests.parsers.kafka.oracle import Filler, assert_withstands, captured, encoded, messages

Request: Any = messages("request")[75]
Response: Any = messages("response")[75]
Topic: Any = Response.DescribeTopicPartitionsResponseTopic


def seen(name: str | None) -> bool:
    return name is None or "c" not in name


def refusal(name: str) -> Any:
    return Topic(version=0, error_code=29, name=name, topic_id=None, is_internal=False, partitions=[])


def answer_of(seed: int) -> Any:
    return Filler(random.Random(seed), many=5).message(Response, 0)


def test_what_is_spliced_is_what_the_oracle_says() -> None:
    changed = 0
    for seed in range(100):
        message = answer_of(seed)
        body = encoded(message)
        assert spliced(body, lambda _: True) is None
        left = [topic for topic in message.topics if seen(topic.name)]
        is_same = len(left) == len(message.topics)
        message.topics = left
        assert spliced(body, seen) == (None if is_same else encoded(message))
        message.topics = [*left, refusal("no"), refusal("nø")]
        assert spliced(body, seen, ["no", "nø"]) == encoded(message)
        changed += not is_same
    assert changed > 20


def test_a_refusal_is_what_a_genuine_server_writes() -> None:
    """As in `genuine-acl-replies.txt`."""
    empty = Response(version=0, throttle_time_ms=0, topics=[], next_cursor=None)
    changed = spliced(encoded(empty), seen, ["secret"])
    assert changed is not None
    (topic,) = Response.decode(changed, version=0).topics
    assert (topic.error_code, topic.name, topic.topic_id, topic.is_internal) == (29, "secret", None, False)
    assert (topic.partitions, topic.topic_authorized_operations) == ([], -2147483648)


def test_requests() -> None:
    rng = random.Random(1)
    for _ in range(100):
        message = Filler(rng).message(Request, 0)
        names = [rng.choice(("a", "b", "c", "ü")) for _ in range(rng.randrange(6))]
        message.topics = [Request.TopicRequest(version=0, name=name) for name in names]
        read = read_request(encoded(message))
        assert read.names == names
        assert read.everything == (not names)
        assert read.cursor == (message.cursor.topic_name if message.cursor else None)
        message.topics = [topic for topic in message.topics if topic.name in ("a", "ü")]
        if message.topics:
            assert rewritten_request(read, ["a", "ü"]) == encoded(message)
        else:
            with pytest.raises(ValueError, match="one for all"):
                rewritten_request(read, ["a", "ü"])


def test_real_answers() -> None:
    for _, request, body in captured(75):
        assert spliced(body, lambda _: True) is None
        read = read_request(request)
        assert read.everything or rewritten_request(read, read.names) == request


def test_hostile_bytes() -> None:
    rng = random.Random(2)
    for seed in range(20):
        body = encoded(answer_of(seed))
        if len(body) < 1500:
            assert_withstands(lambda body: spliced(body, seen, ["x"]), body, rng)

    def request(body: bytes) -> None:
        read = read_request(body)
        if "a" in read.names:
            rewritten_request(read, ["a"])

    for seed in range(5):
        topics = [Request.TopicRequest(version=0, name=name) for name in "abc"]
        assert_withstands(request, encoded(Filler(random.Random(seed)).message(Request, 0, topics=topics)), rng)


def test_huge_counts_fail_at_once() -> None:
    body = encoded(answer_of(3))
    for position in range(min(len(body), 200)):
        began = time.process_time()
        with contextlib.suppress(ParseError):
            spliced(body[:position] + b"\xff\xff\xff\xff\x0f" + body[position + 1 :], seen)
        assert time.process_time() - began < 0.3
