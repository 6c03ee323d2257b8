"""Strategies: streams of requests and responses, well-formed ones and ones that look like attacks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"]
ODD_METHODS = [b"get", b"G ET", b"PRI", b"XGET", b"CONNECT", b"TRACE", b"", b"G\x00T", b"M-SEARCH"]
TARGETS = [b"/", b"/a", b"/a/b?c=d", b"/~x;y=z", b"/a?b=/../c"]
ODD_TARGETS = [
    b"//a",
    b"/a/../b",
    b"/%2e%2e/a",
    b"/a%2Fb",
    b"/a%",
    b"/a#b",
    b"/a b",
    b"*",
    b"a",
    b"http://other.test/x",
    b"http://other.test",
    b"https://a/",
    b"/\xff",
    b"/a\\b",
    b"/?" + b"q" * 300,
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0"]
ODD_VERSIONS = [b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/01.1", b""]
FIELDS = [
    b"Accept: */*",
    b"X-Empty:",
    b"X-Tab:\ta\t",
    b"Connection: keep-alive",
    b"Cookie: a=b; c=d",
    b"User-Agent: x (y; z)",
    b"X-8bit: \xe4\xff",
    b"Expect: 100-continue",
    b"Accept: text/html",
]
ODD_FIELDS = [
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: +5",
    b"Content-Length: 05",
    b"Content-Length: 5, 5",
    b"Content-Length:",
    b"Content-Length : 5",
    b"Content_Length: 5",
    b"Content-Length: 5\x00",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b" Transfer-Encoding: chunked",
    b"X: a\r\n Transfer-Encoding: chunked",
    b"X: a\nTransfer-Encoding: chunked",
    b"X: a\rTransfer-Encoding: chunked",
    b"Connection: close",
    b"Connection: close, keep-alive",
    b"Connection: content-length",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Host: b",
    b"X-Original-URL: /admin",
    b"Trailer: X",
    b"TE: trailers",
    b"Proxy-Connection: close",
    b"no colon",
    b": nameless",
    b"X\x00Y: a",
    b"X: a\x00b",
    b"\xffX: a",
]
BODIES = [b"", b"hello", b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"x" * 70]
SIZE_LINES = [b"%x", b"%X", b"00%x", b"%x;a=b", b'%x;a="b;c"']
ODD_SIZE_LINES = [b"0x%x", b"+%x", b"%x ", b" %x", b"%x;", b"%x;a\x00", b"%x\n", b'%x;a="', b"1_%x"]
TRAILERS = [b"", b"", b"X-Sum: 1\r\n"]
ODD_TRAILERS = [b"Content-Length: 5\r\n", b"Host: b\r\n", b"X\r\n", b"X: a\n", b"Transfer-Encoding: chunked\r\n"]


@st.composite
def chunked(draw: st.DrawFn, odd: bool = False) -> bytes:
    """A chunked body."""
    out = b""
    for _ in range(draw(st.integers(0, 3))):
        data = draw(st.sampled_from([body for body in BODIES if body]))
        out += draw(st.sampled_from(SIZE_LINES + (ODD_SIZE_LINES if odd else []))) % len(data)
        out += b"\r\n" + data + (draw(st.sampled_from([b"\r\n", b"\n", b"", b"XX"])) if odd else b"\r\n")
    last = draw(st.sampled_from([b"0", b"000", b"0;a=b"]))
    return out + last + b"\r\n" + draw(st.sampled_from(TRAILERS + (ODD_TRAILERS if odd else []))) + b"\r\n"


@st.composite
def plain_request(draw: st.DrawFn) -> bytes:
    """A well-formed request that leaves its connection open, with every framing there is."""
    path = draw(st.sampled_from([b"/a", b"/b?c", b"/admin", b"//a/../b", b"/admin/%7Ex"]))
    fields = draw(st.lists(st.sampled_from([f for f in FIELDS if not f.startswith(b"Expect")]), max_size=3))
    method, framing, body = b"GET", b"", b""
    match draw(st.sampled_from(["none", "head", "length", "chunked"])):
        case "head":
            method = b"HEAD"
        case "length":
            method, body = b"POST", draw(st.sampled_from(BODIES))
            framing = b"Content-Length: %d\r\n" % len(body)
        case "chunked":
            method, body, framing = b"PUT", draw(chunked()), b"Transfer-Encoding: chunked\r\n"
    lines = b"".join(field + b"\r\n" for field in fields)
    return method + b" " + path + b" HTTP/1.1\r\nHost: a\r\n" + lines + framing + b"\r\n" + body


@st.composite
def odd_request(draw: st.DrawFn) -> bytes:
    """A request of parts of which any may be wrong; most often one or two are."""

    def pick(good: list[bytes], odd: list[bytes]) -> bytes:
        return draw(st.sampled_from(good if draw(st.integers(0, 9)) else odd))

    fields = [pick([b"Host: a", b"Host: a:80"], [b"", b"Host: a, b", b"Host: a\r\nHost: a"])]
    fields += draw(st.lists(st.sampled_from(FIELDS + ODD_FIELDS), max_size=4))
    body = draw(st.one_of(st.sampled_from(BODIES), chunked(odd=True)))
    if draw(st.booleans()):
        fields.append(b"Content-Length: %d" % len(body))
    lines = [field for field in draw(st.permutations(fields)) if field]
    start = pick(METHODS, ODD_METHODS) + b" " + pick(TARGETS, ODD_TARGETS) + b" " + pick(VERSIONS, ODD_VERSIONS)
    return b"\r\n".join([start, *lines, b"", b""]) + body


@st.composite
def mutated(draw: st.DrawFn, base: st.SearchStrategy[bytes]) -> bytes:
    """A stream with up to two of its bytes changed, added or removed."""
    data = draw(base)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b"0", b":", b",", b"A", b"\xff"]))
        data = data[:at] + new + data[at + draw(st.integers(0, 1)) :]
    return data


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `to_head`: what the server sends when the request was HEAD."""

    whole: bytes
    to_head: bytes


@st.composite
def answer(draw: st.DrawFn) -> Answer:
    """A well-formed response that leaves its connection open, sometimes with informational ones in front."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * draw(st.integers(0, 2))
    fields = draw(st.sampled_from([b"", b"Server: x\r\n", b"X-8bit: \xe4\r\n"]))
    match draw(st.sampled_from(["length", "chunked", "204", "304", "empty"])):
        case "length":
            body = draw(st.sampled_from(BODIES))
            head = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: %d\r\n\r\n" % len(body)
        case "chunked":
            body = draw(chunked())
            head = b"HTTP/1.1 500\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n"
        case "204":
            head, body = b"HTTP/1.1 204 No Content\r\n" + fields + b"\r\n", b""
        case "304":
            head, body = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n" + fields + b"\r\n", b""
        case _:
            head, body = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields + b"\r\n", b""
    return Answer(early + head + body, early + head)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, cut at the given places (taken modulo its length)."""
    places = sorted({cut % len(data) for cut in cuts} | {0, len(data)}) if data else []
    return [data[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 1 << 16), max_size=12)
