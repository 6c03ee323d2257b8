"""Request target and authority: one canonical form that is judged *and* forwarded, or a refusal.

Servers disagree on what `/a/../b`, `//b`, `%2e`, `%2F`, `\\` and `;` mean, so a path that is judged in one
reading must not reach a server that reads it in another (CVE-2019-9901, CVE-2021-29492, CVE-2021-32779).
Canonical: dot segments resolved, then slashes merged, percent-encoded unreserved characters decoded, hex digits in
upper case (RFC 3986 §6.2.2). The query is forwarded as it came: no server walks it.
"""

from __future__ import annotations

import re

from parsers.errors import ParseError

CANONICAL = re.compile(rb"(?!//)/(?:[A-Za-z0-9_~!$&'()*+,;=:@\-]++[A-Za-z0-9._~!$&'()*+,;=:@\-]*+/?)*+(?:\?[^#]*+)?")
"""Paths, the common case, that need no work: no percent, no empty or dot-led segment. (`.` leads are rare.)"""

ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?]*)([/?].*)?")
AUTHORITY = re.compile(rb"(?:[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?")

_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_FORBIDDEN = {0x00: "NUL", 0x2F: "an encoded slash", 0x5C: "an encoded backslash"}
_DOT_WITH_PARAMETER = re.compile(rb"/\.{1,2};")
_SLASHES = re.compile(rb"/{2,}")


def check_authority(authority: bytes) -> None:
    """Refuse an authority that is not host[:port] (RFC 9112 §3.2): userinfo, lists, paths, bad ports."""
    match = AUTHORITY.fullmatch(authority)
    if match is None or (match[1] is not None and int(match[1]) > 65535):
        raise ParseError("the host is not a name or address with an optional port")


def canonical_path(target: bytes) -> bytes:
    """The canonical form of an origin-form target (`/path?query`)."""
    if CANONICAL.fullmatch(target):
        return target
    if b"#" in target:
        raise ParseError("the request target has a fragment")
    path, mark, query = target.partition(b"?")
    if not path.startswith(b"/"):
        raise ParseError("the request target does not start with a slash")
    if b"\\" in path:
        raise ParseError("the path has a backslash")
    path = _PERCENT.sub(_normal_escape, path)
    if _DOT_WITH_PARAMETER.search(path):
        raise ParseError("the path has a dot segment with a parameter")
    path = _SLASHES.sub(b"/", _without_dot_segments(path))
    return path + mark + query


def _normal_escape(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if digits is None:
        raise ParseError("the path has an incomplete percent escape")
    value = int(digits, 16)
    if value in _FORBIDDEN:
        raise ParseError(f"the path has {_FORBIDDEN[value]}")
    return bytes((value,)) if value in _UNRESERVED else b"%" + digits.upper()


def _without_dot_segments(path: bytes) -> bytes:
    """RFC 3986 §5.2.4; `..` above the root stays at the root."""
    kept: list[bytes] = []
    segments = path[1:].split(b"/")
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def split_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """(canonical path, authority of an absolute-form target or None), RFC 9112 §3.2.

    A CONNECT request has an authority with a port, and no path at all.
    """
    if method == b"CONNECT":
        match = AUTHORITY.fullmatch(target)
        if match is None or match[1] is None or int(match[1]) > 65535:
            raise ParseError("the target of CONNECT is not host:port")
        return b"", target
    if target.startswith(b"/"):
        return canonical_path(target), None
    if target == b"*":
        if method != b"OPTIONS":
            raise ParseError("the target * is for OPTIONS only")
        return target, None
    match = ABSOLUTE.fullmatch(target)
    if match is None:
        raise ParseError("the request target is neither a path nor an absolute URL")
    scheme, authority, rest = match.groups()
    if scheme.lower() != b"http":
        raise ParseError("the scheme of the request target is not http")
    check_authority(authority)
    if rest is None:
        # RFC 9112 §3.2.4: an absolute OPTIONS without a path asks for the whole server.
        if method == b"OPTIONS":
            return b"*", authority
        rest = b"/"
    return canonical_path(rest if rest.startswith(b"/") else b"/" + rest), authority
