"""Tokens and heads, RFC 9110 §5 and RFC 9112 §§2-5.

One regular expression covers a whole head, so that a head that matches holds nothing but what the grammar allows:
CRLF line ends only (§2.2 lets a recipient accept a bare LF; two parsers that differ on it can be split), no
obs-fold (§5.2), no space before a colon (§5.1), no control characters in values (RFC 9110 §5.5). Repetitions are
possessive: no input makes them backtrack.
"""

from __future__ import annotations

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE = rb"[\t\x20-\x7e\x80-\xff]"
FIELDS = rb"((?:" + TOKEN + rb"++:" + VALUE + rb"*+\r\n)*+)"

REQUEST_HEAD = re.compile(rb"(" + TOKEN + rb"++) ([\x21-\x7e]++) HTTP/1\.([01])\r\n" + FIELDS + rb"\r\n")
RESPONSE_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: " + VALUE + rb"*+)?\r\n" + FIELDS + rb"\r\n")
TRAILERS = re.compile(FIELDS)

FIELD = re.compile(rb"(" + TOKEN + rb"+):[ \t]*((?:" + VALUE + rb"*[\x21-\x7e\x80-\xff])?)[ \t]*\r\n")
"""One header line; groups: name, value without surrounding white space. For blocks that FIELDS matched."""

REQUEST_LINE_START = re.compile(TOKEN + rb"*+(?:\Z| [\x21-\x7e]*+(?:\Z| [HTP/0-9.]*+\r?\Z))")
"""What the first line of a request may look like while it is still arriving."""

OTHER_PROTOCOL = re.compile(TOKEN + rb"++ (?![/*]|[\x21-\x7e]*?://)[\x21-\x7e]++ (?!(?:H|HT|HTT|HTTP)?\Z|HTTP/)")
"""The start of a line of words, of which the second is no target and the third not going to be a version of HTTP."""

BARE_LF = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
"""A line end that is not CRLF."""

DIGITS = re.compile(rb"0|[1-9][0-9]{0,17}")
"""A Content-Length: no sign, no leading zero, below 10^18 (RFC 9110 §8.6)."""

REQUEST_LINE = re.compile(TOKEN + rb"++ [\x21-\x7e]++ HTTP/1\.[01]\r\n")

OTHER_VERSION = re.compile(TOKEN + rb"++ [\x21-\x7e]++ HTTP/(?:1\.[2-9]|[2-9]\.[0-9])\r\n")
"""A request line that is well formed but for a version that we do not speak (505)."""


def fields_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """(lower-case name, value) of each line of a block that `FIELDS` has matched."""
    return [(name.lower(), value) for name, value in FIELD.findall(block)]


def list_of(value: bytes) -> list[bytes]:
    """The lower-cased members of a comma-separated header value, empty ones left out (RFC 9110 §5.6.1)."""
    return [member for item in value.lower().split(b",") if (member := item.strip(b" \t"))]
