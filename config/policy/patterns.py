"""Regular expressions of HTTP rules: RE2 on bytes, full match, and which of them need no RE2 at all.

RE2 runs in time linear to its input; the standard library's `re` does not and differs in what it accepts, so it never
sees a pattern of a policy. LATIN1 makes one character one byte: in UTF-8 mode `.` would not match a lone 0xff.
Most patterns are a plain text, a choice of plain texts or a plain text before `.*`, and those are found by dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import re2

MAX_PROGRAM = 1000
"""Instructions of one pattern; `.{500}` has more. With long inputs the cost per match is their product."""

MAX_TEXT = 4096
"""Bytes of one pattern."""

MAX_TOTAL = 50_000
"""Instructions of all patterns of one list of rules: each request meets all of them."""


@dataclass(frozen=True, slots=True)
class Exact:
    """Matches these texts and nothing else."""

    texts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Matches what begins with one of these texts and has no line feed behind it (`.` does not match one)."""

    texts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class General:
    """Only RE2 can tell."""

    pattern: bytes


Pattern = Exact | Prefix | General

_META = frozenset(rb"\.+*?()|[]{}^$")
_ESCAPABLE = frozenset(rb"!\"#$%&'()*+,-./:;<=>?@[\]^_`{|}~")
_MAX_CHOICES = 64


def options() -> re2.Options:
    chosen = re2.Options()
    chosen.encoding = re2.Options.Encoding.LATIN1
    chosen.never_capture = True
    chosen.log_errors = False
    return chosen


@lru_cache(maxsize=4096)
def compiled(pattern: bytes) -> re2._Regexp[bytes]:
    """Raises `re2.error` when it is none."""
    return re2.compile(pattern, options())


def encode(pattern: str) -> bytes:
    return pattern.encode("utf-8")


def fault(pattern: str) -> tuple[bool, str] | None:
    """Why the pattern cannot be used: (is it merely too big, what to say); None when it can."""
    text = encode(pattern)
    if len(text) > MAX_TEXT:
        return True, f"the regular expression has {len(text)} bytes, more than {MAX_TEXT}"
    try:
        size = compiled(text).programsize
    except re2.error as problem:
        reason = problem.args[0] if problem.args else problem
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return ("too large" in said or "repetition size" in said), f'"{pattern[:80]}" is not accepted by RE2: {said}'
    if size > MAX_PROGRAM:
        return True, f'"{pattern[:80]}" compiles to {size} instructions, more than {MAX_PROGRAM}'
    return None


def program_size(pattern: bytes) -> int:
    return compiled(pattern).programsize


def total_size(patterns: Iterable[str]) -> int:
    """Instructions of those patterns that RE2 must match, each counted once. They must all be without fault."""
    known = map(classify, dict.fromkeys(patterns))
    return sum(program_size(item.pattern) for item in known if isinstance(item, General))


@lru_cache(maxsize=65536)
def classify(pattern: str) -> Pattern:
    """The cheapest form that matches the same texts."""
    whole = encode(pattern)
    choices = _choices(_unwrapped(whole))
    if len(choices) > _MAX_CHOICES:
        return General(whole)
    exact: list[bytes] = []
    prefixes: list[bytes] = []
    for choice in choices:
        body = choice.removesuffix(b".*")
        is_prefix = body is not choice and not body.endswith(b"\\")
        text = _literal(body if is_prefix else choice)
        if text is None:
            return General(whole)
        (prefixes if is_prefix else exact).append(text)
    if exact and prefixes:
        return General(whole)
    return Prefix(tuple(dict.fromkeys(prefixes))) if prefixes else Exact(tuple(dict.fromkeys(exact)))


def _unwrapped(text: bytes) -> bytes:
    """Without anchors, which a full match implies, and without a group around everything."""
    if b"|" not in text:
        text = text.removeprefix(b"^")
        if text.endswith(b"$") and not text.endswith(b"\\$"):
            text = text[:-1]
    for opening in (b"(?:", b"("):
        inner = text[len(opening) : -1]
        if text.startswith(opening) and text.endswith(b")") and not set(inner) & set(rb"()\?"):
            return inner
    return text


def _choices(text: bytes) -> list[bytes]:
    """The alternatives, where `|` can only mean that."""
    return [text] if set(text) & set(rb"()[]\{}") else text.split(b"|")


def _literal(text: bytes) -> bytes | None:
    """The one text that `text` matches, or None when it is a real expression."""
    if not set(text) & _META:
        return text
    plain = bytearray()
    position = 0
    while position < len(text):
        byte = text[position]
        if byte == 0x5C and position + 1 < len(text) and text[position + 1] in _ESCAPABLE:
            position += 1
            plain.append(text[position])
        elif byte in _META:
            return None
        else:
            plain.append(byte)
        position += 1
    return bytes(plain)
