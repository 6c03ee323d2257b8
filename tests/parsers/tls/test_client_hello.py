"""The hello: what is read from it, whatever it is cut into, and what is refused, for which reason."""

from __future__ import annotations

import ssl
import time

import pytest

from parsers.errors import ParseError
from parsers.tls.client_hello import HelloReader, TlsLimits, parse_client_hello_untrusted
from tests.parsers.tls.hellos import (
    ALPN,
    ECH,
    KEY_SHARE,
    RECORD_HEADER_BYTES,
    SERVER_NAME,
    body,
    ech_outer,
    handshake,
    hello,
    host,
    in_records,
    large_hello,
    listed,
    named,
    real_hello,
    record,
    vector,
)

LIMITS = TlsLimits()
WIDE = TlsLimits(record_count=1 << 15)
REAL = [
    pytest.param(real_hello(name, version, alpn), name or "", id=f"{version.name} {name} {alpn}")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    for name in ("a.test", "x-1._y.Example.COM", "single", None)
    for alpn in ((), ("h2", "http/1.1"))
]


def name_of(data: bytes, limits: TlsLimits = LIMITS) -> str | None:
    found = parse_client_hello_untrusted(data, limits)
    return None if found is None else found.server_name


def reason_of(data: bytes, limits: TlsLimits = LIMITS) -> str:
    with pytest.raises(ParseError) as caught:
        parse_client_hello_untrusted(data, limits)
    return caught.value.reason


def of_name(name: bytes) -> bytes:
    return record(hello(named(host(name))))


# -- real hellos ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "name"), REAL)
def test_real_hello_whole(data: bytes, name: str) -> None:
    assert name_of(data) == name


@pytest.mark.parametrize(("data", "name"), REAL)
def test_real_hello_is_wanted_to_its_last_byte(data: bytes, name: str) -> None:
    assert {name_of(data[:end]) for end in range(len(data))} == {None}


@pytest.mark.parametrize(("data", "name"), REAL)
def test_real_hello_bytewise(data: bytes, name: str) -> None:
    reader = HelloReader(LIMITS)
    found = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    assert found[:-1] == [None] * (len(data) - 1)
    assert found[-1] is not None
    assert found[-1].server_name == name
    assert reader.held == data


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 200])
@pytest.mark.parametrize(("data", "name"), REAL)
def test_real_hello_in_many_records(data: bytes, name: str, size: int) -> None:
    cut = in_records(data[RECORD_HEADER_BYTES:], size)
    assert name_of(cut, WIDE) == name
    assert name_of(cut[:-1], WIDE) is None
    reader = HelloReader(WIDE)
    assert [reader.feed(cut[at : at + 1]) is None for at in range(len(cut))] == [True] * (len(cut) - 1) + [False]


@pytest.mark.parametrize("after", [b"\x14\x03\x03\x00\x01\x01", b"\x17\x03\x03\x00\x05early", b"anything"])
def test_what_follows_in_other_records_is_not_read(after: bytes) -> None:
    assert name_of(of_name(b"a.test") + after) == "a.test"


# -- hellos built by hand ------------------------------------------------------------------------------------------


def test_nothing_yet() -> None:
    assert name_of(b"") is None


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (record(hello(named(host(b"a.test")))), "a.test"),
        (record(hello((ALPN, b""), named(host(b"a.test")), (KEY_SHARE, b"k" * 99))), "a.test"),
        (record(hello()), ""),
        (record(hello((ALPN, b""))), ""),
        (record(handshake(body(None))), ""),
        (record(handshake(body(None, session=vector(1, b"")))), ""),
        (record(handshake(body(None, compression=vector(1, b"\x01\x00")))), ""),
        (record(handshake(body(listed(named(host(b"a.test"))), version=b"\x03\x00")), version=b"\x03\x00"), "a.test"),
        (record(hello(named(host(b"a.test"))), version=b"\x03\x04"), "a.test"),
        (record(handshake(body(listed(named(host(b"a.test"))), ciphers=vector(2, b"c" * 400)))), "a.test"),
    ],
)
def test_accepted(data: bytes, name: str) -> None:
    assert name_of(data) == name


