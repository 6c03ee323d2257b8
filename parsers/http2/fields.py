"""Header lists: what makes one malformed, and what a request says (RFC 9113 §8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from parsers.errors import ParseError
from parsers.facts import HttpRequest
from parsers.http.overrides import is_override
from parsers.http.target import canonical_path, check_authority, split_target
from parsers.http2.frames import ErrorCode, StreamFault
from parsers.http2.hpack import Field
from parsers.limits import Http2Limits

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_NAME = rb"[!#$%&'*+\-.^_`|~0-9a-z]++"
_VALUE = rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
_LIST = re.compile(rb"(?::[a-z]++\0" + _VALUE + rb"\0)*+(?:" + _NAME + rb"\0" + _VALUE + rb"\0)*+")
"""Names and values, each with a NUL behind it: pseudo-header fields first, then lower-case names. One match for all."""

_METHOD = re.compile(_TOKEN)
_TARGET = re.compile(rb"[\x21-\x7e]++")
_DIGITS = re.compile(rb"0|[1-9][0-9]{0,17}")
_STATUS = re.compile(rb"[1-5][0-9][0-9]")
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_GRPC = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE)


def _malformed(reason: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, reason)


def check_list(fields: Sequence[Field]) -> None:
    """Names and values hold nothing but what they may (§8.2.1), pseudo-header fields stand first (§8.3)."""
    joined = b"".join([b"%b\0%b\0" % (field.name, field.value) for field in fields])
    if _LIST.fullmatch(joined) is None or joined.count(b"\0") != 2 * len(fields):
        raise _malformed("a header block has a malformed field")


def check_trailers(fields: Sequence[Field]) -> None:
    check_list(fields)
    if any(field.name.startswith(b":") for field in fields):
        raise _malformed("trailers have a pseudo-header field")


class RequestFields(NamedTuple):
    """What a request's header list says. `length`: of its body, -1 if it names none.

    `canonical` is the list that was judged, if that is not the list as it came: with another path, or without headers
    that make servers act on another request.
    """

    facts: HttpRequest
    length: int
    is_grpc: bool
    canonical: list[Field] | None


class RefusedFields(ParseError):
    """A request that is well formed HTTP/2, but not in the one form that we accept: answered with `status`."""

    def __init__(self, error: ParseError, facts: HttpRequest, *, is_grpc: bool) -> None:
        super().__init__(error.reason, error.status, limit=error.limit)
        self.facts = facts
        self.is_grpc = is_grpc


def request_of(fields: Sequence[Field], limits: Http2Limits) -> RequestFields:
    """Raises StreamFault where it is malformed, RefusedFields where it is ambiguous."""
    check_list(fields)
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    for field in fields:
        if field.name.startswith(b":"):
            if field.name not in _REQUEST_PSEUDO or field.name in pseudo:
                raise _malformed("a pseudo-header field is unknown or there twice")
            pseudo[field.name] = field.value
        else:
            regular.append(field)
    method = _method(pseudo)
    found = _Regular(regular)
    authority = _authority(pseudo, found.hosts)
    facts = HttpRequest(method, pseudo.get(b":path", b""), authority, found.facts(authority))
    try:
        return _judged_form(facts, fields, found, limits)
    except StreamFault:
        raise
    except ParseError as error:
        raise RefusedFields(error, facts, is_grpc=found.is_grpc) from None


def _method(pseudo: dict[bytes, bytes]) -> bytes:
    """Also checks which fields there must be (§8.3.1, §8.5)."""
    method = pseudo.get(b":method", b"")
    if _METHOD.fullmatch(method) is None:
        raise _malformed("the method is missing or no token")
    if method == b"CONNECT":
        if b":scheme" in pseudo or b":path" in pseudo:
            raise _malformed("CONNECT has a scheme or a path")
    elif _TARGET.fullmatch(pseudo.get(b":path", b"")) is None:
        raise _malformed("the path is missing or not in visible ASCII")
    elif pseudo.get(b":scheme") not in (b"http", b"https"):
        raise _malformed("the scheme is missing or not http")
    return method


def _authority(pseudo: dict[bytes, bytes], hosts: list[bytes]) -> bytes:
    authority = pseudo.get(b":authority")
    if len(hosts) > 1 or (hosts and authority is not None and hosts[0].lower() != authority.lower()):
        raise _malformed("the request names different hosts")
    return authority if authority is not None else hosts[0] if hosts else b""


class _Regular:
    """The regular fields of a request, looked at once."""

    __slots__ = ("dropped", "error", "fields", "hosts", "is_grpc", "length")

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.hosts: list[bytes] = []
        self.length = -1
        self.is_grpc = False
        self.dropped: frozenset[bytes] = frozenset()
        self.error: ParseError | None = None
        for name, value, _ in fields:
            if name == b"content-length":
                self._content_length(value)
            elif name == b"host":
                self.hosts.append(value)
            elif name == b"content-type":
                self.is_grpc = _GRPC.fullmatch(value) is not None
            elif name in _CONNECTION:
                raise _malformed("a header is about a connection, which is not for HTTP/2 to say")
            elif name == b"te" and value.lower() != b"trailers":
                raise _malformed("TE is not trailers")
            elif name == b"expect" and value.lower() != b"100-continue":
                self.error = ParseError("the expectation is not 100-continue", 417)
            else:
                self._other(name)

    def _content_length(self, value: bytes) -> None:
        if self.length >= 0 or _DIGITS.fullmatch(value) is None:
            raise _malformed("the length of the body is not one plain number")
        self.length = int(value)

    def _other(self, name: bytes) -> None:
        try:
            if is_override(name):
                self.dropped |= {name}
        except ParseError as error:
            self.error = error

    def facts(self, authority: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """As rules see them: host as in HTTP/1, the parts of a cookie as one (§8.2.3), without what goes no further."""
        found = [(b"host", authority)] if authority else []
        cookies = []
        for name, value, _ in self.fields:
            if name == b"cookie":
                cookies.append(value)
            elif name != b"host" and name not in self.dropped:
                found.append((name, value))
        if cookies:
            found.append((b"cookie", b"; ".join(cookies)))
        return tuple(found)


def _judged_form(facts: HttpRequest, fields: Sequence[Field], found: _Regular, limits: Http2Limits) -> RequestFields:
    if found.error is not None:
        raise found.error
    if len(facts.headers) > limits.header_count:
        raise ParseError("the request has too many headers", 431, limit="header_count")
    if not facts.host:
        raise ParseError("the request names no host")
    check_authority(facts.host)
    path, is_connect = facts.path, facts.method == b"CONNECT"
    if is_connect:
        split_target(b"CONNECT", facts.host)
    elif path == b"*":
        if facts.method != b"OPTIONS":
            raise ParseError("the target * is for OPTIONS only")
    else:
        path = canonical_path(facts.path)
    canonical = None
    if path != facts.path or found.dropped:
        kept = (field for field in fields if field.name not in found.dropped)
        canonical = [Field(b":path", path) if field.name == b":path" else field for field in kept]
        facts = HttpRequest(facts.method, path, facts.host, facts.headers)
    return RequestFields(facts, found.length, found.is_grpc, canonical)


def response_status(fields: Sequence[Field]) -> int:
    """The status of a response's header list. Raises StreamFault."""
    check_list(fields)
    pseudo = [field for field in fields if field.name.startswith(b":")]
    if len(pseudo) != 1 or pseudo[0].name != b":status" or _STATUS.fullmatch(pseudo[0].value) is None:
        raise _malformed("the response has no status, or more than that in front of its headers")
    return int(pseudo[0].value)
