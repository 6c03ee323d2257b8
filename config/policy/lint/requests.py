"""HTTP rules that match less, or more, than they look like."""

from __future__ import annotations

import re
from collections.abc import Iterator

import re2

from config import codes
from config.policy.lint.view import Note, Part, View, note
from config.policy.patterns import Exact, classify, compiled, encode
from config.policy.resolved import HttpRule
from config.policy.rules import PortSpec

TLS_PORTS = (443, 8443)
TLS_NAMES = frozenset(("https", "tls"))

_CLASS = re.compile(r"\[[^\]]*\]")
_HOST_DOT = re.compile(r"(?<!\\)\.(?=[A-Za-z0-9])")
_PATH_DOT = re.compile(
    r"(?<=\w)\.(html?|js|json|css|png|jpe?g|gif|svg|ico|txt|xml|ya?ml|pdf|php|aspx?|woff2?|csv|zip|proto)"
    r"(?=[$|)]|\Z)"
)
_WORD = re.compile(r"[A-Za-z|()^$]+\Z")
_OPEN_ENDED = re.compile(r"(?<!\\)\.[*+?{]|\\[?DSWCXPpQx]|\[\^|\[[^\]]*\?")


def unescaped_host_dots(view: View) -> Iterator[Note]:
    """`host: api.example.com` also means apiXexample.com."""
    for part, index, rule in _http_rules(view):
        if _HOST_DOT.search(_CLASS.sub("x", rule.host)):
            meant = _HOST_DOT.sub(r"\.", rule.host)
            message = f'the dots of host "{_short(rule.host)}" match any character: "{_short(meant)}" may be meant'
            yield note(codes.HOST_DOT, part, message, "rules", "http", index, "host")


def unescaped_path_dots(view: View) -> Iterator[Note]:
    """`path: /index.html` also means /index-html."""
    for part, index, rule in _http_rules(view):
        found = _PATH_DOT.search(_CLASS.sub("x", rule.path))
        if found:
            message = f'the dot of "{found.group()}" in path "{_short(rule.path)}" matches any character'
            yield note(codes.PATH_DOT, part, message, "rules", "http", index, "path")


def impossible_paths(view: View) -> Iterator[Note]:
    """Paths begin with a slash (or are the one asterisk of OPTIONS), and patterns match them in full."""
    for part, index, rule in _http_rules(view):
        if rule.path and not _may_be_path(rule.path):
            message = f'path "{_short(rule.path)}" matches no path: paths begin with "/"'
            yield note(codes.PATH_NEVER, part, message, "rules", "http", index, "path")


def _may_be_path(pattern: str) -> bool:
    try:
        first, last = compiled(encode(pattern)).possiblematchrange(2)
    except re2.error:
        # It may begin with anything.
        return True
    return first[:1] <= b"/" and last[:1] >= b"*"


def lower_case_methods(view: View) -> Iterator[Note]:
    """`method: get` never matches GET."""
    for part, index, rule in _http_rules(view):
        if _WORD.match(rule.method) and rule.method != rule.method.upper():
            message = f'method "{_short(rule.method)}" is not "{_short(rule.method.upper())}": case matters'
            yield note(codes.METHOD_CASE, part, message, "rules", "http", index, "method")


def paths_without_query(view: View) -> Iterator[Note]:
    """`path: /x` refuses /x?y=1; said once for each policy."""
    told: set[int] = set()
    for part, index, rule in _http_rules(view):
        document = part.item.document
        if rule.path and id(document) not in told and not _may_have_query(rule.path) and _may_be_path(rule.path):
            told.add(id(document))
            message = f'path "{_short(rule.path)}" refuses requests with a query such as ?a=b'
            yield note(codes.PATH_QUERY, part, message, "rules", "http", index, "path")


def _may_have_query(pattern: str) -> bool:
    known = classify(pattern)
    if isinstance(known, Exact):
        return any(b"?" in text for text in known.texts)
    return bool(_OPEN_ENDED.search(pattern))


def http_on_tls(view: View) -> Iterator[Note]:
    """Nobody can read the requests of a port that carries TLS."""
    for part in view.parts:
        if part.l7 and isinstance(part.l7[0], HttpRule) and part.item.refuses:
            ports = [spec for spec in part.ports or () if _carries_tls(spec)]
            if ports:
                message = f"HTTP rules on port {ports[0].name or ports[0].first}, which usually carries TLS"
                yield note(codes.HTTP_ON_TLS, part, message, "ports")


def _carries_tls(spec: PortSpec) -> bool:
    return spec.name in TLS_NAMES if spec.name else spec.first == spec.last and spec.first in TLS_PORTS


def _http_rules(view: View) -> Iterator[tuple[Part, int, HttpRule]]:
    """HTTP rules with their places in `rules.http`."""
    for part in view.parts:
        for index, rule in enumerate(part.l7 or ()):
            if isinstance(rule, HttpRule):
                yield part, index, rule


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
