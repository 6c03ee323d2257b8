"""HTTP rules of one connection, compiled: which rule permits a request, at a cost that does not grow with the rules.

Method, path and host are RE2 expressions that must match in full, on bytes. Patterns without operators are compared by
dictionary; the others go into one `re2.Set` per field. Patterns of users never meet Python's `re`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import re2

from config.policy.resolved import HttpRule, Origin
from parsers.facts import HttpRequest

MAX_SET_MEMORY_BYTES = 64 << 20
_LITERAL = re.compile(r"[A-Za-z0-9/_:@%&=,;~ -]*")


def re2_options() -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MAX_SET_MEMORY_BYTES
    return options


class _Field:
    """One field of all rules: value → the rules whose pattern for it matches (as a bit mask)."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.any = 0
        self._literals: dict[bytes, int] = {}
        self._set_bits: list[int] = []
        self._set: re2.Set | None = None
        bits: dict[str, int] = {}
        for index, pattern in enumerate(patterns):
            if not pattern:
                self.any |= 1 << index
            elif _LITERAL.fullmatch(pattern):
                key = pattern.encode()
                self._literals[key] = self._literals.get(key, 0) | 1 << index
            else:
                bits[pattern] = bits.get(pattern, 0) | 1 << index
        if bits:
            self._set = re2.Set.FullMatchSet(re2_options())
            for pattern, mask in bits.items():
                self._set.Add(pattern.encode())
                self._set_bits.append(mask)
            self._set.Compile()

    def matching(self, value: bytes) -> int:
        mask = self.any | self._literals.get(value, 0)
        if self._set is not None:
            for index in self._set.Match(value) or ():
                mask |= self._set_bits[index]
        return mask


class HttpMatcher:
    """`rules`: each HTTP rule with the id of the origin that it came from."""

    def __init__(self, rules: Sequence[tuple[HttpRule, int]]) -> None:
        self._rules = tuple(rules)
        self._methods = _Field([rule.method for rule, _ in rules])
        self._paths = _Field([rule.path for rule, _ in rules])
        self._hosts = _Field([rule.host for rule, _ in rules])
        self.needs_headers = any(rule.headers for rule, _ in rules)

    def judge(self, request: HttpRequest) -> int | None:
        """The origin id of the first rule that permits the request, or None."""
        mask = self._paths.matching(request.path)
        if mask:
            mask &= self._methods.matching(request.method)
        if mask:
            mask &= self._hosts.matching(request.host)
        while mask:
            index = (mask & -mask).bit_length() - 1
            rule, origin = self._rules[index]
            if not rule.headers or _headers_match(rule, request):
                return origin
            mask &= mask - 1
        return None

    def explain(self, request: HttpRequest, origins: Mapping[int, Origin]) -> str:
        """Which matcher of which rule said no."""
        reasons = []
        for index, (rule, origin_id) in enumerate(self._rules[:8]):
            origin = origins.get(origin_id)
            where = f"{origin.name} {origin.rule}, {origin.file}:{origin.line}" if origin else f"rule {origin_id}"
            reasons.append(f"{self._mismatch(rule, 1 << index, request)} ({where})")
        return "; ".join(reasons)

    def _mismatch(self, rule: HttpRule, bit: int, request: HttpRequest) -> str:
        for name, field, pattern, value in (
            ("path", self._paths, rule.path, request.path),
            ("method", self._methods, rule.method, request.method),
            ("host", self._hosts, rule.host, request.host),
        ):
            if not field.matching(value) & bit:
                return f'{name} "{value.decode("latin-1")}" does not match "{pattern}"'
        return "a required header is missing or different"


def _headers_match(rule: HttpRule, request: HttpRequest) -> bool:
    for name, wanted in rule.headers:
        values = [value for key, value in request.headers if key == name.encode()]
        if not values or (wanted is not None and b",".join(values) != wanted.encode()):
            return False
    return True
