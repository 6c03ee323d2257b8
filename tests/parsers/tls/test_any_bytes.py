"""Whatever the bytes are: a hello, a wish for more, or a ParseError, and the same however they are cut."""

from __future__ import annotations

import re
import ssl
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.errors import ParseError
from parsers.facts import ClientHello
from parsers.filters import End
from parsers.tls.client_hello import HelloReader, TlsLimits, parse_client_hello_untrusted
from parsers.tls.filter import NameRuling, TlsFilter
from tests.parsers.tls.hellos import ech_outer, hello, host, in_records, named, real_hello, record

LIMITS = TlsLimits(hello_bytes=2048, record_count=8)
SETTINGS = settings(max_examples=400)
NAME = re.compile(r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?")
Verdict = ClientHello | tuple[str, str] | None

REAL = [
    real_hello("some.host.test", ssl.TLSVersion.TLSv1_2),
    real_hello("some.host.test", ssl.TLSVersion.TLSv1_3, ["h2"]),
    real_hello(None, ssl.TLSVersion.TLSv1_3),
    record(hello(named(host(b"outer.test")), ech_outer())),
    record(hello(named(host(b"a")))),
]


@st.composite
def in_some_records(draw: st.DrawFn) -> bytes:
    return in_records(draw(st.sampled_from(REAL))[5:], draw(st.sampled_from([1, 40, 100, 16384])))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A hello with a few bytes changed, put in or taken away."""
    data = bytearray(draw(in_some_records()))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["change", "insert", "remove", "cut"])):
            case "change":
                data[at] = draw(
                    st.integers(0, 255) | st.sampled_from([(data[at] + step) % 256 for step in (-2, -1, 1, 2)])
                )
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "cut":
                del data[at + 1 :]
        if not data:
            break
    return bytes(data) + draw(st.sampled_from([b"", b"\x14\x03\x03\x00\x01\x01", b"more"]))


@st.composite
def nested(draw: st.DrawFn) -> bytes:
    """Well-framed up to the extensions; what is in them is anything."""
    kinds = st.sampled_from([0, 0, 16, 0xFE0D]) | st.integers(0, 65535)
    content = st.binary(max_size=40) | st.lists(
        st.builds(host, st.binary(max_size=12) | st.from_regex(rb"[a-z0-9.]{1,9}", fullmatch=True), st.integers(0, 1)),
        max_size=2,
    ).map(lambda entries: named(*entries)[1])
    extensions = draw(st.lists(st.tuples(kinds, content), max_size=5))
    return in_records(hello(*extensions), draw(st.sampled_from([30, 16384])))


ANY = st.one_of(
    st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"\x16\x03\x01" + tail), mutated(), nested()
)


def verdict(data: bytes) -> Verdict:
    try:
        return parse_client_hello_untrusted(data, LIMITS)
    except ParseError as error:
        return error.reason, error.limit


@st.composite
def cut(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    data = draw(ANY)
    if draw(st.booleans()):
        return data, [data[at : at + 1] for at in range(len(data))]
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return data, [data[start:end] for start, end in pairwise([0, *places, len(data)])]


@SETTINGS
@given(ANY)
def test_three_outcomes_and_no_others(data: bytes) -> None:
    found = verdict(data)
    if isinstance(found, ClientHello):
        assert NAME.fullmatch(found.server_name)


@SETTINGS
@given(ANY, st.binary(max_size=20))
def test_a_verdict_is_final(data: bytes, more: bytes) -> None:
    found = verdict(data)
    if found is not None:
        assert verdict(data + more) == found


@SETTINGS
@given(cut())
def test_pieces_change_no_verdict(pieces: tuple[bytes, list[bytes]]) -> None:
    data, parts = pieces
    reader = HelloReader(LIMITS)
    found: Verdict = None
    for part in parts:
        try:
            found = reader.feed(part)
        except ParseError as error:
            found = error.reason, error.limit
        if found is not None:
            break
    assert found == verdict(data)


class Judge:
    def __init__(self, permit: bool) -> None:
        self.permit = permit
        self.seen: list[ClientHello] = []

    def rule_name(self, hello: ClientHello) -> NameRuling:
        self.seen.append(hello)
        return NameRuling(self.permit, reason="" if self.permit else "no")


@SETTINGS
@given(cut(), st.booleans())
def test_filter_passes_all_or_nothing(pieces: tuple[bytes, list[bytes]], permit: bool) -> None:
    data, parts = pieces
    judge = Judge(permit)
    tls = TlsFilter(judge, LIMITS)
    passed = b"".join([tls.client_data(part, 0) for part in parts])
    found = verdict(data)
    assert judge.seen == ([found] if isinstance(found, ClientHello) else [])
    if isinstance(found, ClientHello) and permit:
        assert (passed, tls.end, tls.may_be_silent) == (data, None, True)
    elif found is None:
        assert (passed, tls.end, tls.unfinished_head) == (b"", None, 1)
    else:
        failure = ("no", "") if isinstance(found, ClientHello) else found
        assert (passed, tls.end, (tls.failure, tls.limit)) == (b"", End.ABORT, failure)