@pytest.mark.parametrize(
    "name", [b"a", b"A.b", b"1.2.3", b"1.2.3.4.5", b"1.2.3.4a", b"_x.a", b"-", b"a" * 255, b"1", b"xn--bcher-kva.test"]
)
def test_accepted_names_are_told_as_they_came(name: bytes) -> None:
    assert name_of(of_name(name)) == name.decode()


@pytest.mark.parametrize(
    "extensions", [(named(host(b"outer.test")), ech_outer()), (ech_outer(), named(host(b"outer.test")))]
)
def test_name_of_an_encrypted_hello_is_the_outer_one(extensions: tuple[tuple[int, bytes], ...]) -> None:
    assert name_of(record(hello(*extensions))) == "outer.test"


def test_encrypted_hello_without_an_outer_name_has_none() -> None:
    assert name_of(record(hello(ech_outer()))) == ""


# -- refused: records ----------------------------------------------------------------------------------------------

NOT_TLS = "these bytes are not the start of a TLS connection"
CUT = "something else comes between the parts of a TLS hello"
HELLO = hello(named(host(b"a.test")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", NOT_TLS),
        (b"G", NOT_TLS),
        (b"\x00", NOT_TLS),
        (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", NOT_TLS),  # SSL 2, header of two bytes
        (b"\x80", NOT_TLS),
        (b"\x00\x2e\x00\x01\x03\x01", NOT_TLS),  # SSL 2, header of three bytes
        (record(b"\x02\x28", kind=21), NOT_TLS),
        (record(b"\x01", kind=20), NOT_TLS),
        (record(b"early", kind=23), NOT_TLS),
        (b"\x16\x02", NOT_TLS),
        (b"\x16\x04", NOT_TLS),
        (b"\x16\xfe\xff", NOT_TLS),  # DTLS 1.0
        (b"\x16\x03\x05", NOT_TLS),
        (record(b""), "a TLS record is empty"),
        (b"\x16\x03\x01\x40\x01", "a TLS record is too long"),
        (b"\x16\x03\x01\xff\xff", "a TLS record is too long"),
        (record(HELLO[:9]) + record(b""), "a TLS record is empty"),
        (record(HELLO[:9]) + record(b"\x02\x28", kind=21), CUT),
        (record(HELLO[:9]) + b"\x17", CUT),
        (record(HELLO[:9]) + b"\x16\x02", CUT),
        (record(HELLO[:9]) + b"\x16\x03\x05", CUT),
        (record(HELLO[:2]) + b"\x14", CUT),
        (record(HELLO + b"\x00"), "more follows the TLS hello in its record"),
        (record(HELLO + HELLO), "more follows the TLS hello in its record"),
        (record(handshake(body(None)) + b"\x00"), "more follows the TLS hello in its record"),
        (record(HELLO[:9]) + record(HELLO[9:] + b"\x00"), "more follows the TLS hello in its record"),
    ],
)
def test_refused_records(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


# -- refused: the hello --------------------------------------------------------------------------------------------

BEYOND = "a part of the TLS hello is longer than the whole"
END = "the extensions do not end where the TLS hello ends"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (handshake(body(None), kind=2), "the TLS connection does not begin with a client's hello"),
        (b"\x00", "the TLS connection does not begin with a client's hello"),
        (b"\x01\x00\x40\x01", "the TLS hello is too long"),
        (b"\x01\xff\xff\xff", "the TLS hello is too long"),
        (b"\x01\x00\x00\x00", BEYOND),
        (b"\x01\x00\x00\x01\x03", BEYOND),
        (handshake(body(None)[:33]), BEYOND),
        (handshake(body(None)[:34]), BEYOND),
        (handshake(body(None)[:-1]), BEYOND),
        (handshake(body(None, version=b"\x02\x00")), "the TLS hello is of an unknown version"),
        (handshake(body(None, version=b"\x7f\x1c")), "the TLS hello is of an unknown version"),
        (
            handshake(body(None, session=vector(1, b"s" * 33))),
            "the session id of the TLS hello is too long",
        ),
        (handshake(body(None, session=b"\x20")), BEYOND),
        (handshake(body(None, ciphers=vector(2, b""))), "the cipher suites of the TLS hello are none, or half a one"),
        (
            handshake(body(None, ciphers=vector(2, b"\x13"))),
            "the cipher suites of the TLS hello are none, or half a one",
        ),
        (handshake(body(None, ciphers=b"\x00\x08\x13\x01")), BEYOND),
        (
            handshake(body(None, compression=vector(1, b""))),
            "the TLS hello has no compression method, not even none",
        ),
        (handshake(body(None, compression=vector(1, b"\x01"))), "the TLS hello insists on compression"),
        (handshake(body(None, compression=b"\x02\x00")), BEYOND),
        (handshake(body(b"\x00")), BEYOND),
        (handshake(body(b"\x00\x01")), END),
        (handshake(body(listed((ALPN, b"")) + b"\x00")), END),
        (handshake(body(b"\x00\x05\x00\x10\x00\x00")), END),
        (handshake(body(vector(2, b"\x00"))), BEYOND),
        (handshake(body(vector(2, b"\x00\x10\x00"))), BEYOND),
        (handshake(body(vector(2, b"\x00\x10\x00\x01"))), BEYOND),
        (hello((ALPN, b""), (ALPN, b"")), "an extension comes twice in the TLS hello"),
        (hello(named(host(b"a.test")), named(host(b"a.test"))), "an extension comes twice in the TLS hello"),
        (
            hello(named(host(b"a.test")), (ALPN, b""), named(host(b"b.test"))),
            "an extension comes twice in the TLS hello",
        ),
        (hello(ech_outer(), named(host(b"a.test")), (ECH, b"\x01")), "an extension comes twice in the TLS hello"),
    ],
)
def test_refused_hellos(message: bytes, reason: str) -> None:
    assert reason_of(record(message)) == reason
    assert reason_of(in_records(message, 1), WIDE) == reason


