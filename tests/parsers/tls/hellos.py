"""Hellos: real ones from OpenSSL, and ones that are built by hand to be wrong in one place."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

SERVER_NAME, ALPN, KEY_SHARE, ECH = 0, 16, 51, 0xFE0D
RECORD_HEADER_BYTES = 5

Extension = tuple[int, bytes]


def real_hello(name: str | None, version: ssl.TLSVersion, alpn: Sequence[str] = ()) -> bytes:
    """What OpenSSL sends first, in one record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


def vector(size: int, body: bytes) -> bytes:
    return len(body).to_bytes(size) + body


def record(fragment: bytes, kind: int = 22, version: bytes = b"\x03\x01") -> bytes:
    return bytes((kind,)) + version + vector(2, fragment)


def in_records(hello: bytes, size: int) -> bytes:
    """The hello in records of `size` bytes."""
    return b"".join(record(hello[at : at + size]) for at in range(0, len(hello), size))


def body(
    extensions: bytes | None,
    *,
    version: bytes = b"\x03\x03",
    session: bytes = vector(1, b"s" * 32),
    ciphers: bytes = vector(2, b"\x13\x01\x13\x02"),
    compression: bytes = vector(1, b"\x00"),
) -> bytes:
    """The hello behind its header. `extensions` as they are, with their length; None: a hello that ends before them."""
    return version + b"r" * 32 + session + ciphers + compression + (extensions or b"")


def handshake(body: bytes, kind: int = 1) -> bytes:
    return bytes((kind,)) + vector(3, body)


def listed(*extensions: Extension) -> bytes:
    return vector(2, b"".join(kind.to_bytes(2) + vector(2, content) for kind, content in extensions))


def host(name: bytes, kind: int = 0) -> bytes:
    """One entry of a list of server names."""
    return bytes((kind,)) + vector(2, name)


def named(*entries: bytes) -> Extension:
    """The server_name extension."""
    return SERVER_NAME, vector(2, b"".join(entries))


def ech_outer() -> Extension:
    """Encrypted Client Hello as in an outer hello: kind, suite, config id, key, payload (RFC 9849 §5)."""
    return ECH, b"\x00" + b"\x00\x01\x00\x01" + b"\x2a" + vector(2, b"k" * 32) + vector(2, b"p" * 144)


def hello(*extensions: Extension) -> bytes:
    """A well-formed hello with these extensions, without a record around it."""
    return handshake(body(listed(*extensions)))


def large_hello(size: int, name: bytes = b"a.test") -> bytes:
    """A hello whose body has exactly `size` bytes."""
    known = len(hello(named(host(name)), (KEY_SHARE, b""))) - 4
    return hello(named(host(name)), (KEY_SHARE, b"k" * (size - known)))
