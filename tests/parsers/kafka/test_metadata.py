"""Metadata: requests and answers of all versions against kafka-python, real ones, and hostile ones."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from parsers.errors import ParseError
from parsers.kafka import metadata
from parsers.kafka.metadata import MetadataTopic, read_answer, read_request, rewritten_request, spliced
from parsers.kafka.topic_ids import NO_ID
from tests.parsers.kafka.oracle import Filler, assert_withstands, captured, encoded, messages

Request: Any = messages("request")[3]
Response: Any = messages("response")[3]
VERSIONS = range(14)
ID = uuid.UUID("41a8086b-242c-4a17-85c1-6be947569632")


def topic_of(version: int, name: str | None, error: int = 0, topic_id: uuid.UUID | None = None) -> Any:
    """An entry without partitions."""
    return Response.MetadataResponseTopic(
        version=version, error_code=error, name=name, topic_id=topic_id, is_internal=False, partitions=[]
    )


def answer_of(version: int, seed: int, many: int = 4) -> Any:
    filler = Filler(random.Random(f"{version} {seed}"), many=many)
    answer = filler.message(Response, version)
    answer.topics = [filler.message(Response.MetadataResponseTopic, version) for _ in range(filler.rng.randrange(6))]
    return answer


def seen(topic: MetadataTopic) -> bool:
    return topic.name is not None and "c" not in topic.name


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_read_and_spliced_is_what_the_oracle_says(version: int) -> None:
    for seed in range(25):
        compare(version, answer_of(version, seed))


def compare(version: int, message: Any) -> None:
    body = encoded(message)
    answer = read_answer(version, body)
    assert [(topic.name, topic.error) for topic in answer.topics] == [(t.name, t.error_code) for t in message.topics]
    ids = [t.topic_id.bytes if version >= 10 and t.topic_id else NO_ID for t in message.topics]
    assert [topic.id for topic in answer.topics] == ids
    assert spliced(answer, lambda _: True) is None

    refused = ["no", "tøpic"]
    left = [t for t in message.topics if t.name is not None and "c" not in t.name]
    message.topics = left + [topic_of(version, name, 29) for name in refused]
    assert spliced(answer, seen, refused) == encoded(message)
    message.topics = left
    changed = spliced(answer, seen)
    assert (body if changed is None else changed) == encoded(message)


@pytest.mark.parametrize("version", [12, 13])
def test_one_that_was_asked_for_by_its_id_is_refused_by_its_id(version: int) -> None:
    message = answer_of(version, 0)
    message.topics = [topic_of(version, "secret", topic_id=ID), topic_of(version, "fine", topic_id=uuid.UUID(int=5))]
    answer = read_answer(version, encoded(message))
    message.topics = [message.topics[1], topic_of(version, None, 29, ID)]
    assert spliced(answer, seen, by_id=frozenset((ID.bytes,))) == encoded(message)
    message.topics = message.topics[:1]
    assert spliced(answer, seen, by_id=frozenset((bytes(15) + b"\1", NO_ID))) == encoded(message)


def with_tags(body: bytes) -> bytes:
    """Tags behind certain partitions and topics; the oracle writes none that it does not know."""
    body = body.replace(b"\x11\x22\x33\x44\0", b"\x11\x22\x33\x44\1\x07\3tag")
    return body.replace(b"\x08\x88\x88\x88\0", b"\x08\x88\x88\x88\1\x08\3tag")


@pytest.mark.parametrize("version", VERSIONS)
def test_arrays_of_any_length_and_tags(version: int) -> None:
    """More replicas than a byte counts, and tags: what the quick walkers leave to the careful one."""
    message = answer_of(version, 1)
    partition = Response.MetadataResponseTopic.MetadataResponsePartition
    lengths = (0, 1, 126, 127, 128, 300)
    message.topics = []
    for number, length in enumerate(lengths):
        topic = topic_of(version, f"t{number}")
        nodes = list(range(length))
        topic.partitions = [
            partition(
                version=version,
                error_code=0,
                partition_index=0,
                leader_id=1,
                leader_epoch=1,
                replica_nodes=nodes if number % 2 else [1],
                isr_nodes=nodes,
                offline_replicas=nodes if number % 3 else [],
            )
            for _ in range(3)
        ]
        if version >= 9:
            topic.partitions[1].offline_replicas = [0x11223344]
            topic.authorized_operations = {3, 7, 11, 15, 19, 23, 27}
        message.topics.append(topic)
    body = with_tags(encoded(message))
    assert body.count(b"tag") == (2 * len(lengths) if version >= 9 else 0)
    answer = read_answer(version, body)
    assert len(answer.topics) == len(lengths)
    message.topics = message.topics[::2]
    assert spliced(answer, lambda topic: topic.name in ("t0", "t2", "t4")) == with_tags(encoded(message))


def left_out(it: MetadataTopic) -> Callable[[MetadataTopic], bool]:
    return lambda topic: topic is not it


def test_real_answers() -> None:
    count = 0
    for version, request, body in captured(3):
        message = Response.decode(body, version=version)
        answer = read_answer(version, body)
        assert [topic.name for topic in answer.topics] == [topic.name for topic in message.topics]
        assert spliced(answer, lambda _: True) is None
        if answer.topics:
            left = spliced(answer, left_out(answer.topics[0]))
            assert left is not None
            again = Response.decode(left, version=version)
            assert again.topics == message.topics[1:]
            assert again.brokers == message.brokers
        read = read_request(version, request)
        asked = Request.decode(request, version=version)
        assert read.names == [topic.name for topic in asked.topics or () if topic.name is not None]
        assert rewritten_request(version, read, read.names) == request or version == 0
        count += 1
    assert count > 100


@pytest.mark.parametrize("version", VERSIONS)
def test_requests(version: int) -> None:
    rng = random.Random(version)
    for _ in range(50):
        message = Filler(rng).message(Request, version)
        names = [rng.choice(("a", "b", "c", "ü")) for _ in range(rng.randrange(5))]
        message.topics = [Request.MetadataRequestTopic(version=version, name=name, topic_id=None) for name in names]
        by_id = []
        if version >= 12:
            by_id = [uuid.UUID(int=rng.getrandbits(128) | 1) for _ in range(rng.randrange(3))]
            message.topics += [Request.MetadataRequestTopic(version=version, name=None, topic_id=i) for i in by_id]
        read = read_request(version, encoded(message))
        assert read.names == names
        assert read.ids == [topic_id.bytes for topic_id in by_id]
        assert read.everything == (version == 0 and not names)
        assert read.allow_auto_topic_creation == (version < 4 or message.allow_auto_topic_creation)
        message.topics = [topic for topic in message.topics if topic.name in (None, "a", "ü")]
        if version == 0 and not message.topics:
            with pytest.raises(ValueError, match="one for all"):
                rewritten_request(version, read, {"a", "ü"})
        else:
            assert rewritten_request(version, read, {"a", "ü"}) == encoded(message)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_for_all(version: int) -> None:
    message = Filler(random.Random(3)).message(Request, version, topics=None if version else [])
    read = read_request(version, encoded(message))
    assert read.everything
    assert not read.names
    if version:
        assert rewritten_request(version, read, ()) == encoded(message)
        assert not read_request(
            version, encoded(Filler(random.Random(3)).message(Request, version, topics=[]))
        ).everything
    else:
        assert encoded(message) == metadata.EVERYTHING_V0


@pytest.mark.parametrize(
    ("version", "name", "topic_id"), [(10, None, ID), (11, "a", ID), (12, None, None), (11, None, None)]
)
def test_requests_that_no_server_takes(version: int, name: str | None, topic_id: uuid.UUID | None) -> None:
    topic = Request.MetadataRequestTopic(version=version, name=name, topic_id=topic_id)
    body = encoded(Filler(random.Random(3)).message(Request, version, topics=[topic]))
    with pytest.raises(ParseError):
        read_request(version, body)


def test_a_topic_with_both_goes_with_its_name() -> None:
    """A server goes by the id alone; what it then answers is filtered by name."""
    topic = Request.MetadataRequestTopic(version=12, name="a", topic_id=ID)
    read = read_request(12, encoded(Filler(random.Random(3)).message(Request, 12, topics=[topic])))
    assert (read.names, read.ids) == (["a"], [ID.bytes])
    assert read_request(12, rewritten_request(12, read, ())).ids == []


def test_the_question_for_ids() -> None:
    body = metadata.request_for_ids([ID.bytes, bytes(15) + b"\7"])
    message = Request.decode(body, version=12)
    assert [(topic.name, topic.topic_id) for topic in message.topics] == [(None, ID), (None, uuid.UUID(int=7))]
    assert not message.allow_auto_topic_creation
    assert not message.include_topic_authorized_operations
    assert encoded(message) == body
    assert not read_request(12, body).allow_auto_topic_creation


@pytest.mark.parametrize("version", VERSIONS)
def test_hostile_bytes(version: int) -> None:
    rng = random.Random(version)

    def answer(body: bytes) -> None:
        read = read_answer(version, body)
        if len(read.body) < len(body):
            raise ParseError("it has been cut to its own size")
        spliced(read, seen, ["x"])

    for seed in range(20):
        body = encoded(answer_of(version, seed, many=3))
        if len(body) < 1000:
            assert_withstands(answer, body, rng)
    message = Filler(rng).message(Request, version)
    message.topics = [Request.MetadataRequestTopic(version=version, name=name, topic_id=None) for name in "abc"]

    def request(body: bytes) -> None:
        read = read_request(version, body)
        if len(read.body) < len(body):
            raise ParseError("it has been cut to its own size")
        if version or "a" in read.names:
            rewritten_request(version, read, ["a"])

    assert_withstands(request, encoded(message), rng)


@pytest.mark.parametrize("version", [8, 12])
def test_the_quick_walkers_agree_with_the_careful_one(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(version)
    bodies = []
    for seed in range(20):
        body = encoded(answer_of(version, seed))
        for _ in range(100):
            mutated = bytearray(body)
            mutated[rng.randrange(len(mutated))] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
            bodies.append(bytes(mutated))

    def outcomes() -> list[object]:
        found: list[object] = []
        for body in bodies:
            try:
                found.append(read_answer(version, body))
            except ParseError:
                found.append(None)
        return found

    quick = outcomes()

    def uncommon(*_: object) -> int:
        raise IndexError

    monkeypatch.setattr(metadata._Topics, "_skip_compact_partitions", uncommon)
    monkeypatch.setattr(metadata._Topics, "_skip_plain_partitions", uncommon)
    assert outcomes() == quick
    assert sum(it is not None for it in quick) > 500


@pytest.mark.parametrize("version", VERSIONS)
def test_huge_counts_fail_at_once(version: int) -> None:
    message = answer_of(version, 2)
    message.topics = []
    body = encoded(message)
    for count in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f"):
        for position in range(len(body)):
            began = time.process_time()
            with contextlib.suppress(ParseError):
                read_answer(version, body[:position] + count + body[position + 1 :])
            assert time.process_time() - began < 0.3


@pytest.mark.parametrize("version", [9, 13])
def test_bytes_behind_a_request_are_left_out(version: int) -> None:
    """What librdkafka 2.16 sends when it asks for all topics."""
    body = encoded(Request(version=version, topics=None))
    read = read_request(version, body + b"\1\0\0")
    assert (read.body, read.everything) == (body, True)
