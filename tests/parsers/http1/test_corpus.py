"""The labelled byte streams of the protocol corpus (`../shared/reference/protocol-corpus`), driven through the filter.

"Accepted" is what a server would act on: a whole request reached it. A chunked body is streamed, so the head of a
request whose chunks turn out broken has gone ahead; then the filter must abort, and the server sees a request cut off.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from parsers.errors import ParseError
from parsers.facts import HttpRequest
from parsers.filters import End
from parsers.http.target import canonical_path, split_target
from tests.parsers.http1.driving import Connection, Outcome, Permit, bytewise, client_only, permit_all
from tests.parsers.http1.oracles import read_with_h11

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "reference" / "protocol-corpus"

OVERRULED_REJECT = {
    "gunicorn/invalid/006": "a line of 4 kB: the limit is the server's own, ours is 16 KiB",
    "gunicorn/invalid/007": "a header of 8 kB: the limit is the server's own, ours is 60 KiB for all",
    "gunicorn/invalid/limit_header_default_01": "the same",
    "gunicorn/invalid/041": "two Content-Type lines: no framing; rules on headers see both",
    "llhttp/request/connection.md:83": "bytes behind the last request are not forwarded (RFC 9112 §9.6)",
    "llhttp/request/connection.md:296": "the same",
    "llhttp/request/connection.md:346": "the same",
    "http11probe/MAL-LONG-HEADER-VALUE": "stands for 100,000 bytes and carries 60",
    "http11probe/COMP-UNKNOWN-METHOD": "which methods there may be is the policy's to say",
    "http11probe/SMUG-CL0-BODY-POISON": "XGET is a token: a second request with its own verdict",
    "http11probe/SMUG-EXPECT-100-CL-DESYNC": "two well-framed requests, each with its own verdict",
    "http11probe/SMUG-GET-CL-BODY-DESYNC": "GET may have a body (RFC 9110 §9.3.1), framed by its length",
    "http11probe/SMUG-GET-CL-PREFIX-DESYNC": "the same",
    "http11probe/SMUG-OPTIONS-CL-BODY-DESYNC": "the same for OPTIONS",
    "desync-guardian/ambiguous/30": "Transfer---Encoding is another name to every parser",
}

OVERRULED_ACCEPT = {
    "gunicorn/valid/002": "Host 0.0.0.0=5000 is neither name nor address",
    "gunicorn/valid/003": "the same",
    "llhttp/request/sample.md:69": "the same",
    "llhttp/request/sample.md:107": "the same",
    "gunicorn/valid/009": "a transfer coding besides a length",
    "gunicorn/valid/040_compat": "Content_Length and Transfer_Encoding imitate what frames a message",
    "gunicorn/valid/rfc9112_target_absolute_https_01": "https on a connection without TLS",
    "gunicorn/valid/rfc9112_target_absolute_userinfo_01": "userinfo in the target (RFC 9110 §4.2.4)",
    "llhttp/request/content-length.md:6": "a length with leading zeros: parsers differ on octal",
    "llhttp/request/content-length.md:43": "the same",
    "llhttp/request/finish.md:57": "cut off within a header's name",
    "llhttp/request/method.md:98": "CONNECT with a body: bytes for a tunnel that nobody has agreed to",
    "llhttp/request/method.md:137": "the target * with a method other than OPTIONS",
    "llhttp/request/method.md:432": "RTSP",
    "llhttp/request/method.md:460": "PRI is HTTP/2's",
    "llhttp/request/sample.md:316": "HTTP/0.9",
    "llhttp/request/uri.md:167": "a fragment in the target (CVE-2021-32779)",
    "http11probe/COMP-HTTP12-VERSION": "505 is one of the two answers that the row expects",
}
"""Besides the kinds of `_lenience`, which rows name themselves."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled stream."""

    id: str
    expect: str
    why: str
    data: bytes


def load(name: str) -> list[Row]:
    """Rows of a corpus file. Without the corpus there is one row that skips, or fails where CI says so."""
    path = CORPUS / name
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Row(row["id"], row["expect"], row["why"], base64.b64decode(row["b64"])) for row in rows]


def need(name: str) -> Path:
    path = CORPUS / name
    if not path.exists():
        message = f"THE PROTOCOL CORPUS IS ABSENT, nothing of it was tested: {path}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


REQUESTS = load("http1_requests.jsonl")
RESPONSES = load("http1_responses.jsonl")


def rows_of(*expect: str) -> list[Row]:
    return [row for row in REQUESTS if row.expect in expect]


def whole_requests(outcome: Outcome) -> list[bytes]:
    """Targets of the requests that reached the server whole."""
    return [request.target for request in read_with_h11(outcome.to_server).requests]


def without_tunnels(request: HttpRequest) -> bool:
    """As policies do: CONNECT is for rules that name it."""
    return request.method != b"CONNECT"


