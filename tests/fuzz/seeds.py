"""Inputs to start from: those of the protocol corpus (`../shared/reference/protocol-corpus`), and a few of our own."""

from __future__ import annotations

import base64
import gzip
import json
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from parsers.http2 import frames
from parsers.http2.frames import PREFACE
from parsers.http2.hpack import encode
from tests.fuzz import dns, kafka
from tests.fuzz.framing import server_side
from tests.fuzz.regressions import REGRESSIONS
from tests.fuzz.shaping import shape
from tests.fuzz.targets import BLOCKS, UPGRADE
from tests.parsers.http1 import streams
from tests.parsers.http1.test_corpus import CORPUS
from tests.parsers.tls import hellos

OWN = "own"
SIZES = (b"\1\1\1", b"\0\0\0", b"\1\7\0", b"\11\5\2", b"\x40\3\xff")


class Seed(NamedTuple):
    name: str
    data: bytes


class Source(NamedTuple):
    """Where seeds of a target come from: a file of the corpus, or OWN."""

    target: str
    file: str


_HTTP1 = ("fuzz-http1-go.jsonl.gz", "fuzz-http1-h2o.jsonl.gz", "http1_requests.jsonl")
_HTTP2 = ("fuzz-http2-go.jsonl.gz", "fuzz-http2-h2o.jsonl.gz", "fuzz-http2-nghttp2.jsonl.gz", "h2spec_cases.jsonl")
_FILES: dict[str, tuple[str, ...]] = {
    "http1_request": _HTTP1,
    "http1_response": ("http1_responses.jsonl", "fuzz-http1-go.jsonl.gz"),
    "http2_request": _HTTP2,
    "http2_response": _HTTP2,
    "http2_frames": _HTTP2,
    "hpack": ("hpack",),
    "tls_hello": (),
    "opening": _HTTP1 + _HTTP2,
    "kafka_request": (),
    "kafka_answer": (),
    "dns_query": (),
    "dns_answer": (),
    "dns_tcp": (),
}
SOURCES = tuple(Source(target, file) for target, files in _FILES.items() for file in (*files, OWN))


def seeds_of(source: Source) -> Iterator[Seed]:
    """None if its file is absent."""
    if source.file == OWN:
        yield from (Seed(f"{OWN}/{number}", data) for number, data in enumerate(_own(source.target)))
        yield from (Seed(it.reason, it.data) for it in REGRESSIONS if it.target == source.target and not it.open_as)
        return
    for name, stream in _streams(source.file):
        yield Seed(f"{source.file}/{name}", _IN_FORM[source.target](stream))


def all_seeds(target: str) -> Iterator[Seed]:
    for source in SOURCES:
        if source.target == target:
            yield from seeds_of(source)


# -- the corpus ----------------------------------------------------------------------------------------------------


def _streams(file: str) -> Iterator[tuple[str, bytes]]:
    path = CORPUS / file
    if path.is_dir():
        for story in sorted(path.rglob("*.json")):
            cases = json.loads(story.read_text(encoding="utf-8"))["cases"]
            blocks = [bytes.fromhex(case["wire"]) for case in cases if "wire" in case]
            if blocks:
                yield f"{story.parent.name}/{story.stem}", _blocks(blocks)
        return
    if not path.is_file():
        return
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for row in map(json.loads, text.splitlines()):
        name = row.get("name") or row["id"]
        for number, coded in enumerate(row["conns"] if "conns" in row else [row["b64"]]):
            yield f"{name}/{number}", base64.b64decode(coded)


def _blocks(blocks: list[bytes]) -> bytes:
    return b"".join(len(block).to_bytes(2) + block for block in blocks)


def _arriving(stream: bytes) -> bytes:
    """How a stream arrives is drawn from what it is."""
    drawn = crc32(stream)
    sizes = SIZES[drawn % len(SIZES)] if len(stream) < 2048 else b"\x40\3\xff"
    return shape(sizes, is_tight=bool(drawn & 1 << 8), variant=drawn >> 9 & 7, ending=drawn >> 12 & 7) + stream


def _framed(stream: bytes) -> bytes:
    return _arriving(stream.removeprefix(PREFACE))


def _answered(stream: bytes) -> bytes:
    """The three requests of `ASKED`, which is what most responses are for."""
    return shape(SIZES[crc32(stream) % len(SIZES)]) + stream


