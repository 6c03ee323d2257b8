"""DNS names against rules: `rules.dns` on queries, `toFQDNs` on names that were resolved.

Names are compared in lower case, as absolute names without their final dot. A pattern is a glob over whole names
(cilium-semantics of `matchPattern`): `*` is any number of characters of one label, `**.` at the beginning is one or
more whole labels, and nothing but stars is any name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import re2

from config.policy.faults import Fault, told
from config.policy.patterns import compiled, options
from config.policy.resolved import DnsRule, Origin
from parsers.facts import DnsQuery

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


class DnsMatcher:
    """`rules`: each DNS rule with the id of the origin that it came from. Costs the same for one rule and many."""

    __slots__ = ("_masks", "_names", "_rules", "_set", "_types")

    def __init__(self, rules: Sequence[tuple[DnsRule, int]]) -> None:
        self._rules = tuple(rules)
        self._names: dict[str, int] = {}
        self._types: dict[str, int] = {}
        patterns: dict[str, int] = {}
        for index, (rule, _) in enumerate(rules):
            bit = 1 << index
            if rule.name or not rule.pattern:
                self._names[rule.name] = self._names.get(rule.name, 0) | bit
            if rule.pattern:
                regex = pattern_regex(rule.pattern)
                patterns[regex] = patterns.get(regex, 0) | bit
            for kind in rule.query_types or ("",):
                self._types[kind] = self._types.get(kind, 0) | bit
        self._masks = list(patterns.values())
        self._set = _set_of(patterns)

    def judge(self, query: DnsQuery) -> int | None:
        """The origin id of the first rule that permits the query, or None."""
        name = canonical(query.name)
        mask = self._names.get(name, 0)
        if self._set is not None:
            for index in self._set.Match(f"{name}.".encode("utf-8", "replace")) or ():
                mask |= self._masks[index]
        mask &= self._types.get("", 0) | self._types.get(query.query_type, 0)
        return self._rules[(mask & -mask).bit_length() - 1][1] if mask else None

    def explain(self, query: DnsQuery, origins: Mapping[int, Origin]) -> str:
        return told(self._rules, lambda rule: dns_faults(rule, query), origins, "DNS")


def _set_of(patterns: Iterable[str]) -> re2.Set | None:
    """All patterns in one program. It says "no match" when it runs out of memory: harmless, as rules only allow."""
    found = list(patterns)
    if not found:
        return None
    made = re2.Set.FullMatchSet(options())
    for pattern in found:
        made.Add(pattern.encode())
    made.Compile()
    return made


def dns_faults(rule: DnsRule, query: DnsQuery) -> list[Fault]:
    """Everything of the rule that the query does not satisfy."""
    found: list[Fault] = []
    name = canonical(query.name)
    by_name = (bool(rule.name) or not rule.pattern) and name == rule.name
    if not by_name and not (rule.pattern and selects("", rule.pattern, name)):
        wanted = " or ".join(f'"{text}"' for text in (rule.name, rule.pattern) if text) or 'the root "."'
        found.append(Fault("dns.name", f'name "{name or "."}" is not {wanted}'))
    if rule.query_types and query.query_type not in rule.query_types:
        found.append(Fault("dns.type", f"query type {query.query_type} is none of {', '.join(rule.query_types)}"))
    return found
