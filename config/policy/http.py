"""HTTP rules of one connection, compiled: which rule permits a request, at a cost that does not grow with the rules.

Each field of all rules together answers one question: for which rules does this value do? The answer is a bit mask,
and the masks of method, path, host and headers are AND-ed. Plain texts and `text.*` are found by dictionary; what is
left goes into `re2.Set`s, which match all their patterns at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import re2

from config.policy.patterns import Exact, Prefix, classify, compiled, encode, options, program_size
from config.policy.resolved import HttpRule, Origin
from parsers.facts import HttpRequest

MAX_SET_PROGRAM = 20_000
"""Instructions of all patterns of one set. More patterns go into another set: one too large could not be compiled."""

MAX_EXPLAINED = 3
"""Rules that an explanation lists; the next line of a log is not a policy report."""


class _Field:
    """One field of all rules: value → mask of the rules whose pattern for it matches."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._any = 0
        self._exact: dict[bytes, int] = {}
        self._prefixes: dict[int, dict[bytes, int]] = {}
        general: dict[bytes, int] = {}
        for index, pattern in enumerate(patterns):
            bit = 1 << index
            if not pattern:
                self._any |= bit
                continue
            match classify(pattern):
                case Exact(texts):
                    for text in texts:
                        self._exact[text] = self._exact.get(text, 0) | bit
                case Prefix(texts):
                    for text in texts:
                        same_length = self._prefixes.setdefault(len(text), {})
                        same_length[text] = same_length.get(text, 0) | bit
                case _:
                    whole = encode(pattern)
                    general[whole] = general.get(whole, 0) | bit
        self._sets = [_PatternSet(part) for part in _parts(general)]

    def matching(self, value: bytes) -> int:
        mask = self._any | self._exact.get(value, 0)
        for length, known in self._prefixes.items():
            bits = known.get(value[:length], 0)
            if bits and b"\n" not in value[length:]:
                mask |= bits
        for patterns in self._sets:
            mask |= patterns.matching(value)
        return mask


class _PatternSet:
    """Patterns that only RE2 can match, all in one call.

    A set says "no match" also when it runs out of memory. That is harmless, because HTTP rules only ever allow.
    """

    def __init__(self, patterns: Mapping[bytes, int]) -> None:
        self._masks = list(patterns.values())
        self._set = re2.Set.FullMatchSet(options())
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()

    def matching(self, value: bytes) -> int:
        mask = 0
        for index in self._set.Match(value) or ():
            mask |= self._masks[index]
        return mask


def _parts(patterns: Mapping[bytes, int]) -> list[dict[bytes, int]]:
    """The patterns in groups whose programs together stay small enough for one set."""
    parts: list[dict[bytes, int]] = []
    room = 0
    for pattern, mask in patterns.items():
        size = program_size(pattern)
        if not parts or size > room:
            parts.append({})
            room = MAX_SET_PROGRAM
        parts[-1][pattern] = mask
        room -= size
    return parts


class _Header:
    """What all rules want of one header: value (of all its fields, joined) → mask of the rules that it satisfies."""

    def __init__(self, wanted: Sequence[frozenset[str | None]]) -> None:
        self._unrestricted = 0
        self._present = 0
        self._values: dict[bytes, int] = {}
        for index, values in enumerate(wanted):
            bit = 1 << index
            exact = values - {None}
            if not values:
                self._unrestricted |= bit
            elif not exact:
                self._present |= bit
            elif len(exact) == 1:
                # Two different values at once are wanted by nobody who means it: such a rule never matches.
                text = encode(next(iter(exact)) or "")
                self._values[text] = self._values.get(text, 0) | bit

    def matching(self, value: bytes | None) -> int:
        if value is None:
            return self._unrestricted
        return self._unrestricted | self._present | self._values.get(value, 0)


class HttpMatcher:
    """`rules`: each HTTP rule with the id of the origin that it came from."""

    __slots__ = ("_headers", "_hosts", "_methods", "_paths", "_rules", "needs_headers")

    def __init__(self, rules: Sequence[tuple[HttpRule, int]]) -> None:
        self._rules = tuple(rules)
        self._methods = _Field(rule.method for rule, _ in rules)
        self._paths = _Field(rule.path for rule, _ in rules)
        self._hosts = _Field(rule.host for rule, _ in rules)
        names = sorted({name for rule, _ in rules for name, _ in rule.headers})
        self._headers = {
            encode(name): _Header([frozenset(value for key, value in rule.headers if key == name) for rule, _ in rules])
            for name in names
        }
        self.needs_headers = bool(self._headers)

    def judge(self, request: HttpRequest) -> int | None:
        """The origin id of the first rule that permits the request, or None."""
        mask = self._paths.matching(request.path)
        if mask:
            mask &= self._methods.matching(request.method)
        if mask:
            mask &= self._hosts.matching(request.host)
        if mask and self._headers:
            for name, header in self._headers.items():
                mask &= header.matching(_header_value(request, name))
        return self._rules[(mask & -mask).bit_length() - 1][1] if mask else None

    def explain(self, request: HttpRequest, origins: Mapping[int, Origin]) -> str:
        """Which matcher of which rule said no; the rules that came closest first."""
        if not self._rules:
            return "there is no HTTP rule"
        faults = sorted(
            ((_faults(rule, request), origin) for rule, origin in self._rules), key=lambda item: len(item[0])
        )
        told = [
            f"{' and '.join(said) or 'it matches'} ({_place(origins.get(origin), origin)})"
            for said, origin in faults[:MAX_EXPLAINED]
        ]
        more = len(faults) - len(told)
        return "; ".join(told) + (f"; and {more} more rules" if more else "")


def _header_value(request: HttpRequest, name: bytes) -> bytes | None:
    """All values of a header, joined as RFC 9110 §5.3 allows; None if it is not there."""
    values = [value for key, value in request.headers if key == name]
    return b",".join(values) if values else None


def _faults(rule: HttpRule, request: HttpRequest) -> list[str]:
    """What of the rule the request does not satisfy."""
    said: list[str] = []
    for name, pattern, value in (
        ("method", rule.method, request.method),
        ("path", rule.path, request.path),
        ("host", rule.host, request.host),
    ):
        if pattern and compiled(encode(pattern)).fullmatch(value) is None:
            said.append(f'{name} "{value.decode("latin-1")}" does not match "{pattern}"')
    for name, wanted in rule.headers:
        found = _header_value(request, encode(name))
        if found is None:
            said.append(f'header "{name}" is missing')
        elif wanted is not None and found != encode(wanted):
            # The value is not told: headers carry credentials, and this goes to logs.
            said.append(f'header "{name}" has another value')
    return said


def _place(origin: Origin | None, number: int) -> str:
    if origin is None:
        return f"rule {number}"
    where = f", {origin.file}:{origin.line}" if origin.file else ""
    return f"{origin.name} {origin.rule}{where}"
