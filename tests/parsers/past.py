"""As a connection with a relay does it: what a filter needs not see goes by it, the rest comes byte by byte."""

from __future__ import annotations

from collections.abc import Iterator

from parsers.filters import Filter, Way


def pieces(filter_: Filter, way: Way, data: bytes) -> Iterator[tuple[bytes, bool]]:
    """(bytes, True if they have gone by). The caller feeds each of the others before it takes the next."""
    at = 0
    while at < len(data):
        count = min(filter_.unread(way) - 1, len(data) - at) if filter_.end is None else 0
        if count > 0:
            filter_.passed(way, count)
        stop = at + max(count, 1)
        yield data[at:stop], count > 0
        at = stop
