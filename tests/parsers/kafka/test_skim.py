"""Produce and Fetch as kafka-python writes them, skimmed whole and in pieces; and what is not in the one form."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pytest

from parsers.errors import ParseError
from parsers.kafka.codecs import build, encode_request_body
from parsers.kafka.skim import MAX_PARTITIONS, WITH_IDS, ProduceWalk, skim_fetch, skim_produce
from parsers.kafka.wire import varint

IDS = {"orders": bytes(range(16)), "stock": bytes(range(16, 32))}


def named(version: int, name: str, field: str) -> dict[str, Any]:
    return {"topic_id": uuid.UUID(bytes=IDS[name])} if version >= WITH_IDS else {field: name}


def produce(version: int, topics: dict[str, dict[int, bytes | None]], acks: int = -1) -> bytes:
    data = [
        {"partition_data": [{"index": i, "records": r} for i, r in partitions.items()], **named(version, name, "name")}
        for name, partitions in topics.items()
    ]
    return encode_request_body(build("request", 0, version, acks=acks, timeout_ms=1000, topic_data=data))


def fetch(version: int, topics: dict[str, list[int]], epoch: int = 0) -> bytes:
    data = [
        {"partitions": [{"partition": i, "fetch_offset": 5} for i in partitions], **named(version, name, "topic")}
        for name, partitions in topics.items()
    ]
    return encode_request_body(build("request", 1, version, max_wait_ms=500, session_epoch=epoch, topics=data))


def expected(version: int, topics: dict[str, Any]) -> list[tuple[str | bytes, list[int]]]:
    return [(IDS[name] if version >= WITH_IDS else name, list(parts)) for name, parts in topics.items()]


TOPICS: list[dict[str, dict[int, bytes | None]]] = [
    {},
    {"orders": {0: b"r" * 1000}},
    {"orders": {0: b"r" * 70000, 7: None, 9: b""}},
    {"orders": {1: b"a"}, "stock": {2: b"bb", 3: b"c" * 300}},
]


@pytest.mark.parametrize("version", range(3, 14))
@pytest.mark.parametrize("topics", TOPICS)
def test_produce(version: int, topics: dict[str, dict[int, bytes | None]]) -> None:
    body = produce(version, topics, acks=1)
    whole = skim_produce(version, b"head" + body, 4, 4 + len(body))
    assert (whole.acks, whole.topics) == (1, expected(version, topics))
    for seed in range(5):
        walk = ProduceWalk(version, len(body))
        position, dice = 0, random.Random(seed)
        while position < len(body):
            step = dice.choice((1, 2, 7, 100, 5000))
            walk.feed(memoryview(body)[position : position + step])
            position += step
        assert walk.is_done
        assert walk.is_single == (len(topics) == 1)
        assert (walk.produce.acks, walk.produce.topics) == (whole.acks, whole.topics)


@pytest.mark.parametrize("version", [3, 8, 9, 12, 13])
def test_the_first_topic_is_known_before_its_records(version: int) -> None:
    body = produce(version, {"orders": {0: b"r" * 1_000_000}})
    walk = ProduceWalk(version, len(body))
    walk.feed(body[:80])
    assert walk.is_single
    assert walk.produce.topics == [(expected(version, {"orders": ()})[0][0], [0])]


@pytest.mark.parametrize("version", range(4, 19))
def test_fetch(version: int) -> None:
    topics = {"orders": [0, 5, 9], "stock": [1]}
    body = fetch(version, topics, epoch=3)
    found = skim_fetch(version, body, 0, len(body))
    assert (found.max_wait_ms, found.topics) == (500, expected(version, topics))
    if version >= 7:
        assert (found.session_id, found.session_epoch) == (0, 3)
        assert body[found.session : found.session + 8] == bytes(7) + b"\3"


@pytest.mark.parametrize("version", [3, 9, 13])
def test_produce_that_is_cut_off_or_too_long(version: int) -> None:
    body = produce(version, {"orders": {1: b"a" * 10}, "stock": {2: b"bb"}})
    for cut in (*range(len(body)), None):
        wrong = body + b"\0" if cut is None else body[:cut]
        with pytest.raises(ParseError):
            skim_produce(version, wrong, 0, len(wrong))
        if wrong:
            with pytest.raises(ParseError):
                ProduceWalk(version, len(wrong)).feed(wrong)


@pytest.mark.parametrize("version", [4, 7, 12, 13, 18])
def test_fetch_that_is_cut_off_or_too_long(version: int) -> None:
    body = fetch(version, {"orders": [0, 1]})
    for cut in (*range(len(body)), None):
        wrong = body + b"\0" if cut is None else body[:cut]
        with pytest.raises(ParseError):
            skim_fetch(version, wrong, 0, len(wrong))


@pytest.mark.parametrize("version", [3, 13])
def test_changed_bytes_are_read_alike_whole_and_in_pieces(version: int) -> None:
    body = produce(version, {"orders": {1: b"a" * 10}, "stock": {2: b"bb"}})
    dice = random.Random(version)
    for _ in range(4000):
        wrong = bytearray(body)
        for _ in range(dice.randint(1, 3)):
            wrong[dice.randrange(len(wrong))] = dice.choice((0, 1, 2, 127, 128, 255, dice.randrange(256)))
        walk = ProduceWalk(version, len(wrong))
        try:
            whole = skim_produce(version, wrong, 0, len(wrong))
        except ParseError:
            with pytest.raises(ParseError):
                walk.feed(wrong)
        else:
            walk.feed(wrong)
            assert (walk.produce.acks, walk.produce.topics) == (whole.acks, whole.topics)


def test_a_request_of_very_many_partitions_is_refused() -> None:
    partition = bytes(8)
    count = MAX_PARTITIONS + 1
    body = b"\xff\xff" + b"\0\1" + bytes(4) + b"\0\0\0\1" + b"\0\1a" + count.to_bytes(4, "big") + partition * count
    for attempt in (lambda: skim_produce(3, body, 0, len(body)), lambda: ProduceWalk(3, len(body)).feed(body)):
        with pytest.raises(ParseError) as caught:
            attempt()
        assert caught.value.limit == "partitions"


@pytest.mark.parametrize("raw", [b"\x80\x80\x80\x80\x80\1", b"\x80\0", b"\xff\xff\xff\xff\x7f"])
def test_a_varint_has_one_form(raw: bytes) -> None:
    body = raw + bytes(20)
    with pytest.raises(ParseError):
        skim_produce(9, body, 0, len(body))
    with pytest.raises(ParseError):
        ProduceWalk(9, len(body)).feed(body)


def test_varints_are_written_short() -> None:
    assert [varint(value) for value in (0, 127, 128, 300)] == [b"\0", b"\x7f", b"\x80\1", b"\xac\2"]
