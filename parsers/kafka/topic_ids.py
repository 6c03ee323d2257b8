"""Which topic an id stands for (KIP-516), as the server itself has told.

An id is worth no more than the server that named it, so each server has a table of its own: another one could give a
secret topic's id a harmless name. Ids never change their meaning; a topic that is made anew gets a new one.
"""

from __future__ import annotations

NO_ID = bytes(16)
MAX_SERVERS = 1024
"""Servers remembered; beyond it the one that has been unused for longest is forgotten."""


class TopicIds:
    """Of one server. At most `limit` ids; beyond it the one that was learned first is forgotten."""

    __slots__ = ("_limit", "_names")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: dict[bytes, str] = {}

    def learn(self, topic_id: bytes, name: str) -> None:
        names = self._names
        if topic_id == NO_ID or topic_id in names:
            return
        if len(names) >= self._limit:
            del names[next(iter(names))]
        names[topic_id] = name

    def name(self, topic_id: bytes) -> str | None:
        return self._names.get(topic_id)

    def __len__(self) -> int:
        return len(self._names)


class TopicIdTables:
    """Of all servers of a worker, by (address, port)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tables: dict[tuple[str, int], TopicIds] = {}

    def of(self, server: tuple[str, int]) -> TopicIds:
        table = self._tables.pop(server, None)
        if table is None:
            if len(self._tables) >= MAX_SERVERS:
                del self._tables[next(iter(self._tables))]
            table = TopicIds(self._limit)
        self._tables[server] = table
        return table
