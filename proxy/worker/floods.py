"""Clients that flood: each connection has its bounds, and whoever comes back with the next one has them, too.

A client whose connections had to be ended for floods again and again gets no new ones for a while. Those that it has go
on, and other clients are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOODS = frozenset(
    (
        "control_frames",
        "empty_frames",
        "reset_streams",
        "continuation_frames",
        "header_block_bytes",
        "header_list_bytes",
        "pipelined_requests",
    )
)
"""Bounds that nobody reaches by accident; those of a single message (a large head, a long line) are not among them."""

TOLERATED = 10
"""Floods of one client, in the time for which it would be locked out."""

MAX_CLIENTS = 4096
"""Clients that are remembered; beyond it the one that was noticed first is forgotten."""


@dataclass(slots=True)
class _Record:
    count: int
    until: int


class FloodingClients:
    """By address. Times are monotonic ns; `penalty_ns` 0: nobody is locked out."""

    def __init__(self, penalty_ns: int) -> None:
        self._penalty_ns = penalty_ns
        self._clients: dict[str, _Record] = {}

    def note(self, client: str, limit: str, now: int) -> None:
        """A connection of the client was ended for this bound."""
        if limit not in FLOODS or not self._penalty_ns:
            return
        record = self._clients.get(client)
        if record is None or record.until < now:
            self._clients.pop(client, None)
            if len(self._clients) >= MAX_CLIENTS:
                del self._clients[next(iter(self._clients))]
            record = self._clients[client] = _Record(0, 0)
        record.count += 1
        record.until = now + self._penalty_ns

    def is_out(self, client: str, now: int) -> bool:
        """May the client have no new connection?"""
        record = self._clients.get(client) if self._clients else None
        return record is not None and record.count > TOLERATED and now < record.until