LIST_END = "the list of server names does not end where its extension ends"
ODD_CHARACTERS = "the server name has characters that no host name has"
EMPTY_LABEL = "the server name has an empty label"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", LIST_END),
        (b"\x00", LIST_END),
        (vector(2, host(b"a.test")) + b"\x00", LIST_END),
        (vector(2, host(b"a.test"))[:-1], LIST_END),
        (b"\x00\x00", "the list of server names holds no name"),
        (vector(2, b"\x00"), "the list of server names holds no name"),
        (vector(2, b"\x00\x00"), "the list of server names holds no name"),
        (vector(2, host(b"a.test", kind=1)), "the server name is not the name of a host"),
        (vector(2, host(b"a.test", kind=1) + host(b"a.test")), "the server name is not the name of a host"),
        (vector(2, b"\x00\x00\x07a.test"), "the server name is longer than its list"),
        (vector(2, host(b"a.test") + host(b"b.test")), "the client names more than one server"),
        (vector(2, host(b"a.test") + host(b"x", kind=1)), "the client names more than one server"),
        (vector(2, host(b"a.test") + b"\x00"), "the client names more than one server"),
        (vector(2, host(b"")), "the server name is empty"),
        (vector(2, host(b"a" * 256)), "the server name is too long"),
        (vector(2, host(b"a.test.")), EMPTY_LABEL),
        (vector(2, host(b".")), EMPTY_LABEL),
        (vector(2, host(b".a.test")), EMPTY_LABEL),
        (vector(2, host(b"a..test")), EMPTY_LABEL),
        (vector(2, host(b"a test")), ODD_CHARACTERS),
        (vector(2, host(b"a.test\x00")), ODD_CHARACTERS),
        (vector(2, host(b"a.test\x00.b.test")), ODD_CHARACTERS),
        (vector(2, host(b"a.test\n")), ODD_CHARACTERS),
        (vector(2, host(b"*.test")), ODD_CHARACTERS),
        (vector(2, host(b"a.test:443")), ODD_CHARACTERS),
        (vector(2, host("bücher.test".encode())), ODD_CHARACTERS),
        (vector(2, host(b"\xff")), ODD_CHARACTERS),
        (vector(2, host(b"::1")), ODD_CHARACTERS),
        (vector(2, host(b"[::1]")), ODD_CHARACTERS),
        (vector(2, host(b"10.0.0.1")), "the server name is an address"),
        (vector(2, host(b"010.000.0.001")), "the server name is an address"),
        (vector(2, host(b"999.0.0.1")), "the server name is an address"),
    ],
)
def test_refused_server_names(content: bytes, reason: str) -> None:
    assert reason_of(record(hello((ALPN, b""), (SERVER_NAME, content), (KEY_SHARE, b"k")))) == reason


