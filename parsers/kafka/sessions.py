"""Share sessions (KIP-932): a fetch names only what has changed, so what it is about is known from those before it.

A server keeps a session by group and member. Here it is known on the connection on which it began; one that began
elsewhere is told that there is none, and begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from parsers.errors import ParseError

FINAL = -1
FIRST = 0


class ShareSessions:
    """Of one connection: (group, member) → topic ids. At most `limit` topics in all."""

    __slots__ = ("_limit", "_topics")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._topics: dict[tuple[str, str], set[bytes]] = {}

    def fetch(self, group: str, member: str, epoch: int, ids: Iterable[bytes]) -> set[bytes] | None:
        """The ids of all topics that this fetch is about; None: its session is not known."""
        key = (group, member)
        if epoch == FINAL:
            self._topics.pop(key, None)
            return set(ids)
        if epoch == FIRST:
            known = self._topics[key] = set()
        else:
            found = self._topics.get(key)
            if found is None:
                return None
            known = found
        known.update(ids)
        if sum(map(len, self._topics.values())) + len(self._topics) > self._limit:
            raise ParseError("the share sessions of a connection have too many topics", limit="session_topics")
        return known

    def forget(self, group: str, member: str) -> None:
        """What was refused never reached the server: it has no such session."""
        self._topics.pop((group, member), None)
