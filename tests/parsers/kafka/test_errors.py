"""The error code of an answer: of all kinds and versions that kafka-python knows, real ones, cut ones, hostile ones."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from parsers.kafka import errors
from parsers.kafka.apis import APIS
from parsers.kafka.codecs import response_class
from parsers.kafka.errors import ERROR_NAMES, error_code
from tests.parsers.kafka.oracle import Filler, captured, encoded, messages, mutations_of, versions

RESPONSES = messages("response")
KINDS = [(key, version) for key, message in sorted(RESPONSES.items()) for version in versions(message)]
CODES = ("error_code", "partition_error_code", "acknowledge_error_code")
ONLY_THE_FIRST = 89
"""StreamsGroupDescribe: of its groups, the first one's error is told."""


def codes_of(message: Any, version: int, depth: int = 0) -> Iterator[tuple[int, int]]:
    """(depth, code) of all error codes of a message, in the order of its fields."""
    for name, field in message._struct.fields.items():
        if not field.for_version_q(version) or field.tagged_field_q(version):
            continue
        value = getattr(message, name)
        if name in CODES:
            yield depth, value
        elif field.is_struct_array():
            for entry in value or ():
                yield from codes_of(entry, version, depth + 1)
        elif field.is_struct() and value is not None:
            yield from codes_of(value, version, depth)


def telling(message: Any, version: int) -> int:
    codes = [(depth, code) for depth, code in codes_of(message, version) if code]
    top = [code for depth, code in codes if not depth]
    return (top or [code for _, code in codes] or [0])[0]


@pytest.mark.parametrize("often", [0.0, 0.1, 0.5])
def test_all_kinds_and_versions(often: float) -> None:
    told = set()
    for key, version in KINDS:
        filler = Filler(random.Random(f"{key} {version}"), often, many=4)
        for _ in range(8):
            message = filler.message(RESPONSES[key], version)
            body = encoded(message)
            code = telling(message, version)
            assert error_code(key, version, body) == code, (key, version, message)
            assert errors._walked(key, version, body) == code, (key, version, message)
            if code:
                told.add(key)
    assert not told if not often else len(told) > 40


def test_kinds_of_which_only_we_have_definitions() -> None:
    others = APIS.keys() - RESPONSES.keys() - {ONLY_THE_FIRST}
    assert len(others) > 10
    for key in sorted(others):
        for version in range(APIS[key].lowest, APIS[key].highest + 1):
            filler = Filler(random.Random(f"{key} {version}"), 0.2, many=4)
            for _ in range(20):
                message = filler.message(response_class(key), version)
                assert error_code(key, version, encoded(message)) == telling(message, version), (key, version, message)


def test_every_kind_with_an_error_code_has_a_layout() -> None:
    for key, version in KINDS:
        message = Filler(random.Random(1), many=2).message(RESPONSES[key], version)
        assert key in errors._LAYOUTS or not list(codes_of(message, version))
    assert APIS.keys() <= errors._LAYOUTS.keys()


def test_no_later_error_is_missed_when_an_answer_is_cut() -> None:
    """Cut anywhere, the code is one that was there until then; the longer the answer, the more is told."""
    rng = random.Random(5)
    for key, version in KINDS:
        message = Filler(rng, 0.3).message(RESPONSES[key], version)
        body, code = encoded(message), telling(message, version)
        there = {code for _, code in codes_of(message, version)} | {0}
        found = False
        for end in range(min(len(body), 400) + 1):
            told = error_code(key, version, body[:end])
            assert told in there
            assert told or not found, "what was told is not forgotten"
            found = bool(told)
        assert error_code(key, version, body) == code


@pytest.mark.parametrize("version", range(4, 19))
def test_an_error_in_front_of_records_that_are_cut_off(version: int) -> None:
    topic = RESPONSES[1].FetchableTopicResponse
    message = Filler(random.Random(1), 0.0).message(RESPONSES[1], version)
    parts = [
        topic.PartitionData(version=version, partition_index=0, error_code=code, records=bytes(600))
        for code in (0, 6, 9)
    ]
    for part in parts:
        part.high_watermark = 0
    message.responses = [topic(version=version, topic="t", topic_id=None, partitions=parts)]
    body = encoded(message)
    assert error_code(1, version, body) == 6
    assert error_code(1, version, body[:512]) == 0
    assert error_code(1, version, body[:750]) == 6
    message.responses[0].partitions = parts[1:]
    assert error_code(1, version, encoded(message)[:300]) == 6


@pytest.mark.parametrize(("key", "count"), [(0, 50), (1, 100), (2, 20), (3, 100), (8, 5), (12, 5), (18, 20), (22, 5)])
def test_real_answers(key: int, count: int) -> None:
    seen = 0
    for version, _, body in captured(key):
        if key == 18 and body[:2] == b"\0\x23":
            assert error_code(key, version, body) == 35
            continue
        code = telling(RESPONSES[key].decode(body, version=version), version)
        assert error_code(key, version, body) == code
        assert error_code(key, version, body[:512]) in (0, code)
        seen += 1
    assert seen >= count


