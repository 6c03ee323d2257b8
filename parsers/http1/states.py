"""The states of a connection's two sides, its ends, and the answers that are due."""

from __future__ import annotations

from enum import Enum

from parsers.http1.judging import Judged


class End(Enum):
    """How a connection ends. CLOSE: after what was written. ABORT: by reset, because a message is cut off."""

    CLOSE = "close"
    ABORT = "abort"


class ClientState(Enum):
    HEAD = "head"
    BODY = "body"
    CHUNKS = "chunks"
    UPGRADING = "upgrading"
    ENDED = "ended"
    TUNNEL = "tunnel"


class ServerState(Enum):
    HEAD = "head"
    BODY = "body"
    CHUNKS = "chunks"
    UNTIL_CLOSE = "until close"
    TUNNEL = "tunnel"


class Owed:
    """An answer that is due: the server's to `judged`, or our `answer`; after one that closes nothing follows."""

    __slots__ = ("answer", "closes", "judged", "started")

    def __init__(self, judged: Judged | None, started: int, answer: bytes = b"", closes: bool = False) -> None:
        self.judged = judged
        self.started = started
        self.answer = answer
        self.closes = closes
