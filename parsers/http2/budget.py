"""What a client may send that costs and carries nothing. Whatever exceeds it ends the connection."""

from __future__ import annotations

from parsers.http2.frames import ConnectionFault, ErrorCode
from parsers.limits import Http2Limits

_REFILL_NS = 10_000_000
"""One more control frame is allowed for each: a hundred a second."""

USEFUL = 10
"""Control frames that come with each request or frame of data."""

FIRST_PART = 5
"""This part of the burst is there at once; the rest has to be earned, by requests, by data or by time."""

SETTINGS_COST = 10
"""SETTINGS ask for an answer and for work on every stream."""


class Budget:
    """Of one connection, for what its client sends."""

    __slots__ = ("_empty", "_left", "_limits", "_refilled", "_resets", "_streams")

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._left = max(1, limits.control_frames // FIRST_PART)
        self._refilled = -1
        self._empty = 0
        self._streams = 0
        self._resets = 0

    def control(self, now: int, cost: int = 1) -> None:
        """A frame that carries nothing."""
        if self._refilled < 0:
            self._refilled = now
        self._left -= cost
        if self._left < 0:
            self._refill(now)
            if self._left < 0:
                raise ConnectionFault(
                    ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing", limit="control_frames"
                )

    def _refill(self, now: int) -> None:
        earned = (now - self._refilled) // _REFILL_NS
        self._refilled = now
        self._left = min(self._limits.control_frames, self._left + earned)

    def useful(self) -> None:
        """A request, or data in either direction."""
        self._empty = 0
        if self._left < self._limits.control_frames:
            self._left += USEFUL

    def empty_data(self) -> None:
        self._empty += 1
        if self._empty > self._limits.empty_frames:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, "too many frames of data without data", limit="empty_frames"
            )

    def opened(self) -> None:
        """A stream, whatever becomes of it."""
        self._streams += 1
        self.useful()

    def reset(self, lifetime: int) -> None:
        """A stream that its client gave up, or that was reset for its mistakes."""
        limits = self._limits
        if lifetime < limits.reset_lifetime_ns:
            self._resets += 1
            if self._streams >= limits.reset_streams and self._resets * 100 > self._streams * limits.reset_percent:
                raise ConnectionFault(
                    ErrorCode.ENHANCE_YOUR_CALM,
                    "too many streams are reset before they have lived",
                    limit="reset_streams",
                )
