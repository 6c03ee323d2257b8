"""HTTP rules of one connection, compiled: which rule permits a request, at a cost that does not grow with the rules.

Each field of all rules together answers one question: for which rules does this value do? The answer is a bit mask,
and the masks of method, path, host and headers are AND-ed. Plain texts and `text.*` are found by dictionary; what is
left goes into `re2.Set`s, which match all their patterns at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import re2

from config.policy.faults import Fault, told
from config.policy.header_matches import actions, acts, header_value, match_faults, permits
from config.policy.patterns import Exact, Prefix, classify, compiled, encode, options, program_size
from config.policy.resolved import HttpRule, Origin
from parsers.facts import HeaderEdit, HttpRequest

CONNECT = b"CONNECT"
"""Behind it come bytes that no rule sees, so a rule that leaves the method open does not mean it."""

MAX_SET_PROGRAM = 20_000
"""Instructions of all patterns of one set. More patterns go into another set: one too large could not be compiled."""


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

    __slots__ = (
        "_checked",
        "_headers",
        "_hosts",
        "_methods",
        "_naming_method",
        "_paths",
        "_rules",
        "acts",
        "needs_headers",
    )

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
        self._naming_method = sum(1 << index for index, (rule, _) in enumerate(rules) if rule.method)
        self._checked = sum(1 << index for index, (rule, _) in enumerate(rules) if rule.header_matches)
        self.needs_headers = bool(self._headers or self._checked)
        self.acts = any(acts(rule) for rule, _ in rules)
        """May `edits` find anything?"""

    def judge(self, request: HttpRequest) -> int | None:
        """The origin id of the first rule that permits the request, or None."""
        mask = self._matching(request)
        return self._rules[(mask & -mask).bit_length() - 1][1] if mask else None

    def edits(self, request: HttpRequest) -> tuple[tuple[HeaderEdit, ...], tuple[str, ...]]:
        """What the rules that permit the request do to its headers, and what they note about them."""
        mask = self._matching(request)
        return actions((rule for index, (rule, _) in enumerate(self._rules) if mask >> index & 1), request)

    def _matching(self, request: HttpRequest) -> int:
        """The rules that permit the request, as a mask."""
        mask = self._paths.matching(request.path)
        if request.method == CONNECT:
            mask &= self._naming_method
        if mask:
            mask &= self._methods.matching(request.method)
        if mask:
            mask &= self._hosts.matching(request.host)
        if mask and self._headers:
            for name, header in self._headers.items():
                mask &= header.matching(header_value(request, name))
        checked = mask & self._checked
        while checked:
            bit = checked & -checked
            checked ^= bit
            if not permits(self._rules[bit.bit_length() - 1][0], request):
                mask ^= bit
        return mask

    def explain(self, request: HttpRequest, origins: Mapping[int, Origin]) -> str:
        """Which matcher of which rule said no; the rules that came closest first."""
        return told(self._rules, lambda rule: faults(rule, request), origins, "HTTP")


def faults(rule: HttpRule, request: HttpRequest) -> list[Fault]:
    """Everything of the rule that the request does not satisfy; nothing if the rule permits it."""
    found: list[Fault] = []
    if request.method == CONNECT and not rule.method:
        found.append(Fault("http.method", "method CONNECT opens a tunnel, and is for rules that name a method"))
    for name, pattern, value in (
        ("method", rule.method, request.method),
        ("path", rule.path, request.path),
        ("host", rule.host, request.host),
    ):
        if pattern and compiled(encode(pattern)).fullmatch(value) is None:
            found.append(Fault(f"http.{name}", f'{name} "{value.decode("latin-1")}" does not match "{pattern}"'))
    for name, wanted in rule.headers:
        there = header_value(request, encode(name))
        if there is None:
            found.append(Fault(f"http.header {name}", f'header "{name}" is missing'))
        elif wanted is not None and there != encode(wanted):
            # The value is not told: headers carry credentials, and this goes to logs.
            found.append(Fault(f"http.header {name}", f'header "{name}" has another value'))
    return found + match_faults(rule, request)
