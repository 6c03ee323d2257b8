"""The one form of each kind of request: nothing else is accepted, and nobody reads anything else in it."""

from __future__ import annotations

import random
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator

import pytest

from parsers.errors import ParseError
from parsers.kafka import metadata
from parsers.kafka.apis import APIS
from parsers.kafka.codecs import decode_request, encode_request_body, request_class, shape
from parsers.kafka.shape import MAX_ENTRIES
from parsers.kafka.skim import FETCH, PRODUCE, skim_fetch, skim_produce
from parsers.kafka.wire import varint
from tests.parsers.kafka.captures import requests
from tests.parsers.kafka.oracle import Filler, mutations_of

VERSIONS = [(api.key, version) for api in APIS.values() for version in range(api.lowest, api.highest + 1)]
IDS = [f"{APIS[key].name}-{version}" for key, version in VERSIONS]
METADATA, HEARTBEAT = 3, 12
READ_ON_THE_WAY = (PRODUCE, FETCH, METADATA)
"""Requests that are not read by their shape but by a reader of their own."""

SECRET = uuid.UUID(int=9).bytes


def filled(key: int, version: int, seed: int) -> bytes:
    filler = Filler(random.Random(f"{key} {version} {seed} shape"))
    return encode_request_body(filler.message(request_class(key), version))


def accepts(key: int, version: int, body: bytes) -> bool:
    try:
        shape(key, "request", version).read(body)
    except ParseError:
        return False
    return True


def own_reader_accepts(key: int, version: int, body: bytes) -> bool:
    readers: dict[int, Callable[[], object]] = {
        PRODUCE: lambda: skim_produce(version, body, 0, len(body)),
        FETCH: lambda: skim_fetch(version, body, 0, len(body)),
        METADATA: lambda: metadata.read_request(version, body),
    }
    try:
        readers[key]()
    except ParseError:
        return False
    return True


# -- what there is -----------------------------------------------------------------------------------------------------


def test_captured_requests_have_their_shape() -> None:
    for request in requests():
        assert accepts(request.key, request.version, request.body), request


@pytest.mark.parametrize(("key", "version"), VERSIONS, ids=IDS)
def test_any_content_but_whole(key: int, version: int) -> None:
    for seed in range(3):
        body = filled(key, version, seed)
        assert accepts(key, version, body)
        assert not accepts(key, version, body + b"\0")
        ends = range(len(body)) if len(body) < 300 else random.Random(seed).sample(range(len(body)), 200)
        assert not any(accepts(key, version, body[:end]) for end in ends)


@pytest.mark.parametrize(("key", "version"), VERSIONS, ids=IDS)
def test_what_is_accepted_can_be_decoded(key: int, version: int) -> None:
    """kafka-python has no quarrel with what has passed here, so no exception of its own is ever seen."""
    rng = random.Random(f"{key} {version}")
    for seed in range(2):
        body = filled(key, version, seed)
        for changed in mutations_of(body, rng, 40) if body else ():
            if accepts(key, version, changed):
                request_class(key).decode(changed, version=version)
            else:
                with pytest.raises(ParseError):
                    decode_request(key, version, changed)


@pytest.mark.parametrize("key", READ_ON_THE_WAY)
def test_readers_of_their_own_are_as_strict(key: int) -> None:
    """They accept what has its shape, and nothing else but what no server reads differently."""
    rng = random.Random(key)
    accepted = 0
    for version in range(APIS[key].lowest, APIS[key].highest + 1):
        for seed in range(4):
            body = filled(key, version, seed)
            for changed in (body, *mutations_of(body, rng, 300)) if body else (body,):
                if own_reader_accepts(key, version, changed):
                    accepted += 1
                    assert accepts(key, version, kept(key, version, changed)), (version, changed.hex())
    assert accepted > 200


def kept(key: int, version: int, body: bytes) -> bytes:
    """What goes on: of Metadata nothing that is behind its end."""
    return metadata.read_request(version, body).body if key == METADATA else body


# -- tags --------------------------------------------------------------------------------------------------------------


def flexible() -> Iterator[tuple[int, int, bytes]]:
    """(key, version, body up to the number of its last tagged fields), which is 0."""
    for key, version in VERSIONS:
        if version >= APIS[key].flexible:
            body = filled(key, version, 0)
            if body.endswith(b"\0") and key != FETCH:
                yield key, version, body[:-1]


