"""Messages of all kinds and versions: read and written the same, real ones, and hostile ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from config.policy.kafka_apis import API_NAMES
from parsers.errors import ParseError
from parsers.kafka.apis import ADVERTISED_LOWEST, APIS, NAMELESS, NEVER, TOPIC_ID_CAPS
from parsers.kafka.codecs import (
    build,
    decode_request,
    decode_response,
    encode_request_body,
    encode_response,
    is_flexible,
    request_class,
    response_class,
    shape,
    warm,
)
from tests.parsers.kafka.captures import exchanges, requests
from tests.parsers.kafka.oracle import Filler, mutations_of
from tests.parsers.steps import steps

VERSIONS = [(api.key, version) for api in APIS.values() for version in range(api.lowest, api.highest + 1)]
HUGE = b"\x7f\xff\xff\xff"
MOST_STEPS = 20_000
HEARTBEAT, SASL_HANDSHAKE, API_VERSIONS, DELETE_TOPICS = 12, 17, 18, 20


def again(message: Any) -> bytes:
    """The bytes of a decoded message. kafka-python leaves it without a header, which one of its classes needs."""
    message._header = None
    return encode_request_body(message)


def has_unknown_tags(message: Any) -> bool:
    """Fields that newer clients have added: they are read over, and kafka-python does not write them again."""
    if message.unknown_tags:
        return True
    values = [getattr(message, name) for name in message._struct.fields]
    entries = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    return any(has_unknown_tags(entry) for entry in entries if hasattr(entry, "unknown_tags"))


def filled(kind: str, key: int, version: int, seed: int = 0) -> Any:
    cls = request_class(key) if kind == "request" else response_class(key)
    # kafka-python takes an answer to ApiVersions with any error for one in version 0.
    given = {"error_code": 0} if (kind, key) == ("response", API_VERSIONS) else {}
    return Filler(random.Random(f"{key} {version} {seed}")).message(cls, version, **given)


def body_of_response(message: Any, key: int, version: int) -> bytes:
    frame = encode_response(message, 7)
    size, number = int.from_bytes(frame[:4], "big"), int.from_bytes(frame[4:8], "big")
    assert (size, number) == (len(frame) - 4, 7)
    if key == API_VERSIONS or not is_flexible(key, version):
        return frame[8:]
    assert frame[8] == 0
    return frame[9:]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_schemas_say() -> None:
    for key, api in APIS.items():
        schema = request_class(key).json
        low, _, high = schema["validVersions"].partition("-")
        first, flexible = int(low), schema["flexibleVersions"].removesuffix("+")
        lowest = 1 if key == SASL_HANDSHAKE else first
        assert (api.key, api.name) == (schema["apiKey"], schema["name"].removesuffix("Request"))
        assert (api.lowest, api.highest) == (lowest, int(high or low)), api
        assert api.flexible == (NEVER if flexible == "none" else int(flexible)), api
        assert response_class(key).json["validVersions"] == schema["validVersions"]
        assert api.name == API_NAMES[key]
        for version in range(api.lowest, api.highest + 1):
            assert is_flexible(key, version) == (version >= api.flexible)


def test_what_brokers_listen_for_is_there() -> None:
    gone = {4, 5, 6, 7}
    of_controllers = {52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82}
    assert set(APIS) == set(range(93)) - gone - of_controllers
    assert set(TOPIC_ID_CAPS) | NAMELESS | set(ADVERTISED_LOWEST) <= set(APIS)


def test_capped_versions_name_topics_by_their_names_only() -> None:
    for key, highest in TOPIC_ID_CAPS.items():
        assert "TopicId" not in fields_of(request_class(key).json["fields"], highest), key
        assert "TopicId" in fields_of(request_class(key).json["fields"], APIS[key].highest), key


def fields_of(fields: list[dict[str, Any]], version: int) -> set[str]:
    """Names of what a version has, all levels together. Metadata's ids are for those that ask by them alone."""
    found: set[str] = set()
    for field in fields:
        low, _, high = field["versions"].partition("-")
        if int(low.removesuffix("+")) <= version <= int(high or (low if low.isdigit() else version)):
            found |= {field["name"]} | fields_of(field.get("fields", []), version)
    return found


# -- there and back ----------------------------------------------------------------------------------------------------


def test_captured_requests() -> None:
    assert len(exchanges()) == 1235
    for request in requests():
        assert again(decode_request(request.key, request.version, request.body)) == request.body, request


def test_captured_answers() -> None:
    answered = [exchange for exchange in exchanges() if exchange.answer is not None]
    assert len(answered) > 1200
    for exchange in answered:
        assert exchange.answer is not None
        version = exchange.version
        if exchange.key == API_VERSIONS and exchange.answer.startswith(b"\0\x23"):
            version = 0  # who does not know the version says so in this one
        decode_response(exchange.key, version, exchange.answer)


@pytest.mark.parametrize("seed", range(5))
def test_requests_of_all_versions(seed: int) -> None:
    for key, version in VERSIONS:
        body = encode_request_body(filled("request", key, version, seed))
        assert again(decode_request(key, version, body)) == body, (key, version)


@pytest.mark.parametrize("seed", range(5))
def test_answers_of_all_versions(seed: int) -> None:
    for key, version in VERSIONS:
        message = filled("response", key, version, seed)
        body = body_of_response(message, key, version)
        decoded = decode_response(key, version, body)
        assert body_of_response(decoded, key, version) == body, (key, version)


def test_messages_built_of_nothing() -> None:
    for key, version in VERSIONS:
        decode_request(key, version, encode_request_body(build("request", key, version)))
        decode_response(key, version, body_of_response(build("response", key, version), key, version))


def test_warming_again_compiles_nothing() -> None:
    warm()
    assert steps(warm) < MOST_STEPS


