"""The streams of a connection, as both directions see them."""

from __future__ import annotations

from enum import Enum

from parsers.http2.judged import JudgedBlock, RefusedRequest


class Stream:
    """One stream that has not ended. `left`: bytes that its request still owes by its length; -1 if it named none.

    `is_kept`: it was refused without an answer, so that only the client knows of it.
    """

    __slots__ = ("client_done", "informational", "is_answered", "is_kept", "judged", "left", "server_done", "started")

    def __init__(
        self, judged: JudgedBlock | RefusedRequest, started: int, *, client_done: bool, is_kept: bool = False
    ) -> None:
        self.judged = judged
        self.started = started
        self.left = judged.length
        self.client_done = client_done
        self.server_done = False
        self.is_answered = False
        self.is_kept = is_kept
        self.informational = 0


class Ended(Enum):
    """What became of a stream, which says what to do with frames for it that were on their way."""

    COMPLETE = "complete"
    """Its client said all and may say no more."""

    RESET = "reset"
    """The server knows it and deals with stragglers."""

    KEPT = "kept"
    """The server never heard of it: nor does it of stragglers."""


class Streams:
    """All of them. `last`: the highest number that the client has used."""

    __slots__ = ("_limit", "ended", "last", "live")

    def __init__(self, remembered: int) -> None:
        self.live: dict[int, Stream] = {}
        self.ended: dict[int, Ended] = {}
        self.last = 0
        self._limit = remembered

    def end(self, number: int, how: Ended) -> None:
        self.live.pop(number, None)
        ended = self.ended
        if len(ended) >= self._limit:
            del ended[next(iter(ended))]
        ended[number] = how