def both_ways(data: bytes, permit: Permit = without_tunnels) -> Iterator[Outcome]:
    yield client_only([data], permit)
    yield client_only(bytewise(data), permit)


def names(rows: list[Row]) -> list[str]:
    return [row.id for row in rows]


def test_the_corpus_is_there() -> None:
    need("http1_requests.jsonl")
    assert len(REQUESTS) > 2000
    assert len(RESPONSES) > 50


def test_what_is_overruled_is_in_the_corpus_and_little() -> None:
    need("http1_requests.jsonl")
    assert len(OVERRULED_REJECT) <= 20
    assert set(OVERRULED_REJECT) <= set(names(rows_of("reject")))
    assert set(OVERRULED_ACCEPT) <= set(names(rows_of("accept")))


@pytest.mark.parametrize("row", rows_of("reject"), ids=lambda row: row.id)
def test_rejected(row: Row) -> None:
    for outcome in both_ways(row.data):
        accepted = whole_requests(outcome)
        if row.id in OVERRULED_REJECT:
            assert len(accepted) == len(outcome.requests), "an overruled row is framed as it was judged"
            continue
        assert not accepted, row.why
        assert not outcome.to_server or outcome.end is End.ABORT, f"forwarded, and not cut off: {row.why}"


@pytest.mark.parametrize("row", rows_of("one_request_or_reject", "reject_or_normalise"), ids=lambda row: row.id)
def test_at_most_one_request(row: Row) -> None:
    for outcome in both_ways(row.data):
        accepted = whole_requests(outcome)
        assert len(accepted) <= 1, row.why
        assert b"/admin" not in accepted, row.why
        assert len(outcome.requests) <= 1, row.why


@pytest.mark.parametrize("row", rows_of("either", "any"), ids=lambda row: row.id)
def test_whatever_is_forwarded_is_framed(row: Row) -> None:
    for outcome in both_ways(row.data):
        reading = read_with_h11(outcome.to_server)
        cut_off = outcome.end is End.ABORT
        permitted = [request for request in outcome.requests if without_tunnels(request)]
        assert len(reading.requests) == len(permitted) - cut_off, reading.error
        assert reading.error == "", row.why


def completed(data: bytes) -> bytes:
    """Some rows are cut short or have no Host: with what is missing they say what they are there to say."""
    if b"\r\n\r\n" not in data:
        data += b"\r\n" if data.endswith(b"\r\n") else b"\r\n\r\n"
    head, blank, rest = data.partition(b"\r\n\r\n")
    if re.search(rb"(?im)^host:", head) is None:
        head = head.replace(b"\r\n", b"\r\nHost: allowed.test\r\n", 1) if b"\r\n" in head else head + b"\r\nHost: a"
    return head + blank + rest


def _lenience(row: Row) -> str:
    """Why a row asks for a lenience that a filter must not have; empty if it does not."""
    head = row.data.partition(b"\r\n\r\n")[0].lower()
    codings = re.findall(rb"^transfer-encoding[ \t]*:[ \t]*(.*?)[ \t]*\r?$", head, re.MULTILINE)
    if codings and codings != [b"chunked"]:
        return "codings other than plain chunked are ambiguous (RFC 9112 §6.1)"
    if "cfg:" in row.why:
        return "the row is for a server with a lenient option switched on"
    return OVERRULED_ACCEPT.get(row.id, "")


@pytest.mark.parametrize("row", rows_of("accept"), ids=lambda row: row.id)
def test_accepted(row: Row) -> None:
    data = completed(row.data.removeprefix(b"\r\n"))
    for outcome in both_ways(data, permit_all):
        if why := _lenience(row):
            assert not whole_requests(outcome) or row.id not in OVERRULED_ACCEPT, f"no need to overrule: {why}"
            continue
        assert outcome.requests, outcome.failure
        assert outcome.to_server.startswith(outcome.requests[0].method + b" "), outcome.failure


OVERRULED_RESPONSES = {
    "llhttp/response/connection.md:166": "204 is answered; what is behind it is not passed on",
    "llhttp/response/connection.md:229": "the answer is complete by its length; what is behind it is not passed on",
    "llhttp/response/connection.md:333": "101 that nobody asked for",
    "llhttp/response/connection.md:494": "bytes between two answers that belong to neither",
    "llhttp/response/pipelining.md:6": "the same",
    "llhttp/response/sample.md:42": "RTSP",
    "llhttp/response/sample.md:62": "ICE",
    "llhttp/response/sample.md:697": "an empty line in front of an answer",
    "llhttp/response/transfer-encoding.md:45": "a coding besides chunked",
    "llhttp/response/transfer-encoding.md:114": "the same",
}
ASK = b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n"