def _described(stream: bytes) -> bytes:
    """Frames as `http2_frames` wants them described, with payloads of up to 63 bytes."""
    described, at = [], 0
    stream = stream.removeprefix(PREFACE)
    while len(stream) - at >= frames.HEADER_BYTES:
        high, low, kind, flags, number = frames.HEAD.unpack_from(stream, at)
        at += frames.HEADER_BYTES
        length = high << 8 | low
        payload = stream[at : at + length][:63]
        at += length
        described.append(bytes((kind & 15, flags, number & 0xFF, len(payload))) + payload)
    return _arriving(b"")[:4] + b"".join(described)


_IN_FORM: dict[str, Callable[[bytes], bytes]] = {
    "http1_request": _arriving,
    "http1_response": _answered,
    "http2_request": _framed,
    "http2_response": _framed,
    "http2_frames": _described,
    "hpack": bytes,
    "opening": _arriving,
}


# -- our own -------------------------------------------------------------------------------------------------------


def _own(target: str) -> Iterator[bytes]:
    made: dict[str, Callable[[], Iterator[bytes]]] = {
        "http1_request": _own_requests,
        "http1_response": _own_responses,
        "http2_request": lambda: _twice(_own_frames()),
        "http2_response": lambda: _twice(_own_answers()),
        "http2_frames": _own_descriptions,
        "hpack": _own_blocks,
        "tls_hello": lambda: map(_arriving, _own_hellos()),
        "kafka_request": kafka.request_seeds,
        "kafka_answer": kafka.answer_seeds,
        "dns_query": dns.query_seeds,
        "dns_answer": dns.answer_seeds,
        "dns_tcp": dns.tcp_seeds,
        "opening": lambda: map(
            _arriving, [PREFACE, PREFACE[:7], PREFACE[:2] + b"X", b"\x16\3\1", b"GET", b"\r\n", b"PRI"]
        ),
    }
    return made[target]()


def _twice(each: Iterator[bytes]) -> Iterator[bytes]:
    for stream in each:
        yield shape() + stream
        yield _arriving(stream)


def _own_requests() -> Iterator[bytes]:
    get = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
    post = b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    put = b"PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    for number in range(8):
        for ending in range(8):
            head = shape(is_tight=bool(ending & 1), variant=number, ending=ending)
            yield head + get % b"/a" + get % b"/deny" + post + put + get % b"/x/../%7e"
            yield head + UPGRADE + b"\x81\x02hi"
            yield head + put + b"\r\n" + get % b"/" + b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"
    yield shape() + (get % b"/a").replace(b"Host: a", b"Host: b") + (get % b"/a").replace(b"Host: a", b"Host: deny")
    for field in (*streams.FIELDS, *streams.ODD_FIELDS):
        yield shape() + b"POST /a HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n" + b"0\r\n\r\n" + get % b"/deny"
    for path in (*streams.TARGETS, *streams.ODD_TARGETS):
        yield shape() + get % path + get % b"/a"


def _own_responses() -> Iterator[bytes]:
    ok, hints = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.1 103 Early Hints\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    empty, until_close = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nuntil close"
    switching = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello"
    )
    for variant in range(8):
        for answers in (ok * 3, ok * 4, hints + chunked + empty + ok, hints * 20, ok + until_close, switching):
            yield shape(is_tight=bool(variant & 1), variant=variant) + answers


def _own_frames() -> Iterator[bytes]:
    settings = frames.frame(frames.SETTINGS, 0, 0)
    requests = [
        frames.headers(2 * number + 1, encode(fields), end_stream=bool(number & 1))
        for number, fields in enumerate(BLOCKS)
    ]
    body = frames.data(1, b"hello", end_stream=True)
    yield settings + b"".join(requests) + body
    yield settings + requests[0] + body + frames.headers(3, encode(BLOCKS[2]), end_stream=True)
    yield settings + requests[0] + frames.headers(1, encode(BLOCKS[-1]), end_stream=True)
    yield settings + requests[0] + frames.rst_stream(1, frames.ErrorCode.CANCEL) + frames.window_update(0, 1 << 20)
    block = encode(BLOCKS[0])
    cut = frames.frame(frames.HEADERS, 1, 1, block[:5]) + frames.frame(frames.CONTINUATION, 4, 1, block[5:])
    yield settings + cut + frames.frame(frames.PING, 0, 0, bytes(8)) + frames.frame(frames.SETTINGS, 1, 0)
    padded = frames.frame(frames.HEADERS, 0x2D, 1, b"\3" + bytes(4) + b"\x0f" + block + bytes(3))
    yield settings + padded + frames.goaway(0, frames.ErrorCode.NO_ERROR) + frames.frame(20, 0, 0, b"unknown")
    yield settings + b"".join(frames.headers(2 * n + 1, block, end_stream=True) for n in range(20))
    yield settings + b"".join(frames.headers(2 * n + 1, encode(BLOCKS[2]), end_stream=False) for n in range(20))


