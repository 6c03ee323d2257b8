"""What policy may look at: plain facts that a parser found in bytes it accepted.

Every field is exactly what is forwarded, so a rule can never match one thing and the server see another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request, of any version, as HTTP rules see it.

    `path` is the canonical request target including its query part; `host` is the authority with its port if
    the client sent one; `headers` are (lower-case name, value) in the order of the message.
    """

    method: bytes
    path: bytes
    host: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


FIXED_HEADERS = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
        b"expect",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
    )
)
"""Headers that frame or route a message, or make servers act on another one than was judged. Nothing edits them."""


class EditKind(Enum):
    """ADD appends a header; SET puts it in the place of all of that name; REMOVE takes all of that name away."""

    ADD = 1
    SET = 2
    REMOVE = 3


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """What rules want changed in a request that they permit. The value may be a secret."""

    kind: EditKind
    name: bytes
    value: bytes = field(default=b"", repr=False)


def edited_fields(fields: Iterable[tuple[bytes, bytes]], edits: Iterable[HeaderEdit]) -> list[tuple[bytes, bytes]]:
    """(lower-case name, value) of each header after the edits, made in their order.

    Servers that make variables of headers take `_` for `-`: what is set or removed goes in both spellings, so that no
    client can hand in beside it what a rule took away.
    """
    found = list(fields)
    for edit in edits:
        wanted, at = plain_name(edit.name), len(found)
        if wanted in FIXED_HEADERS:
            continue
        if edit.kind is not EditKind.ADD:
            kept = [plain_name(name) != wanted for name, _ in found]
            at = kept.index(False) if False in kept else at
            found = [field for field, is_kept in zip(found, kept, strict=True) if is_kept]
        if edit.kind is not EditKind.REMOVE:
            found.insert(at, (edit.name, edit.value))
    return found


def plain_name(name: bytes) -> bytes:
    return name.replace(b"_", b"-")


def edited_request(request: HttpRequest, edits: Iterable[HeaderEdit]) -> HttpRequest:
    """The request with other headers: what whoever judges it next gets to see."""
    return replace(request, headers=tuple(edited_fields(request.headers, edits)))


@dataclass(frozen=True, slots=True)
class DnsQuery:
    """One question: `name` as text in any case, with or without its final dot, and the type by its name (`A`)."""

    name: str
    query_type: str = "A"


@dataclass(frozen=True, slots=True)
class KafkaRequest:
    """One request. `topics` None: this kind names none; empty: it is about all topics there are."""

    api_key: int
    api_version: int = 0
    client_id: str = ""
    topics: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The beginning of a TLS connection; `server_name` is empty when the client names none."""

    server_name: str