# -- what is not in the one form ---------------------------------------------------------------------------------------


def test_tagged_fields_of_newer_clients() -> None:
    """KIP-482 lets them come in any version; what we know nothing of is the server's business."""
    plain = encode_request_body(build("request", HEARTBEAT, 4, group_id="g", generation_id=1, member_id="m"))
    for tags in (b"\x01\x00\x00", b"\x01\x09\x02xy", b"\x02\x03\x01a\x09\x02xy", b"\x01\xff\x01\x01a"):
        assert decode_request(HEARTBEAT, 4, plain[:-1] + tags).group_id == "g"
    wrong = {
        b"\x02\x09\x01a\x03\x01b": "not rising",
        b"\x02\x03\x01a\x03\x01b": "twice the same",
        b"\x02\x03\x01a": "one is missing",
        b"\x01\x09\x05xy": "runs over the end",
        b"\x01\x89\x00\x01a": "a longer varint than needed",
        b"\x80\x00": "a longer varint than needed for none",
        b"\x01\x09\x02xyz": "a byte more",
        b"\xff\xff\xff\xff\x7f": "a varint of more than 32 bits",
        b"\xff\xff\xff\xff\x0f": "more than there can be",
    }
    for tags, what in wrong.items():
        with pytest.raises(ParseError):
            print(what, decode_request(HEARTBEAT, 4, plain[:-1] + tags))


def test_tags_that_are_known_are_read() -> None:
    body = encode_request_body(build("request", 1, 12, max_wait_ms=1))
    with_id = body[:-1] + b"\x01\x00\x03\x03ab"
    assert decode_request(1, 12, with_id).cluster_id == "ab"
    for tag in (b"\x01\x00\x02\x03ab", b"\x01\x00\x04\x03abc", b"\x01\x00\x03\x02ab", b"\x01\x00\x03\x03\xff\xfe"):
        with pytest.raises(ParseError):
            decode_request(1, 12, body[:-1] + tag)


@pytest.mark.parametrize(
    ("key", "version", "body"),
    [
        (HEARTBEAT, 0, "fffe 00000001 0001 6d"),
        (HEARTBEAT, 0, "ffff 00000001 0001 6d"),
        (HEARTBEAT, 0, "0001 ff 00000001 0001 6d"),
        (HEARTBEAT, 0, "0002 c080 00000001 0001 6d"),
        (HEARTBEAT, 4, "8200 67 00000001 02 6d 00 00"),
        (HEARTBEAT, 4, "00 00000001 02 6d 00 00"),
        (3, 1, "fffffffe"),
        (3, 1, "80000000"),
        (3, 9, "01 02 00 00 00"),
        (DELETE_TOPICS, 1, "ffffffff 00000000"),
    ],
    ids=str,
)
def test_not_in_the_one_form(key: int, version: int, body: str) -> None:
    with pytest.raises(ParseError):
        decode_request(key, version, bytes.fromhex(body))


def test_unknown_kinds_and_bytes_behind_the_end() -> None:
    for key in (4, 80, 93, 32767, -1):
        with pytest.raises(ParseError):
            decode_request(key, 0, b"")
    for key, version in VERSIONS:
        body = encode_request_body(filled("request", key, version))
        with pytest.raises(ParseError):
            decode_request(key, version, body + b"\0")
        if body:
            with pytest.raises(ParseError):
                decode_request(key, version, body[:-1])


def test_huge_counts_fail_at_once() -> None:
    """Wherever four bytes could be a count, and wherever a varint could."""
    bodies = [(key, version, encode_request_body(filled("request", key, version, 1))) for key, version in VERSIONS]
    for key, version, body in bodies:
        shape(key, "request", version)
        for position in range(0, min(len(body), 400), 3):
            for count in (HUGE, b"\xff\xff\xff\xff\x0f", b"\xfe\xff\xff\xff\x07"):
                mutated = body[:position] + count + body[position + 4 :]
                assert steps(partial(outcome, key, version, mutated)) < MOST_STEPS


def outcome(key: int, version: int, body: bytes) -> Any:
    try:
        return decode_request(key, version, body)
    except ParseError:
        return None


def mutated_requests() -> Iterator[tuple[int, int, bytes]]:
    rng = random.Random(8)
    for request in requests():
        if request.body:
            for body in mutations_of(request.body, rng, 30):
                yield request.key, request.version, body
    for key, version in VERSIONS:
        body = encode_request_body(filled("request", key, version, 2))
        for mutated in mutations_of(body, rng, 20) if body else ():
            yield key, version, mutated


def test_whatever_is_accepted_is_in_the_one_form() -> None:
    """So no other parser can see anything else in it. Only what newer clients have added is not written again."""
    same = accepted = total = 0
    for key, version, body in mutated_requests():
        total += 1
        message = outcome(key, version, body)
        if message is None:
            continue
        accepted += 1
        if again(message) == body:
            same += 1
        else:
            assert has_unknown_tags(message) or has_defaults_as_tags(key, version, body, message), (key, version, body)
    assert total > 15_000
    assert accepted > 2_000
    assert same > accepted * 0.95


def has_defaults_as_tags(key: int, version: int, body: bytes, message: Any) -> bool:
    """A tagged field that says what its absence says: allowed, and kafka-python leaves it out."""
    written = again(message)
    return len(written) < len(body) and repr(decode_request(key, version, written)) == repr(message)


def test_hostile_answers() -> None:
    rng = random.Random(9)
    answers = {(item.key, item.version): item.answer for item in exchanges() if item.answer and len(item.answer) < 2000}
    for (key, version), answer in answers.items():
        assert answer is not None
        for body in mutations_of(answer, rng, 30):
            try:
                decode_response(key, version, body)
            except ParseError:
                continue