def _own_answers() -> Iterator[bytes]:
    settings = server_side().data_to_send()
    block = encode([(b":status", b"200")])
    answer = frames.headers(1, block, end_stream=False) + frames.data(1, b"ok", end_stream=True)
    trailers = frames.headers(9, encode([(b"grpc-status", b"0")]), end_stream=True)
    hints = frames.headers(3, encode([(b":status", b"103")]), end_stream=False)
    yield settings + answer + frames.headers(7, block, end_stream=True)
    yield (
        settings
        + hints
        + frames.headers(9, block, end_stream=False)
        + frames.data(9, b"m", end_stream=False)
        + trailers
    )
    yield settings + hints * 3 + frames.rst_stream(3, frames.ErrorCode.CANCEL) + answer
    yield settings + frames.headers(5, block, end_stream=True)
    yield settings + frames.goaway(3, frames.ErrorCode.NO_ERROR) + frames.window_update(0, 1000) + answer
    yield (
        frames.frame(frames.SETTINGS, 0, 0, b"\0\1\0\0\0\0\0\3\0\0\0\1") + frames.frame(frames.SETTINGS, 1, 0) + answer
    )
    stored = frames.headers(1, b"\x48\x03404", end_stream=True) + frames.headers(7, b"\xbe", end_stream=True)
    other = frames.headers(3, b"\x48\x03500", end_stream=True) + frames.headers(9, b"\xbe", end_stream=True)
    yield settings + stored + other
    yield b"HTTP/1.1 400 Bad Request\r\n\r\n"


def _own_descriptions() -> Iterator[bytes]:
    """Requests and answers of `BLOCKS`, with and without the frames that come between."""
    settings, answer = b"\x84\0\0\0", len(BLOCKS) - 3
    for number in range(len(BLOCKS)):
        head = shape(variant=number & 7, is_tight=bool(number & 8), ending=number & 7)
        first, second = bytes((0x41, 5, 1, number)), bytes((0x61, 4, 3, number))
        yield head + settings + first + second + bytes((0xC1, 4, 1, answer)) + b"\x80\1\1\2ok" + b"\0\1\3\4body"
        yield head + first + bytes((0x61, 5, 5, 2)) + settings + bytes((0x61, 5, 7, number)) + b"\3\0\1\4\0\0\0\x08"
        yield head + b"\x84\0\0\6\0\1\0\0\0\0" + b"\4\1\0\0" + first + b"\x08\0\0\4\0\x10\0\0" + second
        yield head + first + b"\x01\0\x03\0" + b"\x09\4\x03\0" + second + b"\x83\0\1\4\0\0\0\1" + b"\0\1\1\4late"


def _own_blocks() -> Iterator[bytes]:
    blocks = [encode(fields) for fields in BLOCKS]
    yield _blocks(blocks)
    stored = b"\x40\1a\1b"
    yield _blocks([stored, b"\xbe", b"\x20", b"\xbe"])
    yield _blocks([stored]) + b"\xff\xff\0\x21" + _blocks([b"\x20\x3f\2" + stored, b"\xbe\xbe"])
    yield _blocks([b"\x10\1a\1b", b"\0\x82\x9f\xff\1b", b"\x3f\xe1\x1f", b"\x7f\xff\xff\x7f", b"\x0f\x2f\1b"])


def _own_hellos() -> Iterator[bytes]:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for name in ("some.host.test", "deny.test", None):
            yield hellos.real_hello(name, version, ["h2"] if name else [])
    yield hellos.record(hellos.hello(hellos.named(hellos.host(b"outer.test")), hellos.ech_outer())) + b"more"
    for size in (1, 40, 100):
        yield hellos.in_records(hellos.hello(hellos.named(hellos.host(b"a.test"))), size)
    for names in ([b""], [b"a..b"], [b"1.2.3.4"], [b"a", b"b"], [b"\xff"], [b"x" * 256], []):
        yield hellos.record(hellos.hello(hellos.named(*map(hellos.host, names))))
    yield hellos.record(hellos.large_hello(400))
    yield hellos.record(hellos.handshake(hellos.body(None)))