def test_tags_that_nobody_knows_are_read_over() -> None:
    for key, version, body in flexible():
        for tags in (b"\x01\x63\0", b"\x02\x63\x03abc\x64\x01x", b"\x01\xe4\x07\x01x"):
            assert accepts(key, version, body + tags), (key, version)
        if key in READ_ON_THE_WAY:
            assert own_reader_accepts(key, version, body + b"\x02\x63\x03abc\x64\x01x")


WRONG_TAGS = {
    "twice": b"\x02\x63\x01a\x63\x01b",
    "falling": b"\x02\x64\x01a\x63\x01b",
    "one too few": b"\x02\x63\x01a",
    "one too many": b"\x01\x63\x01a\x64\x01b",
    "too long": b"\x01\x63\x7fab",
    "number in two bytes": b"\x81\x00\x63\x01a",
    "tag in two bytes": b"\x01\xe3\x00\x01a",
    "size in two bytes": b"\x01\x63\x81\x00a",
    "six bytes": b"\x80\x80\x80\x80\x80\x01",
    "more than 32 bits": b"\xff\xff\xff\xff\x7f",
    "very many": b"\xff\xff\xff\xff\x0f",
    "very long": b"\x01\x63\xff\xff\xff\xff\x0f",
}


@pytest.mark.parametrize("tags", WRONG_TAGS.values(), ids=WRONG_TAGS)
def test_wrong_tags(tags: bytes) -> None:
    count = 0
    for key, version, body in flexible():
        assert not accepts(key, version, body + tags), (key, version)
        if key in (PRODUCE, FETCH):
            assert not own_reader_accepts(key, version, body + tags)
        count += 1
    assert count > 50


def fetch_by_id(version: int, tags: bytes, top: bytes = b"\0") -> bytes:
    """Of one partition of topic 7, with `tags` behind it."""
    head = bytes(4) + bytes(9) + bytes(4) + b"\xff\xff\xff\xff"
    partition = bytes(4 + 4 + 8 + 4 + 8 + 4) + tags
    return head + b"\x02" + uuid.UUID(int=7).bytes + b"\x02" + partition + b"\0" + b"\x01" + b"\x01" + top


FETCH_READERS = {
    "skimmed": lambda version, body: skim_fetch(version, body, 0, len(body)),
    "by its shape": lambda version, body: shape(FETCH, "request", version).read(body),
}


@pytest.mark.parametrize("read", FETCH_READERS.values(), ids=FETCH_READERS)
class TestTagsOfFetch:
    """The only request with tagged fields of its own (KIP-903, KIP-966, KIP-1166)."""

    def test_known_ones(self, read: Callable[[int, bytes], object]) -> None:
        replica = b"\x01\x00\x10" + bytes(16)
        both = b"\x02\x00\x10" + bytes(16) + b"\x01\x08" + bytes(8)
        for version, tags in ((17, replica), (18, both), (18, b"\x01\x01\x08" + bytes(8)), (17, b"\x01\x05\x01x")):
            read(version, fetch_by_id(version, tags))
        for top in (b"\x01\x00\x03\x03ab", b"\x01\x00\x01\0", b"\x01\x01\x0d" + bytes(13), b"\x01\x05\x01x"):
            read(17, fetch_by_id(17, b"\0", top))

    @pytest.mark.parametrize("size", [0, 1, 15, 17, 34])
    def test_a_size_that_is_not_the_fields(self, read: Callable[[int, bytes], object], size: int) -> None:
        """Servers read 16 bytes whatever the size says, and then other topics than were judged."""
        with pytest.raises(ParseError):
            read(17, fetch_by_id(17, b"\x01\x00" + varint(size) + bytes(size)))
        with pytest.raises(ParseError):
            read(18, fetch_by_id(18, b"\x01\x01" + varint(size) + bytes(size)))

    def test_a_topic_that_only_servers_would_see(self, read: Callable[[int, bytes], object]) -> None:
        """By its size the tag holds a topic, too. A server that takes the field's 16 bytes finds that topic behind."""
        seen_by_servers_only = b"\x01\x00\x10" + bytes(16) + b"\0" + SECRET + b"\x02" + bytes(32) + b"\0\0\x01\x01\0"
        inside = varint(len(seen_by_servers_only)) + seen_by_servers_only
        with pytest.raises(ParseError):
            read(17, fetch_by_id(17, b"\x01\x00" + inside))

    @pytest.mark.parametrize(
        "top", [b"\x01\x00\x02\x03ab", b"\x01\x00\x04\x03abc", b"\x01\x01\x0c" + bytes(12), b"\x01\x01\x0e" + bytes(14)]
    )
    def test_of_the_whole(self, read: Callable[[int, bytes], object], top: bytes) -> None:
        with pytest.raises(ParseError):
            read(17, fetch_by_id(17, b"\0", top))


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_truth_is_0_or_1() -> None:
    create = bytes.fromhex("00000001 0001 61 00000001 0001 00000000 00000000 00000064")
    assert accepts(19, 2, create + b"\x01")
    for other in (b"\x02", b"\xff", b"\x7f"):
        assert not accepts(19, 2, create + other)


