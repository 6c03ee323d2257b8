"""DNS names and globs over them.

Names are compared in lower case, as absolute names without their final dot. A pattern is a glob over whole names
(cilium-semantics of `matchPattern`): `*` is any number of characters of one label, `**.` at the beginning is one or
more whole labels, and nothing but stars is any name.
"""

from __future__ import annotations

import re

from config.policy.patterns import compiled

MAX_PATTERN = 255
_CHARACTER = "[-a-zA-Z0-9_]"
_NAME = re.compile(r"[-a-zA-Z0-9_.]+\Z")
_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]+\Z")
_STARS = re.compile(r"\*+\.?\Z")


def canonical(name: str) -> str:
    """Lower case, without the final dot; the root is the empty string.

    No rule names anything but ASCII, and some letters beyond it have ASCII ones for their lower case.
    """
    return (name.lower() if name.isascii() else name).removesuffix(".")


def name_fault(text: str) -> str | None:
    """Why `text` can be no `matchName`; None when it can."""
    if len(text) > MAX_PATTERN:
        return f"a name has at most {MAX_PATTERN} characters"
    if text != "." and not _NAME.match(text):
        return f'"{text[:80]}" has characters that no DNS name has (names of other scripts are written in Punycode)'
    return None


def pattern_fault(text: str) -> str | None:
    """Why `text` can be no `matchPattern`; None when it can."""
    if len(text) > MAX_PATTERN:
        return f"a pattern has at most {MAX_PATTERN} characters"
    if not _PATTERN.match(text):
        return f'"{text[:80]}" has characters that no pattern has: letters, digits, "-", "_", "." and "*"'
    return None


def pattern_regex(pattern: str) -> str:
    """The anchored RE2 expression over lower-case names *with* their final dot."""
    text = pattern.strip().lower()
    if _STARS.match(text):
        return f"(^({_CHARACTER}+[.])+$)|(^[.]$)"
    if not text.endswith("."):
        text += "."
    whole = ""
    leading = re.match(r"\*{2,}\.", text)
    if leading is not None:
        whole = f"({_CHARACTER}+([.]{_CHARACTER}+){{0,}})[.]"
        text = text[leading.end() :]
    parts = re.split(r"\*+", text)
    return "^" + whole + f"{_CHARACTER}*".join(part.replace(".", "[.]") for part in parts) + "$"


def selects(name: str, pattern: str, queried: str) -> bool:
    """Does `queried` (canonical) satisfy a name, or a glob where there is no name?"""
    if name or not pattern:
        return queried == name
    return compiled(pattern_regex(pattern).encode()).fullmatch(f"{queried}.".encode("utf-8", "replace")) is not None
