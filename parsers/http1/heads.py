"""Collects a message head that arrives in pieces, in time linear in its bytes."""

from __future__ import annotations

from collections.abc import Callable

from parsers.limits import Http1Limits

CheckUnfinished = Callable[[bytearray, int, Http1Limits], None]
"""Refuses, by ParseError, the start of a head that can not become valid; the index is where new bytes begin."""


class HeadBuffer:
    """`take` gives the whole head once its empty line has come, None before. Bounded by the check."""

    __slots__ = ("_check", "_held", "_limits", "serial")

    def __init__(self, check: CheckUnfinished, limits: Http1Limits) -> None:
        self._held = bytearray()
        self._check = check
        self._limits = limits
        self.serial = 0
        """Counts the heads that arrived in pieces."""

    def __bool__(self) -> bool:
        return bool(self._held)

    def take(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """(head or None, index in `data` behind what was used)."""
        held = len(self._held)
        if not held:
            end = data.find(b"\r\n\r\n", at) + 4
            if 4 <= end <= at + self._limits.head_bytes:
                return data[at:end], end
            self.serial += 1
        self._held += data[at : at + self._limits.head_bytes + 4]
        end = self._held.find(b"\r\n\r\n", max(0, held - 3)) + 4
        if end < 4 or end > self._limits.head_bytes:
            self._check(self._held, held, self._limits)
            return None, len(data)
        head = bytes(self._held[:end])
        self._held.clear()
        return head, at + end - held
