"""Why L7 rules do not permit a request, in words: what all matchers have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from config.policy.resolved import Origin

MAX_EXPLAINED = 3
"""Rules that an explanation lists; the next line of a log is not a policy report."""

_R = TypeVar("_R")


class Fault(NamedTuple):
    """What of a rule a request does not satisfy: the matcher, such as `http.path`, and in words."""

    matcher: str
    said: str


def told(
    rules: Iterable[tuple[_R, int]], faults: Callable[[_R], list[Fault]], origins: Mapping[int, Origin], kind: str
) -> str:
    """Which matcher of which rule said no; the rules that came closest first."""
    found = sorted(((faults(rule), origin) for rule, origin in rules), key=lambda item: len(item[0]))
    if not found:
        return f"there is no {kind} rule"
    texts = [
        f"{' and '.join(fault.said for fault in said) or 'it matches'} ({_place(origins.get(origin), origin)})"
        for said, origin in found[:MAX_EXPLAINED]
    ]
    more = len(found) - len(texts)
    return "; ".join(texts) + (f"; and {more} more rules" if more else "")


def _place(origin: Origin | None, number: int) -> str:
    if origin is None:
        return f"rule {number}"
    where = f", {origin.file}:{origin.line}" if origin.file else ""
    return f"{origin.name} {origin.rule}{where}"