EXTENSIONS = (300).to_bytes(2)  # the length of extensions of which few have come


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\x02\x00", "the TLS hello is of an unknown version"),
        (body(None)[:34] + b"\x21", "the session id of the TLS hello is too long"),
        (
            body(None, ciphers=b"\x00\x03", compression=b""),
            "the cipher suites of the TLS hello are none, or half a one",
        ),
        (body(b"\x00\x01"), END),
        (body(EXTENSIONS + b"\x00\x10\x00\x00\x00\x10"), "an extension comes twice in the TLS hello"),
        (body(EXTENSIONS + b"\x00\x10\xff\xff"), BEYOND),
        (body(EXTENSIONS + b"\x00\x00\x00\x06\x00\x04\x00\x00\x01."), EMPTY_LABEL),
    ],
)
def test_refused_at_the_first_wrong_part(start: bytes, reason: str) -> None:
    """The rest of the hello has not come."""
    length = len(body(EXTENSIONS)) + 300
    data = b"\x16\x03\x01" + (length + 4).to_bytes(2) + b"\x01" + length.to_bytes(3) + start
    assert reason_of(data) == reason
    assert name_of(data[:-1]) is None


# -- bounds --------------------------------------------------------------------------------------------------------


def limit_of(data: bytes, limits: TlsLimits) -> str:
    with pytest.raises(ParseError) as caught:
        parse_client_hello_untrusted(data, limits)
    return caught.value.limit


def test_longest_hello() -> None:
    assert name_of(in_records(large_hello(16384), 16384)) == "a.test"
    assert limit_of(in_records(large_hello(16385), 16384), LIMITS) == "hello_bytes"
    assert limit_of(record(HELLO), TlsLimits(hello_bytes=len(HELLO) - 5)) == "hello_bytes"
    assert name_of(record(HELLO), TlsLimits(hello_bytes=len(HELLO) - 4)) == "a.test"


def test_most_records() -> None:
    cut = in_records(HELLO, 1)
    assert name_of(cut, TlsLimits(record_count=len(HELLO))) == "a.test"
    assert limit_of(cut, TlsLimits(record_count=len(HELLO) - 1)) == "record_count"
    assert limit_of(in_records(large_hello(1000), 1), LIMITS) == "record_count"


def test_one_record_more_is_refused_before_its_first_byte() -> None:
    cut = in_records(HELLO, 1)[: 64 * 6]
    assert limit_of(cut, LIMITS) == "record_count"
    assert name_of(cut[:-1]) is None


def test_work_is_linear_in_the_bytes() -> None:
    """Bytewise, a hello of 64 KiB in records of one byte, with as many extensions as fit, is read in a blink."""
    extensions = [(kind, b"") for kind in range(1, 16000)]
    data = in_records(handshake(body(listed(*extensions))), 1)
    reader = HelloReader(TlsLimits(hello_bytes=1 << 16, record_count=1 << 17))
    started = time.process_time()
    found = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    assert time.process_time() - started < 10
    assert found[-1] is not None
    assert found[:-1] == [None] * (len(data) - 1)