def test_truth_is_0_or_1_in_metadata_too() -> None:
    assert own_reader_accepts(METADATA, 4, bytes.fromhex("00000001 0001 61 01"))
    assert not own_reader_accepts(METADATA, 4, bytes.fromhex("00000001 0001 61 02"))
    assert own_reader_accepts(METADATA, 8, bytes.fromhex("00000001 0001 61 01 00 01"))
    assert not own_reader_accepts(METADATA, 8, bytes.fromhex("00000001 0001 61 01 02 01"))
    assert not own_reader_accepts(METADATA, 8, bytes.fromhex("00000001 0001 61 01 00 02"))


@pytest.mark.parametrize("length", ["fffffffe", "80000000", "7fffffff", "00100000"])
@pytest.mark.parametrize(
    ("key", "version", "head"), [(3, 1, ""), (20, 1, ""), (2, 1, "ffffffff"), (0, 3, "ffff00010000")]
)
def test_lengths_of_arrays(key: int, version: int, head: str, length: str) -> None:
    body = bytes.fromhex(head) + (bytes(2) if key == PRODUCE else b"") + bytes.fromhex(length) + bytes(8)
    assert not accepts(key, version, body)
    if key in READ_ON_THE_WAY:
        assert not own_reader_accepts(key, version, body)


@pytest.mark.parametrize("length", ["fffe", "8000", "7fff"])
def test_lengths_of_strings(length: str) -> None:
    assert not accepts(HEARTBEAT, 0, bytes.fromhex(length) + bytes(8))


@pytest.mark.parametrize("length", ["8100", "80808080 8001", "ffffffff 7f", "ffffffff 0f", "80808080 08"])
def test_compact_lengths(length: str) -> None:
    for key, version in ((HEARTBEAT, 4), (3, 9), (0, 9), (20, 4), (45, 0)):
        for lead in (b"", b"\0"):
            assert not accepts(key, version, lead + bytes.fromhex(length) + bytes(20)) or lead


@pytest.mark.parametrize(("key", "version"), [(20, 1), (3, 1), (2, 1), (24, 0)])
def test_huge_counts_take_no_memory(key: int, version: int) -> None:
    heads = {2: "ffffffff", 24: "0001 61 0000000000000001 0001"}
    body = bytes.fromhex(heads.get(key, "") + "7fffffff") + bytes(1000)
    shape(key, "request", version)
    tracemalloc.start()
    start = time.process_time()
    accepted = accepts(key, version, body)
    spent, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not accepted
    assert spent < 0.05
    assert peak < 20_000


def test_very_many_entries_of_no_size() -> None:
    """An entry takes a byte at least, and becomes an object: there is a bound on them all together."""
    count = MAX_ENTRIES + 1
    body = count.to_bytes(4, "big") + b"\0\1a" * count + bytes(4)
    with pytest.raises(ParseError) as caught:
        shape(20, "request", 1).read(body)
    assert caught.value.limit == "entries"


def test_a_structure_is_there_or_not() -> None:
    """DescribeTopicPartitions begins at a cursor, which may be null."""
    head = b"\x01" + bytes(4)
    assert accepts(75, 0, head + b"\xff\0")
    assert accepts(75, 0, head + b"\x01\x02a" + bytes(4) + b"\0\0")
    for mark in (b"\0", b"\x02", b"\x80"):
        assert not accepts(75, 0, head + mark + b"\0")
        assert not accepts(75, 0, head + mark + b"\x02a" + bytes(4) + b"\0\0")
