"""Label selectors of flow filters: Kubernetes syntax over flow labels such as `k8s:app=web`.

`app=web,tier!=db,env in (a,b),!canary,reserved:world`: terms joined by commas, all of which must hold. A key without a
source matches any source; `k8s:app` only that one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

Match = Callable[[Sequence[str]], bool]

_KEY: Final = r"(?P<key>[A-Za-z0-9_][A-Za-z0-9_.:/\-]*)"
_SET: Final = re.compile(rf"{_KEY}\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL: Final = re.compile(rf"{_KEY}\s*(?P<op>==|!=|=)\s*(?P<value>[A-Za-z0-9_.\-]*)")
_EXISTS: Final = re.compile(rf"(?P<op>!?)\s*{_KEY}")
_COMMA: Final = re.compile(r",(?![^()]*\))")


def selector(text: str) -> Match:
    """A predicate on a flow's labels. ValueError says which term is wrong."""
    terms = [_term(part.strip()) for part in _COMMA.split(text)]
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Match:
    if match := _SET.fullmatch(text):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return _has(match["key"], values, wanted=match["op"] == "in")
    if match := _EQUAL.fullmatch(text):
        return _has(match["key"], frozenset((match["value"],)), wanted=match["op"] != "!=")
    if match := _EXISTS.fullmatch(text):
        return _has(match["key"], None, wanted=not match["op"])
    raise ValueError(
        f"not a label selector: {text!r}; expected for example app=web, env in (a,b), !canary, reserved:world"
    )


def _has(key: str, values: frozenset[str] | None, *, wanted: bool) -> Match:
    source, _, bare = key.rpartition(":")

    def matches(labels: Sequence[str]) -> bool:
        return any(_is(label) for label in labels) is wanted

    def _is(label: str) -> bool:
        full, _, value = label.partition("=")
        label_source, _, label_key = full.rpartition(":")
        if label_key != bare or (source not in ("", "any") and source != label_source):
            return False
        return values is None or value in values

    return matches
