"""Requests that need no second look: no body, nothing about the connection, a canonical target, one plain host.

Most requests are like that, and all there is to judge of them are method, path and host, which one regular expression
finds while it checks the grammar of the whole head. Whatever it does not match gets the full parse; what it matches the
full parse would read the same way (a test holds the two against each other).
"""

from __future__ import annotations

import re

from parsers.http1 import grammar
from parsers.limits import Http1Limits

PlainKey = tuple[bytes, bytes, bytes]
"""Method, path, host."""

_NAME = rb"[!#$%&'*+\-.^`|~0-9A-Za-z]++"
"""Without the underscore: a name with one could imitate another."""

_PATH = rb"(?!//)/(?:[A-Za-z0-9_~!$&'()*+,;=:@\-]++[A-Za-z0-9._~!$&'()*+,;=:@\-]*+/?)*+(?:\?[\x21\x22\x24-\x7e]*+)?"
_HOST = rb"(?:[A-Za-z0-9\-._]++|\[[0-9A-Fa-f:.]++\])(?::[1-9][0-9]{0,3})?"
_MEANINGFUL = (
    rb"[Hh](?i:ost:)"
    rb"|[Cc](?i:ontent-length:|onnection:(?! keep-alive\r))"
    rb"|[Tt](?i:ransfer-encoding:)"
    rb"|[Ee](?i:xpect:)"
    rb"|[Uu](?i:pgrade:)"
    rb"|[Xx](?i:-original-url:|-rewrite-url:|-http-method:|-http-method-override:|-method-override:)"
)
_FIELDS = rb"(?:(?!" + _MEANINGFUL + rb")" + _NAME + rb":" + grammar.VALUE + rb"*+\r\n)*+"
_HOST_LINE = rb"[Hh]ost:[ \t]*+(" + _HOST + rb")[ \t]*+\r\n"
_HEAD = re.compile(rb"([A-Z]++) (" + _PATH + rb") HTTP/1\.1\r\n" + _FIELDS + _HOST_LINE + _FIELDS + rb"\r\n")


def plain_key(head: bytes, limits: Http1Limits) -> PlainKey | None:
    """(method, path, host) of a whole head that is plain; None if it is not, or if there is more behind it."""
    match = _HEAD.fullmatch(head)
    if match is None:
        return None
    is_small = match.end(2) + len(b" HTTP/1.1") <= limits.request_line_bytes
    if not is_small or head.count(b"\n") - 2 > limits.header_count:
        return None
    return match.groups()  # type: ignore[return-value]  # the pattern has three groups
