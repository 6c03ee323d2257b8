"""One HTTP/2 connection as a filter: what both directions have in common, and how it ends."""

from __future__ import annotations

from parsers.errors import ParseError
from parsers.filters import End, ReadsAll
from parsers.http2 import frames, refusal
from parsers.http2.budget import Budget
from parsers.http2.conversation import Conversation, Http2Judge, Http2Shared
from parsers.http2.frames import PREFACE, ConnectionFault, ErrorCode
from parsers.http2.requests import Requests
from parsers.http2.responses import Responses

GRACE_NS = 1_000_000_000
"""Between the announcement that we are about to go and the end of new streams (RFC 9113 §6.8)."""


class Http2Filter(ReadsAll):
    """The filter of one connection (`parsers.filters.Filter`). The first bytes it is given are the preface."""

    __slots__ = (
        "_conversation",
        "_draining_since",
        "_is_over",
        "_preface_left",
        "_requests",
        "_responses",
        "answer",
        "end",
        "failure",
        "limit",
    )

    def __init__(self, judge: Http2Judge, shared: Http2Shared, tag: object = None) -> None:
        self.answer = b""
        self.end: End | None = None
        self.failure = ""
        self.limit = ""
        budget = Budget(shared.limits)
        self._conversation = Conversation(judge, shared, tag)
        self._requests = Requests(self._conversation, budget)
        self._responses = Responses(self._conversation, budget)
        self._preface_left = len(PREFACE)
        self._draining_since = 0
        self._is_over = False

    def __repr__(self) -> str:
        return f"Http2Filter({len(self._conversation.streams.live)} streams, last {self._conversation.streams.last})"

    @property
    def judge(self) -> Http2Judge:
        return self._conversation.judge

    @judge.setter
    def judge(self, judge: Http2Judge) -> None:
        """New streams meet another judge."""
        self._conversation.judge = judge

    @property
    def is_idle(self) -> bool:
        return not self._conversation.streams.live and not self._requests.is_unfinished

    @property
    def may_be_silent(self) -> bool:
        return False

    @property
    def unfinished_head(self) -> int:
        return self._requests.serial + 1 if self._requests.is_unfinished else 0

    @property
    def awaits_server_close(self) -> bool:
        return False

    # -- bytes -----------------------------------------------------------------------------------------------------

    def client_data(self, data: bytes, now: int) -> bytes:
        if self._is_over:
            return b""
        opening = b""
        if self._preface_left:
            opening, data = data[: self._preface_left], data[self._preface_left :]
            if opening != PREFACE[len(PREFACE) - self._preface_left :][: len(opening)]:
                self._fail(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with the preface of HTTP/2")
                return b""
            self._preface_left -= len(opening)
        try:
            out = self._requests.feed(data, now)
        except ConnectionFault as fault:
            out = self._requests.passed
            self._fail(fault.code, fault.reason, fault.limit)
        if self._conversation.waiting or self._conversation.owed_credit:
            self._say()
        return opening + out if opening else out

    def server_data(self, data: bytes, now: int) -> bytes:
        if self._is_over:
            return b""
        try:
            return self._responses.feed(data, now)
        except ParseError as error:
            self._fail_server(error, now)
            return self._responses.passed

    def _say(self) -> None:
        """What we have to say goes behind the server's first words; only the end does not wait for them."""
        conversation = self._conversation
        if conversation.server_spoke or self.end is not None:
            self.answer += conversation.take_waiting()
        elif sum(map(len, conversation.waiting)) > conversation.shared.limits.waiting_answer_bytes:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many answers wait for the server", "waiting_answer_bytes")

    # -- ends ------------------------------------------------------------------------------------------------------

    def _fail(self, code: ErrorCode, reason: str, limit: str = "") -> None:
        """The client's bytes end the connection. The reason is for the flow record, not for whoever sent them."""
        self.failure, self.limit = reason, limit
        self._close(code)

    def _close(self, code: ErrorCode) -> None:
        conversation = self._conversation
        self._is_over = True
        self.end = End.CLOSE
        if not conversation.server_spoke:
            conversation.server_spoke = True
            conversation.waiting.insert(0, frames.frame(frames.SETTINGS, 0, 0))
        conversation.owed_credit = 0
        conversation.say(frames.goaway(conversation.streams.last, code))
        self.answer += conversation.take_waiting()

    def _fail_server(self, error: ParseError, now: int) -> None:
        """Nothing more of the server can be passed on: its header blocks and the client's table belong together."""
        self.failure, self.limit = error.reason, error.limit
        self._answer_all(502, now)
        self._close(ErrorCode.INTERNAL_ERROR)

    def server_unreachable(self, reason: str, now: int) -> None:
        self.failure = reason
        self._answer_all(503, now)
        self._close(ErrorCode.NO_ERROR)

    def _answer_all(self, status: int, now: int) -> None:
        """Every request that waits for the server gets the answer that there will be none."""
        conversation = self._conversation
        ruling = refusal.unreachable(status)
        for number, stream in conversation.unanswered():
            conversation.record(stream.judged, stream.started, now, status)
            if stream.judged.is_grpc:
                conversation.say(refusal.grpc_refusal(number, ruling))
            else:
                conversation.say(refusal.http_refusal(number, ruling, is_head=False, credit=0)[0])
            stream.is_answered = True

    def time_out(self) -> None:
        self._fail(ErrorCode.ENHANCE_YOUR_CALM, "a header block did not arrive in time", "header_timeout")

    def client_eof(self) -> None:
        if not self._conversation.streams.live or self._requests.is_unfinished:
            self.end = End.CLOSE

    def server_eof(self) -> None:
        """Streams that have no end yet are cut off, and in HTTP/2 their client can tell."""
        if self._conversation.streams.live and not self._is_over:
            self.failure = "the server ended the connection with streams open"
        self.end = End.CLOSE

    def drain(self, now: int) -> bool:
        """Two GOAWAYs: one that announces, and a second behind which no new stream is taken on."""
        conversation, requests = self._conversation, self._requests
        if self.is_idle or not conversation.server_spoke:
            self._close(ErrorCode.NO_ERROR)
            return True
        if not self._draining_since:
            self._draining_since = now
            self.answer += frames.goaway(frames.MAX_STREAM, ErrorCode.NO_ERROR)
        elif now - self._draining_since > GRACE_NS and requests.refuses_above == frames.MAX_STREAM:
            requests.refuses_above = conversation.streams.last
            self.answer += frames.goaway(conversation.streams.last, ErrorCode.NO_ERROR)
        return False

    def finish(self, now: int) -> None:
        conversation = self._conversation
        for _, stream in conversation.unanswered():
            conversation.record(stream.judged, stream.started, now, 0)
        conversation.streams.live.clear()
        conversation.tag = None
