"""What is fuzzed: functions of bytes that raise only when something is wrong.

The first bytes of an input choose how the others arrive (`tests.fuzz.shaping`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType

import h2.config
import h2.connection
import hpack
from hpack.exceptions import HPACKError

from parsers.facts import HttpRequest, edited_fields
from parsers.filters import End, Filter
from parsers.http.judging import Exchange
from parsers.http.opening import Opening
from parsers.http1.filter import Http1Filter
from parsers.http1.judging import Http1Shared
from parsers.http2 import frames
from parsers.http2.conversation import Http2Shared
from parsers.http2.filter import Http2Filter
from parsers.http2.frames import PREFACE, ConnectionFault
from parsers.http2.hpack import MAX_TABLE, Decoder, Field, encode
from parsers.limits import Http1Limits, Http2Limits
from parsers.tls.filter import TlsFilter
from tests.fuzz import judge as judging
from tests.fuzz.dns import dns_answer, dns_query, dns_tcp
from tests.fuzz.framing import Headers, read_as_client, read_as_server, server_side, trailers, without_credit
from tests.fuzz.judge import Forgetful, Judge, Permit, permits, permits_no_tunnel
from tests.fuzz.kafka import kafka_answer, kafka_request
from tests.fuzz.run import Run
from tests.fuzz.shaping import Reader, Shape, pieces, shaped
from tests.parsers.http1.oracles import Framed, Reading, read_with_h11, read_with_llhttp
from tests.parsers.http1.test_differential import _may_stop

Target = Callable[[bytes], None]
SERVER_NAME = re.compile(r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?")


# -- HTTP/1 --------------------------------------------------------------------------------------------------------


class _Http1Run(Run):
    """`warm`: a run whose judge and shared state, with what they remember, are used again."""

    def __init__(
        self, shape: Shape, *, forgets: bool = False, warm: _Http1Run | None = None, permit: Permit = permits
    ) -> None:
        limits = judging.HTTP1_TIGHT if shape.is_tight else judging.HTTP1_LIMITS
        self.judge: Judge = warm.judge if warm else Judge(shape.variant, permit)
        self.shared: Http1Shared = warm.shared if warm else Http1Shared(limits)
        if forgets:
            self.judge.memo = Forgetful(looks_at_headers=True)
        super().__init__(Http1Filter(self.judge, self.shared))


def http1_request(data: bytes) -> None:
    """Requests of a client: however they arrive the same goes on, and other parsers frame it as it was judged."""
    shape, stream = shaped(data)
    whole = _http1_client(shape, [stream], forgets=True)
    cut = _http1_client(shape, pieces(stream, shape.sizes), forgets=True)
    first = _http1_client(shape, pieces(stream, shape.sizes[::-1]), forgets=False)
    again = _http1_client(shape, [stream], forgets=False, warm=first)
    assert cut.judge.seen == whole.judge.seen
    for other in (cut, first, again):
        _same_http1_requests(whole, other)
    assert _records(cut.shared.exchanges) == _records(whole.shared.exchanges)
    assert _records(first.shared.exchanges) == _records(whole.shared.exchanges) * 2, "with those of `again`"
    _framed_alike(whole)
    other = _Http1Run(shape)
    other.client(pieces(stream, shape.sizes))
    other.finish(shape.ending)


def _http1_client(shape: Shape, data: Iterable[bytes], *, forgets: bool, warm: _Http1Run | None = None) -> _Http1Run:
    run = _Http1Run(shape, forgets=forgets, warm=warm, permit=permits_no_tunnel)
    run.client(piece for piece in data if piece)
    run.finish(0)
    return run


def _same_http1_requests(whole: _Http1Run, other: _Http1Run) -> None:
    """A request that is cut off may have got further in one way than in another. What is wrong first is not always
    seen first, so the answer to bytes that do not parse may be another."""
    assert other.end is whole.end
    assert bool(other.failure) == bool(whole.failure), (whole.failure, other.failure)
    if whole.end is End.ABORT:
        _one_starts_with_the_other(whole.to_server, other.to_server)
    else:
        assert other.to_server == whole.to_server
    if not whole.failure:
        assert other.to_client == whole.to_client


def _one_starts_with_the_other(one: bytes, other: bytes) -> None:
    shorter, longer = sorted((one, other), key=len)
    assert longer.startswith(shorter)


def _framed_alike(run: _Http1Run) -> None:
    permitted = [request for request in run.judge.seen if permits_no_tunnel(request)]
    if run.end is End.ABORT and run.failure:
        permitted = permitted[:-1]
    found = []
    for oracle, reading in (("h11", read_with_h11(run.to_server)), ("llhttp", read_with_llhttp(run.to_server))):
        found.append(_framed(oracle, reading, permitted, run.to_server))
    assert not trailers(run.to_server), "trailers of requests are left out"
    both = min(map(len, found))
    assert found[0][:both] == found[1][:both], "the bodies differ"


def _framed(oracle: str, reading: Reading, permitted: list[HttpRequest], forwarded: bytes) -> list[Framed]:
    """The requests that the oracle finds: those that were judged, in order, and nothing else."""
    found = [(request.method, request.target) for request in reading.requests]
    expected = [(request.method, request.path) for request in permitted]
    assert found == expected[: len(found)], f"{oracle} finds other requests: {found} {expected} {reading.error}"
    if len(found) < len(expected):
        before, request = permitted[: len(found)], permitted[len(found)]
        why = _may_stop(before, request, oracle, forwarded)
        assert why, f"{oracle} stops before {expected[len(found)]}: {reading.error or 'it waits for more'}"
    return reading.requests


ASKED = (
    (b"GET /1", b"GET /2", b"GET /3"),
    (b"HEAD /1", b"GET /2", b"HEAD /3"),
    (b"GET /1", b"GET /deny", b"GET /3"),
    (b"GET /1",),
    (b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",),
    (b"CONNECT a:80",),
    (b"UPGRADE",),
    (b"GET /1", b"CLOSE"),
)
UPGRADE = (
    b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CLOSE = b"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def _ask(what: bytes) -> bytes:
    if b"\r\n" in what:
        return what
    return {b"UPGRADE": UPGRADE, b"CLOSE": CLOSE}.get(what) or what + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def http1_response(data: bytes) -> None:
    """What a server says to requests that wait for it."""
    shape, stream = shaped(data)
    whole = _http1_server(shape, [stream])
    cut = _http1_server(shape, pieces(stream, shape.sizes))
    again = _http1_server(shape, pieces(stream, shape.sizes[::-1]), warm=cut)
    for other in (cut, again):
        assert other.end is whole.end
        assert bool(other.failure) == bool(whole.failure), (whole.failure, other.failure)
        if whole.end is End.ABORT:
            _one_starts_with_the_other(whole.to_client, other.to_client)
        else:
            assert other.to_client == whole.to_client
    assert _records(cut.shared.exchanges) == _records(whole.shared.exchanges) * 2
    if b"chunked" not in stream.lower() and b"/deny" not in b"".join(ASKED[shape.variant]):
        passed = whole.to_client
        assert stream.startswith(passed) or (whole.failure and b"HTTP/1.1 502 " in passed)


def _http1_server(shape: Shape, data: Iterable[bytes], *, warm: _Http1Run | None = None) -> _Http1Run:
    run = _Http1Run(shape._replace(variant=0), warm=warm)
    run.client([b"".join(map(_ask, ASKED[shape.variant]))])
    run.server(piece for piece in data if piece)
    run.client([b"late"] if run.filter.may_be_silent else [])
    run.finish(shape.ending & 4 | 1)
    return run


def _records(exchanges: Iterable[Exchange]) -> list[tuple[bytes, bytes, bytes, int]]:
    return [(it.judged.facts.method, it.judged.facts.path, it.judged.facts.host, it.status) for it in exchanges]


# -- HTTP/2 --------------------------------------------------------------------------------------------------------


class _Http2Run(Run):
    """`live`: streams that the server knows, and whether their client has said all."""

    filter: Http2Filter

    def __init__(self, shape: Shape, *, remembers: bool = True) -> None:
        limits = judging.HTTP2_TIGHT if shape.is_tight else judging.HTTP2_LIMITS
        if not remembers:
            limits = replace(limits, memo_block_bytes=0)
        self.judge = Judge(shape.variant)
        self.shared = Http2Shared(limits)
        self.live: dict[int, bool] = {}
        super().__init__(Http2Filter(self.judge, self.shared))

    def finish(self, ending: int) -> None:
        live = self.filter._conversation.streams.live
        self.live = {number: it.client_done for number, it in live.items() if not it.is_kept}
        super().finish(ending)

    @property
    def forwarded(self) -> list[Exchange]:
        """One for each request that the server got, once the run is finished."""
        return [exchange for exchange in self.shared.exchanges if exchange.judged.ruling.permit]


def http2_request(data: bytes) -> None:
    """Frames of a client behind its preface. An `ending` from 4 on: the server has said its first words before."""
    shape, stream = shaped(data)
    whole = _http2_client(shape, [stream], remembers=False)
    cut = _http2_client(shape, pieces(stream, shape.sizes))
    _same_http2(whole, cut)
    for run in (whole, cut):
        _understood_alike(run)


def _http2_client(shape: Shape, data: Iterable[bytes], *, remembers: bool = True) -> _Http2Run:
    run = _Http2Run(shape, remembers=remembers)
    run.client([PREFACE])
    if shape.ending & 4:
        run.server([server_side().data_to_send()])
    run.client(piece for piece in data if piece)
    run.finish(shape.ending)
    return run


def _same_http2(whole: _Http2Run, cut: _Http2Run) -> None:
    """Too many answers that wait are seen at the end of what was read: who reads more at once passes more on."""
    if "waiting_answer_bytes" in (whole.limit, cut.limit):
        _one_starts_with_the_other(whole.to_server, cut.to_server)
        return
    assert (cut.end, cut.failure, cut.limit) == (whole.end, whole.failure, whole.limit)
    assert cut.to_server == whole.to_server
    (told, credit), (told_too, credit_too) = without_credit(whole.to_client), without_credit(cut.to_client)
    assert told_too == told
    assert credit_too == credit or whole.failure, "what is owed at a failure is not paid any more"
    assert _records(cut.shared.exchanges) == _records(whole.shared.exchanges)
    assert [(it.reason, it.limit) for it in cut.shared.complaints] == [
        (it.reason, it.limit) for it in whole.shared.complaints
    ]


def _understood_alike(run: _Http2Run) -> None:
    """The server sees the requests that were permitted, as they were judged, and no other."""
    reading = read_as_server(run.to_server)
    seen = [_as_judged(headers) for headers in reading.requests.values()]
    assert all(permits(request) for request in seen), "a refused request has reached the server"
    edits = run.judge.edits
    permitted = [
        _sorted(replace(facts, headers=tuple(edited_fields(facts.headers, edits))))
        for facts in (exchange.judged.facts for exchange in run.forwarded)
    ]
    if not reading.error:
        assert sorted(map(_key, seen)) == sorted(map(_key, permitted)), (seen, permitted)
        assert all(number in reading.requests for number in run.live)
        assert all(is_done == (number in reading.ended) for number, is_done in run.live.items())
        return
    for request in seen:
        assert request in permitted, (request, permitted)
        permitted.remove(request)


def _as_judged(headers: Headers) -> HttpRequest:
    """The request that h2 has understood, in the terms of rules."""
    fields = dict(headers)
    host = fields[b":authority"] if b":authority" in fields else fields[b"host"]
    regular = [(name, value) for name, value in headers if not name.startswith(b":") and name != b"host"]
    return _sorted(HttpRequest(fields[b":method"], fields.get(b":path", b""), host, ((b"host", host), *regular)))


def _sorted(request: HttpRequest) -> HttpRequest:
    return replace(request, headers=tuple(sorted(request.headers)))


def _key(request: HttpRequest) -> tuple[bytes, bytes, bytes, tuple[tuple[bytes, bytes], ...]]:
    return request.method, request.path, request.host, request.headers


BASE = [(b":scheme", b"http"), (b":authority", b"a.test")]
CALL = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
OPEN: Sequence[tuple[int, Headers, bool]] = (
    (1, [(b":method", b"GET"), *BASE, (b":path", b"/a")], True),
    (3, [(b":method", b"POST"), *BASE, (b":path", b"/b")], False),
    (5, [(b":method", b"GET"), *BASE, (b":path", b"/deny")], True),
    (7, [(b":method", b"HEAD"), *BASE, (b":path", b"/c")], True),
    (9, [(b":method", b"POST"), *BASE, (b":path", b"/p.S/M"), *CALL], False),
)


def http2_response(data: bytes) -> None:
    """Frames of a server behind a few open requests, of which one was refused."""
    shape, stream = shaped(data)
    whole, _ = _http2_server(shape, [stream], remembers=False)
    cut, client = _http2_server(shape, pieces(stream, shape.sizes))
    _same_http2(whole, cut)
    reading = read_as_client(client, cut.to_client)
    if not reading.error:
        told = {exchange.judged.facts.path: exchange.status for exchange in cut.shared.exchanges}
        for number, headers, _ in OPEN:
            path = dict(headers)[b":path"]
            if number in reading.statuses and dict(CALL).items() <= dict(headers).items():
                assert reading.statuses[number] in (told[path], 200)
            elif number in reading.statuses:
                assert reading.statuses[number] == told[path]
            else:
                assert told.get(path, 0) == 0 or number == 5, "an answer is on record that the client has not got"


def _http2_server(
    shape: Shape, data: Iterable[bytes], *, remembers: bool = True
) -> tuple[_Http2Run, h2.connection.H2Connection]:
    run = _Http2Run(shape, remembers=remembers)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    client.initiate_connection()
    for number, headers, is_whole in OPEN:
        client.send_headers(number, headers, end_stream=is_whole)
    run.client([client.data_to_send()])
    run.server(piece for piece in data if piece)
    run.finish(shape.ending & 4 | 1)
    return run, client


BLOCKS: Sequence[Headers] = (
    *[headers for _, headers, _ in OPEN],
    [(b":method", b"POST"), *BASE, (b":path", b"/d"), (b"content-length", b"4")],
    [(b":method", b"GET"), *BASE, (b":path", b"/x/../deny/./%7e"), (b"x-trace", b"0123456789abcdef")],
    [(b":method", b"GET"), *BASE, (b":path", b"/x/../e"), (b"x-trace", b"0123456789abcdef")],
    [(b":method", b"GET"), *BASE, (b":path", b"/f%2f"), (b"x-other", b"1")],
    [(b":method", b"GET"), *BASE, (b":path", b"/g"), (b"x-original-url", b"/deny"), (b"x-bad", b"1")],
    [(b":method", b"CONNECT"), (b":authority", b"db.test:5432")],
    [(b":method", b"GET"), *BASE, (b":path", b"/h"), *[(b"cookie", b"c%d=1" % number) for number in range(9)]],
    [(b":method", b"GET"), *BASE, (b":path", b"/i"), (b"X-Upper", b"1"), (b"x-stored", b"v")],
    [(b":status", b"200"), (b"x-trace", b"0123456789abcdef")],
    [(b":status", b"103"), (b"link", b"</x>")],
    [(b"x-trailer", b"1"), (b"grpc-status", b"0")],
)


def http2_frames(data: bytes) -> None:
    """Frames of both sides, one after another, from a description that is always well framed.

    A frame is a type (bits 0-3; 64: its payload is a header block of `BLOCKS`; 128: the server sends it), flags,
    a stream, and the payload with its length.
    """
    shape, description = shaped(data)
    sent = _described(description)
    whole = _http2_frames(shape, [(is_server, [raw]) for is_server, raw in sent], remembers=False)
    cut = _http2_frames(shape, [(is_server, pieces(raw, shape.sizes)) for is_server, raw in sent])
    _same_http2(whole, cut)
    _understood_alike(whole)


def _http2_frames(shape: Shape, sent: Iterable[tuple[bool, Iterable[bytes]]], *, remembers: bool = True) -> _Http2Run:
    run = _Http2Run(shape, remembers=remembers)
    run.client([PREFACE + frames.frame(frames.SETTINGS, 0, 0)])
    for is_server, data in sent:
        (run.server if is_server else run.client)(data)
    run.finish(shape.ending)
    without_credit(run.to_client)
    return run


def _described(description: bytes) -> list[tuple[bool, bytes]]:
    reader = Reader(description)
    encoders = {False: hpack.Encoder(), True: hpack.Encoder()}
    sent: list[tuple[bool, bytes]] = []
    while reader:
        kind, flags, stream, size = (reader.number() for _ in range(4))
        is_server = bool(kind & 128)
        if kind & 64:
            payload = encoders[is_server].encode(BLOCKS[size % len(BLOCKS)])
        else:
            payload = reader.take(size & 63) * (size >> 6 or 1)
        raw = frames.frame(kind & 15, flags, stream, payload)
        if sent and sent[-1][0] == is_server and kind & 32:
            sent[-1] = is_server, sent[-1][1] + raw
        else:
            sent.append((is_server, raw))
    return sent


# -- HPACK ---------------------------------------------------------------------------------------------------------

MAX_LIST = 8192
STRICTER = ("a number of a header block is cut off or too large",)
"""Reasons for which our decoder may refuse what the library takes: it bounds numbers, the library only their bytes."""


def hpack_blocks(data: bytes) -> None:
    """Header blocks one after another, each behind its length; a length of 65535: a new limit of the table follows."""
    reader = Reader(data)
    ours, theirs = Decoder(MAX_LIST), hpack.Decoder(MAX_LIST)
    while reader:
        size = reader.number(2)
        if size == 0xFFFF:
            limit = reader.number(2) % (MAX_TABLE + 1)
            ours.limit = theirs.max_allowed_table_size = limit
            continue
        if not _decoded_alike(ours, theirs, reader.take(size)):
            return


def _decoded_alike(ours: Decoder, theirs: hpack.Decoder, block: bytes) -> bool:
    """False: the block is refused, and there is no more to compare."""
    expected = _library_decodes(theirs, block)
    version, refused = ours.version, ""
    try:
        found = ours.decode(block)
    except ConnectionFault as fault:
        refused = fault.reason
    if refused:
        assert expected is None or refused in STRICTER, f"refused: {refused}: {expected}"
        return False
    assert expected is not None, f"the library refuses what was taken for {found}"
    assert found == expected
    assert [(it.name, it.value) for it in ours._entries] == list(theirs.header_table.dynamic_entries)
    assert ours._table_size == theirs.header_table_size
    if ours.version == version:
        assert ours.decode(block) == found, "a block that changes nothing means the same again"
    again = _library_decodes(hpack.Decoder(1 << 20), encode(found))
    assert again == found, "what we encode is what was decoded"
    return True


def _library_decodes(decoder: hpack.Decoder, block: bytes) -> list[Field] | None:
    try:
        fields = decoder.decode(block, raw=True)
    except HPACKError:
        return None
    return [Field(bytes(field[0]), bytes(field[1]), not field.indexable) for field in fields]


# -- TLS and the first bytes -----------------------------------------------------------------------------------------


def tls_hello(data: bytes) -> None:
    """The start of a TLS connection."""
    shape, stream = shaped(data)
    whole = _tls(shape, [stream])
    cut = _tls(shape, pieces(stream, shape.sizes))
    assert (cut.to_server, cut.end, cut.failure, cut.limit) == (whole.to_server, whole.end, whole.failure, whole.limit)
    assert not whole.to_client
    for run in (whole, cut):
        hello = run.filter.hello
        assert run.names == ([hello.server_name] if hello else [])
        assert hello is None or SERVER_NAME.fullmatch(hello.server_name)
        assert run.to_server in (b"", stream)
        assert not run.to_server or (hello is not None and not hello.server_name.startswith("deny"))


class _TlsRun(Run):
    filter: TlsFilter

    def __init__(self, shape: Shape) -> None:
        judge = Judge()
        self.names = judge.names
        self.limits = judging.TLS_TIGHT if shape.is_tight else judging.TLS_LIMITS
        super().__init__(TlsFilter(judge, self.limits))

    def check_bounds(self, read: int) -> None:
        reader = self.filter._reader
        assert reader is None or len(reader.held) <= self.limits.hello_bytes + 4 + 5 * self.limits.record_count + read


def _tls(shape: Shape, data: Iterable[bytes]) -> _TlsRun:
    run = _TlsRun(shape)
    run.client(piece for piece in data if piece)
    run.finish(shape.ending)
    return run


def opening(data: bytes) -> None:
    """Any first bytes on a port with HTTP rules."""
    shape, stream = shaped(data)
    whole = _opened(shape, [stream])
    cut = _opened(shape, pieces(stream, shape.sizes))
    assert type(cut.filter) is type(whole.filter)
    assert cut.end is whole.end
    assert bool(cut.failure) == bool(whole.failure)
    if "waiting_answer_bytes" in (whole.limit, cut.limit):
        _one_starts_with_the_other(whole.to_server, cut.to_server)
        return
    assert cut.judge.seen == whole.judge.seen
    if whole.end is End.ABORT:
        _one_starts_with_the_other(whole.to_server, cut.to_server)
    else:
        assert cut.to_server == whole.to_server


class _OpeningRun(Run):
    def __init__(self, shape: Shape) -> None:
        self.judge = Judge(shape.variant)
        self.judge.memo = Forgetful(looks_at_headers=True)
        http1: Http1Limits = judging.HTTP1_TIGHT if shape.is_tight else judging.HTTP1_LIMITS
        http2: Http2Limits = judging.HTTP2_TIGHT if shape.is_tight else judging.HTTP2_LIMITS
        super().__init__(Opening(self.judge, Http1Shared(http1), Http2Shared(http2), None, self._choose))

    def _choose(self, filter_: Filter) -> None:
        self.filter = filter_


def _opened(shape: Shape, data: Iterable[bytes]) -> _OpeningRun:
    run = _OpeningRun(shape)
    run.client(piece for piece in data if piece)
    run.finish(shape.ending)
    return run


TARGETS: MappingProxyType[str, Target] = MappingProxyType(
    {
        "http1_request": http1_request,
        "http1_response": http1_response,
        "http2_request": http2_request,
        "http2_response": http2_response,
        "http2_frames": http2_frames,
        "hpack": hpack_blocks,
        "tls_hello": tls_hello,
        "opening": opening,
        "kafka_request": kafka_request,
        "kafka_answer": kafka_answer,
        "dns_query": dns_query,
        "dns_answer": dns_answer,
        "dns_tcp": dns_tcp,
    }
)
