"""The states of a connection's two sides, and the answers that are due."""

from __future__ import annotations

from enum import Enum

from parsers.filters import End
from parsers.http1.judging import JudgedHead


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
    """An answer that is due: the server's to `judged`, or our `answer`, behind which the connection may end."""

    __slots__ = ("answer", "end", "judged", "started")

    def __init__(self, judged: JudgedHead | None, started: int, answer: bytes = b"", end: End | None = None) -> None:
        self.judged = judged
        self.started = started
        self.answer = answer
        self.end = end