def answered(data: bytes, step: int) -> Outcome:
    """Three requests are waiting when the server sends `data` and closes."""
    connection = Connection()
    connection.client(ASK * 3)
    for at in range(0, len(data), step):
        connection.server(data[at : at + step])
    connection.server_eof()
    return connection.done()


@pytest.mark.parametrize("row", RESPONSES, ids=lambda row: row.id)
def test_responses(row: Row) -> None:
    data = row.data if b"\r\n\r\n" in row.data else row.data + b"\r\n"
    for step in (len(data), 1):
        outcome = answered(data, step)
        if row.id in OVERRULED_RESPONSES or row.expect == "either":
            continue
        if row.expect == "reject":
            assert outcome.end is End.ABORT or outcome.to_client.startswith(b"HTTP/1.1 502 ")
        else:
            assert outcome.exchanges, outcome.failure
            assert outcome.to_client.startswith(data[: data.find(b"\r\n\r\n") + 4]), outcome.failure


def test_overruled_responses_are_in_the_corpus() -> None:
    need("http1_responses.jsonl")
    assert set(OVERRULED_RESPONSES) <= set(names(RESPONSES))


def vectors(name: str) -> list[list[str]]:
    path = CORPUS / name
    if not path.is_file():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [line.split("\t") for line in lines]


def raw(text: str) -> bytes:
    """Vectors write bytes that are not text as backslash x and backslash t."""
    text = re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)
    return text.replace("\\t", "\t").encode("latin-1")


PUBLIC = re.compile(rb"/public/.*")


def permits(request: HttpRequest) -> bool:
    return request.host.lower() == b"allowed.test" and PUBLIC.fullmatch(request.path) is not None


PATHS = vectors("path_vectors.tsv")
# A raw TAB is written as a TAB: the row has one column more.
PATHS = [["/public/a\tb", *row[2:]] if row[:2] == ["/public/a", "b"] else row for row in PATHS]
VERDICTS = {
    "allow": {"forwarded"},
    "deny": {"403"},
    "400": {"400"},
    "redirect307_or_400": {"400"},
    "deny_or_400": {"400", "403"},
    "allow_raw_or_400": {"forwarded", "400"},
    "allow_or_deny": {"forwarded", "403"},
    "400_or_deny": {"400", "403"},
    "allow_if_rule_allows_port": {"403"},
    "400 / RST PROTOCOL_ERROR": {"400"},
}


def verdict(outcome: Outcome) -> str:
    if outcome.to_server:
        return "forwarded"
    return outcome.to_client[9:12].decode()


def test_the_vectors_are_there() -> None:
    need("path_vectors.tsv")
    need("host_vectors.tsv")
    assert len(PATHS) >= 59


@pytest.mark.parametrize("row", PATHS, ids=lambda row: repr(row[0]))
def test_paths(row: list[str]) -> None:
    target, canonical, expected = raw(row[0]), row[1], row[2]
    for outcome in both_ways(b"GET " + target + b" HTTP/1.1\r\nHost: allowed.test\r\n\r\n", permits):
        assert verdict(outcome) in VERDICTS[expected], outcome.failure
        if outcome.to_server:
            forwarded = outcome.to_server.split(b" ")[1]
            assert forwarded == outcome.requests[0].path, "what was judged is what is forwarded"
            assert canonical.lower() in ("either", forwarded.decode().lower())
            assert canonical_path(forwarded) == forwarded, "the canonical form is its own canonical form"


@pytest.mark.parametrize("row", PATHS, ids=lambda row: repr(row[0]))
def test_a_canonical_path_is_a_fixed_point(row: list[str]) -> None:
    try:
        path, _ = split_target(b"GET", raw(row[0]))
    except ParseError:
        return
    assert split_target(b"GET", path) == (path, None)


HOSTS = {
    "(empty)": b"Host: \r\n",
    "(missing, HTTP/1.1)": b"",
    "(two Host lines, same)": b"Host: allowed.test\r\nHost: allowed.test\r\n",
    "(two Host lines, different)": b"Host: allowed.test\r\nHost: evil.test\r\n",
}
HTTP2_ONLY = "(Host + different :authority in HTTP/2)"


@pytest.mark.parametrize(
    "row", [row for row in vectors("host_vectors.tsv") if row[0] != HTTP2_ONLY], ids=lambda row: repr(row[0])
)
def test_hosts(row: list[str]) -> None:
    lines = HOSTS.get(row[0], b"Host: " + raw(row[0]) + b"\r\n")
    for outcome in both_ways(b"GET /public/a HTTP/1.1\r\n" + lines + b"\r\n", permits):
        assert verdict(outcome) in VERDICTS[row[1]], outcome.failure
        if outcome.to_server:
            assert b"Host: " + outcome.requests[0].host + b"\r\n" in outcome.to_server
