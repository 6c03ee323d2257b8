"""What the two directions of a connection share: its streams, what we say to the client, and the flow-control credit
that pays for it.

Flow control stays between the two ends, so what we put in or leave out must not change their accounts. DATA of the
client that we keep from the server is given back to the client at once. DATA of ours takes credit of the client that
the server believes to be its own: so a little of each large WINDOW_UPDATE is kept back, and a refusal has a body only
as long as that lasts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from parsers.errors import ParseError
from parsers.facts import HttpRequest
from parsers.http.judging import Denial, Exchange, Judge, Judged, Ruling
from parsers.http2 import frames, refusal
from parsers.http2.frames import ErrorCode
from parsers.http2.hpack import MAX_TABLE
from parsers.http2.judged import JudgedBlock, RefusedRequest
from parsers.http2.streams import Ended, Stream, Streams
from parsers.limits import Http2Limits

INITIAL_WINDOW = 65535


class Http2Judge(Judge, Protocol):
    """Also rules on requests that no rule may see, because they are not in the one form that is judged."""

    def refuse(self, request: HttpRequest, error: ParseError) -> Ruling: ...


class Complaint:
    """One stream that was reset for what its client did. `limit`: the bound, if it was one."""

    __slots__ = ("limit", "reason", "tag", "time")

    def __init__(self, tag: object, time: int, reason: str, limit: str) -> None:
        self.tag = tag
        self.time = time
        self.reason = reason
        self.limit = limit


@dataclass(slots=True)
class Http2Shared:
    """What all filters of a worker share: limits, and the lists where exchanges and complaints go."""

    limits: Http2Limits = field(default_factory=Http2Limits)
    exchanges: list[Exchange] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)


class Conversation:
    """The state of one connection."""

    __slots__ = (
        "client_tables",
        "client_window",
        "credit",
        "judge",
        "owed_credit",
        "server_spoke",
        "server_tables",
        "shared",
        "streams",
        "tag",
        "waiting",
    )

    def __init__(self, judge: Http2Judge, shared: Http2Shared, tag: object) -> None:
        self.judge = judge
        self.shared = shared
        self.tag = tag
        self.streams = Streams(shared.limits.ended_streams)
        self.waiting: list[bytes] = []
        """Bytes for the client. The first must be the server's SETTINGS: until they come, ours wait."""
        self.server_spoke = False
        self.credit = 0
        """Bytes that we may send the client in DATA."""
        self.owed_credit = 0
        """Bytes of the client's DATA that go no further."""
        self.client_window = INITIAL_WINDOW
        self.client_tables: deque[int] = deque()
        self.server_tables: deque[int] = deque()
        """Table sizes in SETTINGS that have not been acknowledged yet, in order."""

    def say(self, data: bytes) -> None:
        self.waiting.append(data)

    def take_waiting(self) -> bytes:
        if self.owed_credit:
            self.waiting.append(frames.window_update(0, self.owed_credit))
            self.owed_credit = 0
        said = b"".join(self.waiting)
        self.waiting.clear()
        return said

    def keep_credit(self, increment: int) -> int:
        """How much of a connection's WINDOW_UPDATE stays with us: never more than half of it."""
        kept = min(self.shared.limits.body_credit - self.credit, increment >> 1)
        self.credit += kept
        return kept

    # -- streams ---------------------------------------------------------------------------------------------------

    def record(self, judged: Judged, started: int, now: int, status: int) -> None:
        self.shared.exchanges.append(Exchange(self.tag, judged, started, now, status))

    def refuse(self, number: int, judged: JudgedBlock | RefusedRequest, now: int, *, client_done: bool) -> None:
        """Answer in the server's place, by what the ruling wants clients to get."""
        ruling = judged.ruling
        if ruling.denial is Denial.DROP:
            self.record(judged, now, now, 0)
            self.streams.live[number] = Stream(judged, now, client_done=client_done, is_kept=True)
            return
        self.streams.end(number, Ended.KEPT)
        if ruling.denial is Denial.RESET:
            self.record(judged, now, now, 0)
            self.say(frames.rst_stream(number, ErrorCode.CANCEL))
            return
        self.record(judged, now, now, ruling.status)
        if judged.is_grpc:
            self.say(refusal.grpc_refusal(number, ruling))
        else:
            is_head = judged.facts.method == b"HEAD"
            credit = min(self.credit, self.client_window, frames.MAX_PAYLOAD)
            answer, taken = refusal.http_refusal(number, ruling, is_head=is_head, credit=credit)
            self.credit -= taken
            self.say(answer)
        if not client_done:
            # RFC 9113 §8.1: the answer is complete, the rest of the request is not wanted.
            self.say(frames.rst_stream(number, ErrorCode.NO_ERROR))

    def reset(self, number: int, code: ErrorCode, reason: str, now: int, limit: str = "") -> bytes:
        """End one stream for what its client did; what the server must be told of it."""
        self.say(frames.rst_stream(number, code))
        self.shared.complaints.append(Complaint(self.tag, now, reason, limit))
        stream = self.streams.live.get(number)
        if stream is None or stream.is_kept:
            self.streams.end(number, Ended.KEPT)
            return b""
        if not stream.is_answered:
            self.record(stream.judged, stream.started, now, 0)
        self.streams.end(number, Ended.RESET)
        return frames.rst_stream(number, ErrorCode.CANCEL)

    def unanswered(self) -> list[tuple[int, Stream]]:
        """Streams that wait for the server's answer."""
        return [item for item in self.streams.live.items() if not item[1].is_kept and not item[1].is_answered]

    def remember_table(self, tables: deque[int], size: int | None) -> None:
        """A SETTINGS frame is on its way; `size` None: it says nothing of tables."""
        tables.append(MAX_TABLE + 1 if size is None else size)


def acknowledged(tables: deque[int], limit: int) -> int:
    """The limit of a table after the next acknowledgement, which was `limit` before."""
    size = tables.popleft() if tables else MAX_TABLE + 1
    return limit if size > MAX_TABLE else size