@pytest.mark.parametrize(
    ("key", "version", "body", "code"),
    [
        (38, 3, "001e", 30),
        (41, 1, "0041 00000000", 65),
        (68, 1, "00000000 001d 00", 29),
        (71, 0, "00000000 0023", 35),
        (69, 1, "00000000 03" + "0000 00 02 41 02 42 00000001 00000002 02 43 01 00000000 00" + "001e 00", 30),
        (
            69,
            1,
            "00000000 03"
            + "0000 00 02 41 02 42 00000001 00000002 02 43 02"
            + "02 4d 00 00 00000001 02 43 02 48 02 02 54 00"
            + (" 02" + "00" * 16 + "02 54 02 00000001 00 00") * 2
            + "01 00 00000000 00"
            + "001e 00",
            30,
        ),
        (77, 1, "00000000 02 001e", 30),
        (
            77,
            1,
            "00000000 03"
            + "0000 00 02 41 02 42 00000001 00000002 02 43 02"
            + "02 4d 00 00000001 02 43 02 48 02 02 54"
            + " 02"
            + "00" * 16
            + "02 54 02 00000001 00 00 00 00000000 00"
            + "001e 00",
            30,
        ),
        (78, 1, "00000000 007a 00 00000000 01", 122),
        (
            78,
            2,
            "00000000 0000 00 00000000 02"
            + "00" * 16
            + "03"
            + "00000000 0000 00 0000 00 00000001 00000001 00 02 41 02"
            + "00" * 18
            + "00 00"
            + "00000001 0000 00 0079 00",
            121,
        ),
        (
            79,
            1,
            "00000000 0000 00 02" + "00" * 16 + "03" + "00000000 0000 00 00000001 00000001 00 00" + "00000001 0079",
            121,
        ),
        (79, 2, "00000000 0000 00 00000009 02" + "00" * 16 + "02 00000000 0079 00", 121),
        (89, 0, "00000000 02 001e", 30),
        (89, 0, "00000000 03 0000 00 02 41 001e", 0),
        (
            90,
            0,
            "00000000 02 02 41 02 02 54" + "00" * 16 + "02 00000000" + "00" * 12 + "001d 00 00 00 0000 00 00 00",
            29,
        ),
        (
            90,
            1,
            "00000000 02 02 41 02 02 54" + "00" * 16 + "02 00000000" + "00" * 20 + "001d 00 00 00 0000 00 00 00",
            29,
        ),
        (90, 1, "00000000 02 02 41 01 001e", 30),
        (91, 0, "00000000 0000 00 02 02 54" + "00" * 16 + "02 00000000 001d", 29),
        (92, 0, "00000000 0000 00 03 02 54" + "00" * 16 + "0000 00 00 02 54" + "00" * 16 + "001d", 29),
        (1234, 0, "00000000 001d", 0),
    ],
)
def test_kinds_written_out(key: int, version: int, body: str, code: int) -> None:
    """Written down by the message definitions of Apache Kafka 4.3."""
    assert error_code(key, version, bytes.fromhex(body.replace(" ", ""))) == code


def test_hostile_bytes() -> None:
    rng = random.Random(7)
    for key, version in KINDS:
        body = encoded(Filler(rng, 0.1, many=4).message(RESPONSES[key], version))
        for mutated in mutations_of(body, rng, 30):
            code = error_code(key, version, mutated)
            assert -(1 << 15) <= code < 1 << 15
            assert errors._walked(key, version, mutated) == code, (key, version, mutated.hex())


def test_huge_counts_fail_at_once() -> None:
    for key in errors._LAYOUTS:
        for version in range(20):
            for filling in (b"\x7f", b"\xff", b"\0\0\0\0\x7f\xff\xff", b"\0\0\0\0\xff\xff\xff\xff\x0f\0"):
                began = time.process_time()
                error_code(key, version, (filling * 600)[:512])
                assert time.process_time() - began < 0.3


def test_names() -> None:
    assert sorted(ERROR_NAMES) == list(range(-1, 134))
    assert len(set(ERROR_NAMES.values())) == len(ERROR_NAMES)
    assert (ERROR_NAMES[-1], ERROR_NAMES[0], ERROR_NAMES[29]) == (
        "UNKNOWN_SERVER_ERROR",
        "NONE",
        "TOPIC_AUTHORIZATION_FAILED",
    )
    assert (ERROR_NAMES[6], ERROR_NAMES[10]) == ("NOT_LEADER_OR_FOLLOWER", "MESSAGE_TOO_LARGE")
