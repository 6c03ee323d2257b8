"""`headerMatches` beyond plain comparison: secrets, and actions on headers that are not as they should be.

Whether the rule permits the request is decided first, by the items with the action FAIL; the others never refuse. Each
matching rule acts, in order, on the request as it came, and what they do adds up.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from config.policy.faults import Fault
from config.policy.resolved import HeaderAction, HeaderMatch, HttpRule
from parsers.facts import EditKind, HeaderEdit, HttpRequest


def header_value(request: HttpRequest, name: bytes) -> bytes | None:
    """All values of a header, joined as RFC 9110 §5.3 allows; None if it is not there."""
    values = [value for key, value in request.headers if key == name]
    return b",".join(values) if values else None


def fits(match: HeaderMatch, request: HttpRequest) -> bool:
    """Is the header as it should be? Takes as long for nearly right values as for wrong ones."""
    value = header_value(request, match.name.encode())
    return value is not None and hmac.compare_digest(value, match.value.encode())


def permits(rule: HttpRule, request: HttpRequest) -> bool:
    """The say of those items that can refuse; without its secrets a rule permits nothing."""
    return all(
        match.is_known and (match.action is not HeaderAction.FAIL or fits(match, request))
        for match in rule.header_matches
    )


def match_faults(rule: HttpRule, request: HttpRequest) -> list[Fault]:
    """What `permits` does not find; values are not told."""
    found: list[Fault] = []
    for match in rule.header_matches:
        if match.is_known and (match.action is not HeaderAction.FAIL or fits(match, request)):
            continue
        missing = header_value(request, match.name.encode()) is None
        said = f'header "{match.name}" is missing' if missing else f'header "{match.name}" has another value'
        if not match.is_known:
            said = f'header "{match.name}": the secret {match.secret} is not known'
        found.append(Fault(f"http.header {match.name}", said))
    return found


def acts(rule: HttpRule) -> bool:
    """Is there more to it than a say?"""
    return any(match.action is not HeaderAction.FAIL for match in rule.header_matches)


def actions(rules: Iterable[HttpRule], request: HttpRequest) -> tuple[tuple[HeaderEdit, ...], tuple[str, ...]]:
    """What matching rules do to a request, and what is to be noted about it. Two that do the same do it once."""
    edits: list[HeaderEdit] = []
    latest: dict[bytes, HeaderEdit] = {}
    notes: dict[str, None] = {}
    for rule in rules:
        for match in rule.header_matches:
            if match.action is HeaderAction.FAIL or fits(match, request):
                continue
            there = header_value(request, match.name.encode())
            notes[f'header "{match.name}" {"is missing" if there is None else "has another value"}'] = None
            edit = _edit(match, there)
            if edit is not None and latest.get(edit.name) != edit:
                latest[edit.name] = edit
                edits.append(edit)
    return tuple(edits), tuple(notes)


def _edit(match: HeaderMatch, there: bytes | None) -> HeaderEdit | None:
    name, value = match.name.encode(), match.value.encode()
    match match.action:
        case HeaderAction.ADD:
            return HeaderEdit(EditKind.ADD, name, value)
        case HeaderAction.REPLACE:
            return HeaderEdit(EditKind.SET, name, value)
        case HeaderAction.DELETE if there is not None and value:
            return HeaderEdit(EditKind.REMOVE, name)
    return None
