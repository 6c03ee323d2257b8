"""Query parameters of `/v1/flows` → what to read from the ring.

Names are those of the CLI's flags; `allowlist` and `denylist` take FlowFilter JSON. A parameter that is not known is
refused: a filter that silently does nothing shows too much.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from proxy.api.models import ApiError
from proxy.flows.filters import FilterError
from proxy.flows.flags import FLAGS, FilterBuilder
from proxy.flows.query import Query
from proxy.flows.times import parse_moment

DEFAULT_LAST: Final = 20
_OWN: Final = ("follow", "last", "first", "all", "since", "until", "allowlist", "denylist")
_RAW: Final = ("allowlist", "denylist")
_SINGLE: Final = frozenset(_OWN) - frozenset(_RAW)


def parse(pairs: Iterable[tuple[str, str]], now_ns: int) -> Query:
    """Parameters in the order given. ApiError 400 says which one is wrong and why."""
    own: dict[str, str] = {}
    builder = FilterBuilder()
    for raw_name, value in pairs:
        name = raw_name.replace("_", "-")
        try:
            if name in _RAW:
                builder.add_raw(value, deny=name == "denylist")
            elif name in FLAGS:
                builder.add(name, value)
            elif name in _SINGLE and name not in own:
                own[name] = value
            else:
                raise _unknown(raw_name, name in own)
        except FilterError as error:
            where = f"{raw_name}: " if name in _RAW else ""
            raise ApiError(400, "bad-filter", f"{where}{error}") from None
    try:
        filters = builder.build()
    except FilterError as error:
        raise ApiError(400, "bad-filter", str(error)) from None
    _refuse_conflicts(own)
    follow = _flag(own, "follow")
    last, first = _count(own, "last"), _count(own, "first")
    since, until = _moment(own, "since", now_ns), _moment(own, "until", now_ns)
    if last is None and first is None and not (since or until or _flag(own, "all")):
        last = 0 if follow else DEFAULT_LAST
    return Query(filters, last, first, since, until, follow)


def _unknown(name: str, is_repeated: bool) -> ApiError:
    if is_repeated:
        return ApiError(400, "bad-parameter", f"parameter {name!r} is given twice")
    close = get_close_matches(name, (*_OWN, *FLAGS), 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join((*_OWN, *FLAGS))}"
    return ApiError(400, "bad-parameter", f"unknown parameter {name!r}", hint)


def _refuse_conflicts(own: dict[str, str]) -> None:
    given = {name for name in ("first", "last") if name in own} | {n for n in ("all", "follow") if _flag(own, n)}
    for one, other in (("first", "last"), ("first", "all"), ("first", "follow"), ("last", "all")):
        if one in given and other in given:
            raise ApiError(400, "bad-parameter", f"cannot set both {one} and {other}")


def _flag(own: dict[str, str], name: str) -> bool:
    value = own.get(name, "false").lower()
    if value not in ("true", "1", "", "false", "0"):
        raise ApiError(400, "bad-parameter", f"{name}: expected true or false, not {value!r}")
    return value in ("true", "1", "")


def _count(own: dict[str, str], name: str) -> int | None:
    value = own.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise ApiError(400, "bad-parameter", f"{name}: expected a number, not {value!r}")
    return int(value)


def _moment(own: dict[str, str], name: str, now_ns: int) -> int:
    value = own.get(name)
    if value is None:
        return 0
    try:
        return parse_moment(value, now_ns)
    except ValueError as error:
        raise ApiError(400, "bad-parameter", f"{name}: {error}") from None
