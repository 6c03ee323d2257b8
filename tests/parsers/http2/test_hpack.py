"""Header compression against the library `hpack`, the stories of the corpus, and hand-made blocks."""

from __future__ import annotations

import json
from pathlib import Path

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.errors import ParseError
from parsers.http2.frames import ConnectionFault, ErrorCode
from parsers.http2.hpack import EMPTY_TABLE, MAX_TABLE, STATIC, Decoder, Field, encode
from tests.parsers.http1.test_corpus import CORPUS, need

MAX_LIST = 1 << 16
STORIES = sorted((CORPUS / "hpack").glob("*/*.json"))


def pairs(fields: list[Field]) -> list[tuple[bytes, bytes]]:
    return [(field.name, field.value) for field in fields]


def test_the_stories_are_there() -> None:
    need("hpack")
    assert len(STORIES) >= 19


@pytest.mark.parametrize("path", STORIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_story_is_read_as_it_was_meant(path: Path) -> None:
    """Stories without bytes are told by the library first."""
    decoder, library = Decoder(MAX_LIST), hpack.Encoder()
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        expected = [(n.encode(), v.encode()) for field in case["headers"] for n, v in field.items()]
        decoder.limit = max(decoder.limit, case.get("header_table_size") or 0)
        block = bytes.fromhex(case["wire"]) if "wire" in case else library.encode(expected)
        assert pairs(decoder.decode(block)) == expected
        assert pairs(Decoder(MAX_LIST).decode(encode(expected))) == expected


NAMES = st.sampled_from([b":method", b":path", b"accept", b"cookie", b"x-a", b"x-b", b"content-type", b"via"])
VALUES = st.one_of(st.sampled_from([b"GET", b"/", b"/index.html", b"", b"gzip, deflate"]), st.binary(max_size=40))
LISTS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=8), min_size=1, max_size=12)


@settings(max_examples=200)
@given(LISTS, st.lists(st.integers(0, MAX_TABLE), max_size=12), st.booleans())
def test_what_the_library_encodes_is_decoded(
    lists: list[list[tuple[bytes, bytes]]], sizes: list[int], huffman: bool
) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(MAX_LIST)
    for number, fields in enumerate(lists):
        if number < len(sizes):
            encoder.header_table_size = sizes[number]
        block = encoder.encode(fields, huffman=huffman)
        assert pairs(decoder.decode(block)) == fields


@settings(max_examples=200)
@given(LISTS, st.booleans())
def test_what_is_encoded_here_means_the_same_to_every_decoder(
    lists: list[list[tuple[bytes, bytes]]], hidden: bool
) -> None:
    """Also to one whose table holds something: nothing is taken from it, and nothing put into it."""
    library, own = hpack.Decoder(), Decoder(MAX_LIST)
    filling = hpack.Encoder().encode([(b"x-before", b"1")])
    library.decode(filling)
    own.decode(filling)
    version = own.version
    for fields in lists:
        block = encode([Field(name, value, hidden) for name, value in fields])
        assert [(bytes(n), bytes(v)) for n, v in library.decode(block, raw=True)] == fields
        decoded = own.decode(block)
        assert pairs(decoded) == fields
        assert not hidden or all(field.never_indexed for field in decoded)
    assert own.version == version


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_are_a_list_or_a_fault(blocks: list[bytes]) -> None:
    """And where the library reads a list, it is the same one."""
    own, library = Decoder(MAX_LIST), hpack.Decoder()
    for block in blocks:
        try:
            found = pairs(own.decode(block))
        except ParseError:
            return
        assert [(bytes(n), bytes(v)) for n, v in library.decode(block, raw=True)] == found


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x80", "refers to an entry that is not"),
        (b"\xbe", "refers to an entry that is not"),
        (b"\x7e\x00", "refers to an entry that is not"),
        (b"\xff\xff\xff\xff\xff\xff\x7f", "cut off or too large"),
        (b"\xff", "cut off or too large"),
        (b"\x00\x01", "cut off"),
        (b"\x00", "cut off"),
        (b"\x00\x7f\xff\xff\xff\x7f", "too large"),
        (b"\x82\x20", "in the middle"),
        (b"\x3f\xe2\x1f", "larger than was agreed"),
        (b"\x00\x01a\x81\x00", "Huffman"),
        (b"\x00\x01a\x82\x1f\xff", "Huffman"),
        (b"\x00\x01a\x84\xff\xff\xff\xff", "Huffman"),
    ],
)
def test_a_block_that_is_none(block: bytes, reason: str) -> None:
    with pytest.raises(ConnectionFault, match=reason) as caught:
        Decoder(MAX_LIST).decode(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_list_is_bounded_however_small_its_block() -> None:
    decoder = Decoder(60_000)
    decoder.decode(b"\x40\x01a" + number(4000) + b"x" * 4000)
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(b"\xbe" * 16)
    assert (caught.value.code, caught.value.limit) == (ErrorCode.ENHANCE_YOUR_CALM, "header_list_bytes")


def test_the_table_is_bounded_and_its_oldest_entries_go() -> None:
    decoder = Decoder(MAX_LIST)
    for number in range(200):
        decoder.decode(b"\x40\x04name\x08" + b"%08d" % number)
    count = MAX_TABLE // (32 + 12)
    assert decoder.decode(bytes((0x80 | 62,)))[0].value == b"00000199"
    assert decoder.decode(index(61 + count))[0].value == b"%08d" % (200 - count)
    with pytest.raises(ConnectionFault):
        decoder.decode(index(62 + count))


def number(value: int) -> bytes:
    """A length that does not fit into seven bits."""
    return bytes((0x7F,)) + (
        bytes((value - 127,)) if value < 255 else bytes(((value - 127) & 0x7F | 0x80, (value - 127) >> 7))
    )


def index(value: int) -> bytes:
    """An indexed field."""
    return bytes((number(value)[0] | 0x80,)) + number(value)[1:]


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = Decoder(MAX_LIST)
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\x40\x01c" + number(4096) + b"x" * 4096)
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")


def test_a_smaller_table_must_be_acknowledged_in_the_next_block() -> None:
    decoder = Decoder(MAX_LIST)
    decoder.limit = 100
    with pytest.raises(ConnectionFault, match="does not follow"):
        decoder.decode(b"\x82")
    decoder = Decoder(MAX_LIST)
    decoder.limit = 100
    assert pairs(decoder.decode(b"\x3f\x45\x82")) == [(b":method", b"GET")]


def test_the_table_can_be_emptied() -> None:
    decoder = Decoder(MAX_LIST)
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(EMPTY_TABLE)
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")


def test_the_static_table_is_that_of_the_rfc() -> None:
    assert len(STATIC) == 61
    assert STATIC[1] == (b":method", b"GET", False)
    assert STATIC[60] == (b"www-authenticate", b"", False)
