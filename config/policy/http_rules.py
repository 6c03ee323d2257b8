"""`rules.http` → `HttpRule`s."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from config import codes
from config.findings import ValuePath
from config.policy import model
from config.policy.model import HttpFields
from config.policy.patterns import MAX_TOTAL, fault, total_size
from config.policy.resolved import HeaderAction, HeaderMatch, HttpRule
from config.policy.scope import Scope
from parsers.facts import FIXED_HEADERS, plain_name

_Headers = list[tuple[str, str | None]]

# RFC 9110 §5.1 and §5.5: what is not ASCII goes out in UTF-8, which is obs-text.
_FIELD_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")
_FIELD_VALUE = re.compile(r"([^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?\Z")
MAX_VALUE = 8192
"""Characters of a header's value in a policy. Servers refuse heads of that size; longer ones can be secrets."""


def read_http_rules(items: list[HttpFields], scope: Scope, path: ValuePath) -> tuple[HttpRule, ...]:
    found = tuple(_http_rule(item, scope, (*path, index)) for index, item in enumerate(items))
    _check_total(found, scope, path)
    return found


def _check_total(rules: tuple[HttpRule, ...], scope: Scope, path: ValuePath) -> None:
    patterns = [pattern for rule in rules for pattern in (rule.method, rule.path, rule.host) if pattern]
    if not scope.ok:
        return
    size = total_size(patterns)
    if size > MAX_TOTAL:
        message = f"the regular expressions of this list compile to {size} instructions, more than {MAX_TOTAL}"
        scope.add(codes.REGEX_BIG, path, message, hint="simpler expressions, texts and `text.*` cost nothing", key=True)


def _http_rule(item: HttpFields, scope: Scope, path: ValuePath) -> HttpRule:
    for name in ("path", "method", "host"):
        pattern = getattr(item, name)
        problem = fault(pattern) if pattern else None
        if problem is not None:
            too_big, message = problem
            scope.add(codes.REGEX_BIG if too_big else codes.REGEX_BAD, (*path, name), message)
    headers: _Headers = []
    for index, text in enumerate(item.headers or []):
        headers.extend(_header(text, scope, (*path, "headers", index)))
    matches: list[HeaderMatch] = []
    for index, given in enumerate(item.header_matches or []):
        match = _header_match(given, scope, (*path, "headerMatches", index))
        if isinstance(match, HeaderMatch):
            matches.append(match)
        elif match is not None:
            headers.append(match)
    wanted, others = tuple(dict.fromkeys(headers)), tuple(dict.fromkeys(matches))
    return HttpRule(item.method or "", item.path or "", item.host or "", wanted, others)


def _header(text: str, scope: Scope, path: ValuePath) -> _Headers:
    """`Name: value` is cut at the first space; without one only the presence of a header of that name is asked for."""
    name, space, value = text.partition(" ")
    if space:
        name = name.removesuffix(":")
    elif ":" in name:
        scope.add(codes.HEADER_SPELLING, path, f'"{text}" asks for a header of that whole name, which nobody can send')
    if not name:
        scope.add(codes.HEADER_BAD, path, f'"{text}" names no header')
        return []
    return [(name.lower(), value if space else None)]


def _header_match(
    match: model.HeaderMatch, scope: Scope, path: ValuePath
) -> HeaderMatch | tuple[str, str | None] | None:
    """A plain comparison where that is all there is to it."""
    name, action = match.name.lower(), _action(match, scope, path)
    if not _FIELD_NAME.match(name):
        scope.add(codes.HEADER_BAD, path, f'"{match.name[:80]}" is not the name of a header')
        return None
    if action is None:
        return None
    if not _FIELD_VALUE.match(match.value or ""):
        scope.add(codes.HEADER_VALUE, (*path, "value"), "the value cannot be that of a header")
    elif len(match.value or "") > MAX_VALUE:
        scope.add(codes.HEADER_VALUE, (*path, "value"), f"the value has more than {MAX_VALUE} characters")
    if action not in (HeaderAction.FAIL, HeaderAction.LOG) and _is_fixed(name):
        scope.add(codes.HEADER_UNTOUCHABLE, path, f'the header "{name}" frames or routes the message')
    if match.secret is None and action is HeaderAction.FAIL:
        return name, match.value or None
    secret = ""
    if match.secret is not None:
        namespace = match.secret.namespace or scope.namespace
        if not namespace:
            scope.add(codes.SECRET_NAMESPACE, (*path, "secret"), "a cluster-wide policy must name a secret's namespace")
        secret = f"{namespace}/{match.secret.name}"
    return HeaderMatch(name, action, match.value or "", secret, bool(match.value) or not secret)


def _is_fixed(name: str) -> bool:
    """Servers that make variables of headers take `_` for `-`."""
    return plain_name(name.encode()) in FIXED_HEADERS


def _action(match: model.HeaderMatch, scope: Scope, path: ValuePath) -> HeaderAction | None:
    if match.mismatch == "FAIL":
        scope.add(codes.MISMATCH_FAIL, (*path, "mismatch"), "mismatch: FAIL is what a missing `mismatch` means")
    try:
        return HeaderAction(match.mismatch or "FAIL")
    except ValueError:
        scope.add(codes.SCHEMA_VALUE, (*path, "mismatch"), f'"{match.mismatch}" is no mismatch action')
        return None


def refers_to_secret(rule: HttpRule) -> bool:
    return any(match.secret for match in rule.header_matches)


def with_secrets(rule: HttpRule, secrets: Mapping[str, str]) -> HttpRule:
    """The rule with the values of its secrets; one that is not there leaves the value of the file, if any."""
    matches = tuple(
        replace(match, value=secrets[match.secret], is_known=True) if match.secret in secrets else match
        for match in rule.header_matches
    )
    return replace(rule, header_matches=matches)
