"""One HTTP/1 connection as a filter: requests are judged, responses framed, refusals answered in order.

    client ──▶ client_data() ──▶ bytes for the server      (and `answer`: bytes for the client)
    client ◀── server_data() ◀── server                    (refusals follow in their place)

`_owed` is the order of answers: one entry for each request that has not been answered in full, forwarded ones and
refused ones alike. A refusal whose turn has come is sent; one that stands behind a forwarded request waits for it.

Heads repeat, so the filter remembers whole heads with their ruling (in the judge's memo, because the ruling is the
judge's) and response heads with their framing: the steady state of a connection is two dictionary lookups. What is
remembered is the outcome of the strict parse of those very bytes.
"""

from __future__ import annotations

from collections import deque

from parsers.errors import ParseError
from parsers.filters import UNBOUNDED, End, Way
from parsers.http.judging import Denial, Exchange
from parsers.http1.chunked import ChunkedBody
from parsers.http1.heads import HeadBuffer
from parsers.http1.judging import Http1Judge, Http1Shared, JudgedHead
from parsers.http1.plain import plain_key
from parsers.http1.refusal import error_response
from parsers.http1.request import CHUNKED, NO_ANSWER, check_unfinished_request, parse_request_untrusted
from parsers.http1.response import UNTIL_CLOSE, ResponseHead, check_unfinished_response, parse_response_untrusted
from parsers.http1.states import ClientState, Owed, ServerState


class Http1Filter:
    """The filter of one connection (`parsers.filters.Filter`). Set `judge` to another: the next request meets it."""

    __slots__ = (
        "_answers",
        "_body_left",
        "_burst",
        "_chunks",
        "_client",
        "_discard_left",
        "_head",
        "_informational",
        "_is_last",
        "_is_silent",
        "_owed",
        "_passing",
        "_response_chunks",
        "_response_head",
        "_response_left",
        "_server",
        "_shared",
        "_skipped",
        "_tag",
        "answer",
        "end",
        "failure",
        "judge",
        "limit",
    )

    def __init__(self, judge: Http1Judge, shared: Http1Shared, tag: object = None) -> None:
        self.judge = judge
        self.answer = b""
        self.end: End | None = None
        self.failure = ""
        self.limit = ""
        self._shared = shared
        self._tag = tag
        self._answers: list[bytes] = []
        """What `answer` is put together from: once for each read, or large ones would be copied again and again."""
        self._burst = 0
        """Requests that were refused in what was read at once."""
        self._owed: deque[Owed] = deque()
        self._client = ClientState.HEAD
        self._head = HeadBuffer(check_unfinished_request, shared.limits)
        self._skipped = 0
        self._is_last = False
        self._is_silent = False
        self._passing = True
        self._body_left = 0
        self._discard_left = 0
        self._chunks: ChunkedBody | None = None
        self._server = ServerState.HEAD
        self._response_head = HeadBuffer(check_unfinished_response, shared.limits)
        self._response_left = 0
        self._response_chunks: ChunkedBody | None = None
        self._informational = 0

    def __repr__(self) -> str:
        return f"Http1Filter(client {self._client.value}, server {self._server.value}, {len(self._owed)} owed)"

    @property
    def is_idle(self) -> bool:
        """Between messages: nothing begun, nothing owed."""
        return not self._owed and self._client is ClientState.HEAD and not self._head

    @property
    def unfinished_head(self) -> int:
        """A number that names the request head which has begun and is not complete; 0 if there is none."""
        return self._head.serial if self._head else 0

    @property
    def awaits_server_close(self) -> bool:
        """The last request said that it is the last: the server closes behind its answer (RFC 9112 §9.6)."""
        return self._is_last

    @property
    def may_be_silent(self) -> bool:
        return self._server is ServerState.TUNNEL

    # -- from the client -------------------------------------------------------------------------------------------

    def client_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the client → bytes for the server."""
        if self._client is ClientState.HEAD and not self._head and not self._skipped:
            judged = self.judge.memo.get(data) or self._plain(data)
            if judged is not None and len(self._owed) < self._shared.limits.pipelined_requests:
                if judged.is_plain:
                    self._owed.append(Owed(judged, now))
                    return data
                if not judged.ruling.permit:
                    self._burst = 0
                    self._refuse(judged, now)
                    self._put_answers_together()
                    return b""
        out: list[bytes] = []
        self._burst = 0
        try:
            self._feed_client(data, out, now)
        except ParseError as error:
            self._refuse_bytes(error, now)
        self._put_answers_together()
        return out[0] if len(out) == 1 else b"".join(out)

    def _feed_client(self, data: bytes, out: list[bytes], now: int) -> None:
        at = 0
        while at < len(data):
            match self._client:
                case ClientState.HEAD:
                    at = self._feed_request_head(data, at, out, now)
                case ClientState.BODY:
                    end = min(at + self._body_left, len(data))
                    self._body_left -= end - at
                    self._pass_body(data[at:end], out)
                    at = end
                    if self._body_left == 0:
                        self._end_request()
                case ClientState.CHUNKS:
                    assert self._chunks is not None
                    at, piece = self._chunks.feed(data, at)
                    self._pass_body(piece, out)
                    if self._chunks.is_done:
                        self._end_request()
                case ClientState.UPGRADING:
                    raise ParseError("bytes came before the server agreed to the upgrade")
                case ClientState.TUNNEL:
                    out.append(data[at:])
                    return
                case ClientState.ENDED:
                    return

    def _feed_request_head(self, data: bytes, at: int, out: list[bytes], now: int) -> int:
        if not self._head and self._skipped < 2 and (self._skipped or data[at] in b"\r\n"):
            return self._skip_empty_line(data, at)
        raw, at = self._head.take(data, at)
        if raw is None:
            return at
        self._skipped = 0
        if len(self._owed) >= self._shared.limits.pipelined_requests:
            raise ParseError("too many requests wait for their answer", 429, limit="pipelined_requests")
        judged = self.judge.memo.get(raw) or self._plain(raw) or self._judge(raw)
        if judged.ruling.permit:
            out.append(raw if judged.rebuilt is None else judged.rebuilt)
            self._forward(judged, now)
        else:
            self._refuse(judged, now)
        return at

    def _skip_empty_line(self, data: bytes, at: int) -> int:
        """RFC 9112 §2.2: one empty line in front of a request is ignored (and not passed on)."""
        if data[at] != b"\r\n"[self._skipped]:
            raise ParseError("a line does not end in CRLF")
        self._skipped += 1
        return at + 1

    def _plain(self, raw: bytes) -> JudgedHead | None:
        """What is known of requests with this method, path and host, if rules look at nothing else in `raw`.

        A head that differs every time would only drive others from the memo: into that goes what comes twice.
        """
        memo = self.judge.memo
        if memo.plain is None or len(raw) > self._shared.limits.memo_head_bytes:
            return None
        key = plain_key(raw, self._shared.limits)
        judged = memo.plain.get(key) if key is not None else None
        if judged is not None:
            memo.saw(raw, judged)
        return judged

    def _judge(self, raw: bytes) -> JudgedHead:
        limits = self._shared.limits
        head = parse_request_untrusted(raw, limits)
        judged = JudgedHead(head, raw, self.judge.rule(head.facts))
        if len(raw) <= limits.memo_head_bytes:
            self.judge.memo.keep(raw, judged, plain_key(raw, limits))
        return judged

    def _forward(self, judged: JudgedHead, now: int) -> None:
        self._owed.append(Owed(judged, now))
        self._begin_body(judged, passing=True)
        if judged.head.opens_tunnel:
            self._client = ClientState.UPGRADING

    def _refuse(self, judged: JudgedHead, now: int) -> None:
        """Answer in the server's place. A body that may follow is read over, up to a bound."""
        self._burst += 1
        if self._burst > self._shared.limits.pipelined_requests:
            raise ParseError("too many refused requests come at once", 429, limit="pipelined_requests")
        if judged.ruling.denial is not Denial.ANSWER:
            self._refuse_without_words(judged, now)
            return
        head = judged.head
        # With Expect the client may send the body or not (RFC 9110 §10.1.1): only the end of the connection is clear.
        closes = head.close or head.expects_continue or head.length > self._shared.limits.discarded_body_bytes
        self._shared.exchanges.append(Exchange(self._tag, judged, now, now, judged.ruling.status))
        self._answer(Owed(judged, now, judged.refusal(close=closes), End.CLOSE if closes else None))
        if closes:
            self._client = ClientState.ENDED
        else:
            self._begin_body(judged, passing=False)

    def _refuse_without_words(self, judged: JudgedHead, now: int) -> None:
        """The end by reset when its turn comes, or silence for ever: nothing more is read of this connection."""
        self._shared.exchanges.append(Exchange(self._tag, judged, now, now, 0))
        self._client = ClientState.ENDED
        self._is_silent = judged.ruling.denial is Denial.DROP
        self._answer(Owed(judged, now, end=None if self._is_silent else End.ABORT))

    def _begin_body(self, judged: JudgedHead, *, passing: bool) -> None:
        self._is_last = judged.head.close
        self._passing = passing
        length = judged.head.length
        if length == CHUNKED:
            self._client = ClientState.CHUNKS
            self._chunks = ChunkedBody(self._shared.limits, keep_trailers=False)
            self._discard_left = self._shared.limits.discarded_body_bytes
        elif length:
            self._client = ClientState.BODY
            self._body_left = self._discard_left = length
        else:
            self._end_request()

    def _pass_body(self, piece: bytes, out: list[bytes]) -> None:
        if self._passing:
            out.append(piece)
            return
        self._discard_left -= len(piece)
        if self._discard_left < 0:
            self.limit = "discarded_body_bytes"
            self._answer(Owed(None, 0, end=End.CLOSE))
            self._client = ClientState.ENDED

    def _end_request(self) -> None:
        if self._client is not ClientState.ENDED:
            self._client = ClientState.ENDED if self._is_last else ClientState.HEAD

    def _refuse_bytes(self, error: ParseError, now: int) -> None:
        """The client's bytes do not parse: answer behind what is owed, then end. The rest is not looked at.

        In the middle of a body there is nothing to answer to: the server must see a broken request, not a whole one.
        """
        self.failure, self.limit = error.reason, error.limit
        in_body = self._client in (ClientState.BODY, ClientState.CHUNKS) and self._passing
        self._client = ClientState.ENDED
        if in_body:
            self.end = End.ABORT
            return
        answer = error_response(error.status) if error.status != NO_ANSWER else b""
        self._answer(Owed(None, now, answer, End.CLOSE))

    def _answer(self, owed: Owed) -> None:
        """Send an answer of ours, or queue it behind what earlier requests still owe."""
        if self._owed:
            self._owed.append(owed)
            return
        if owed.answer:
            self._answers.append(owed.answer)
        self.end = owed.end

    def _put_answers_together(self) -> None:
        self.answer += b"".join(self._answers)
        self._answers.clear()

    def client_eof(self) -> None:
        """The client will send no more. A request cut off must not reach the server as a whole one."""
        if self._client in (ClientState.BODY, ClientState.CHUNKS) and self._passing:
            self.failure = "the client stopped in the middle of a request"
            self.end = End.ABORT
        elif self._client is not ClientState.TUNNEL:
            self._client = ClientState.ENDED
            if not self._owed:
                self.end = End.CLOSE

    def finish(self, now: int) -> None:
        """The connection is over: record the requests that went unanswered, with status 0.

        The filter lets go of its tag, which may hold the filter: no cycle is left for the collector.
        """
        for owed in self._owed:
            if owed.judged is not None and owed.judged.ruling.permit:
                self._shared.exchanges.append(Exchange(self._tag, owed.judged, owed.started, now, 0))
        self._owed.clear()
        self._tag = None

    # -- from the server -------------------------------------------------------------------------------------------

    def server_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the server → bytes for the client."""
        if self._server is ServerState.BODY and len(data) < self._response_left:
            self._response_left -= len(data)
            return data
        if (
            self._server is ServerState.HEAD
            and len(self._owed) == 1
            and self._client is not ClientState.ENDED
            and not (self._response_head or self._informational)
        ):
            end = data.find(b"\r\n\r\n") + 4
            head = self._shared.response_heads.get(data[:end])
            if head is not None and head.length >= len(data) - end and not head.is_bodiless:
                owed = self._owed[0]
                if owed.judged is not None and owed.judged.is_plain and not owed.judged.is_head:
                    self._shared.exchanges.append(Exchange(self._tag, owed.judged, owed.started, now, head.status))
                    self._response_left = head.length - (len(data) - end)
                    if self._response_left:
                        self._server = ServerState.BODY
                    else:
                        self._owed.popleft()
                    return data
        out: list[bytes] = []
        try:
            self._feed_server(data, out, now)
        except ParseError as error:
            self._fail_server(error, out)
        return out[0] if len(out) == 1 else b"".join(out)

    def _feed_server(self, data: bytes, out: list[bytes], now: int) -> None:
        at = 0
        while at < len(data) and self.end is None:
            match self._server:
                case ServerState.HEAD:
                    at = self._feed_response_head(data, at, out, now)
                case ServerState.BODY:
                    end = min(at + self._response_left, len(data))
                    self._response_left -= end - at
                    out.append(data[at:end])
                    at = end
                    if self._response_left == 0:
                        self._end_response(out)
                case ServerState.CHUNKS:
                    assert self._response_chunks is not None
                    at, piece = self._response_chunks.feed(data, at)
                    out.append(piece)
                    if self._response_chunks.is_done:
                        self._end_response(out)
                case ServerState.UNTIL_CLOSE | ServerState.TUNNEL:
                    out.append(data[at:])
                    return

    def _feed_response_head(self, data: bytes, at: int, out: list[bytes], now: int) -> int:
        if not self._owed:
            raise ParseError("the server sent bytes that no request asked for", 502)
        raw, at = self._response_head.take(data, at)
        if raw is None:
            return at
        head = self._response(raw)
        owed = self._owed[0]
        assert owed.judged is not None, "refusals are sent as soon as their turn comes"
        if head.status == 101:
            self._check_switch(head, owed.judged)
        is_connected = owed.judged.head.connects and 200 <= head.status < 300
        if is_connected and self._client is not ClientState.UPGRADING:
            raise ParseError("the server opened a tunnel for a client that did not wait for it", 502)
        out.append(raw)
        if head.status < 200 and head.status != 101:
            self._informational += 1
            if self._informational > self._shared.limits.informational_responses:
                raise ParseError(
                    "the server sent too many informational responses", 502, limit="informational_responses"
                )
            return at
        self._informational = 0
        self._shared.exchanges.append(Exchange(self._tag, owed.judged, owed.started, now, head.status))
        if head.status == 101 or is_connected:
            self._open_tunnel()
        else:
            self._begin_response(head, owed.judged, out)
        return at

    def _open_tunnel(self) -> None:
        self._owed.popleft()
        self._client = ClientState.TUNNEL
        self._server = ServerState.TUNNEL

    def _check_switch(self, head: ResponseHead, judged: JudgedHead) -> None:
        if self._client is not ClientState.UPGRADING or len(self._owed) != 1:
            raise ParseError("the server switched protocols without being asked", 502)
        if not judged.head.accept or judged.head.accept != head.accept:
            raise ParseError("the server's proof that it understood the WebSocket handshake is wrong", 502)

    def _response(self, raw: bytes) -> ResponseHead:
        limits = self._shared.limits
        known = self._shared.response_heads
        head = known.get(raw)
        if head is None:
            head = parse_response_untrusted(raw, limits)
            if len(raw) <= limits.memo_head_bytes:
                if len(known) >= limits.memo_entries:
                    known.clear()
                known[raw] = head
        return head

    def _begin_response(self, head: ResponseHead, judged: JudgedHead, out: list[bytes]) -> None:
        if self._client is ClientState.UPGRADING and len(self._owed) == 1:
            self._end_request()  # the server stayed with HTTP: so does the client
        length = 0 if judged.is_head or head.is_bodiless else head.length
        if length == CHUNKED:
            self._server = ServerState.CHUNKS
            self._response_chunks = ChunkedBody(self._shared.limits, keep_trailers=True)
        elif length == UNTIL_CLOSE:
            self._server = ServerState.UNTIL_CLOSE
        elif length:
            self._server = ServerState.BODY
            self._response_left = length
        else:
            self._end_response(out)

    def _end_response(self, out: list[bytes]) -> None:
        """An answer is complete: those of ours that waited for it follow."""
        self._server = ServerState.HEAD
        self._owed.popleft()
        while self._owed and (self._owed[0].judged is None or not self._owed[0].judged.ruling.permit):
            owed = self._owed.popleft()
            out.append(owed.answer)
            if owed.end is not None:
                self.end = owed.end
                return
        if not self._owed and self._client is ClientState.ENDED and not self._is_silent:
            self.end = End.CLOSE

    def _fail_server(self, error: ParseError, out: list[bytes]) -> None:
        """The server's bytes do not parse: a 502 if the client has seen none of this answer, else a reset.

        Surplus bytes behind a complete answer end the connection; the client got all it asked for.
        """
        self.failure, self.limit = error.reason, error.limit
        self._client = ClientState.ENDED
        if self._server is not ServerState.HEAD or self._informational:
            self.end = End.ABORT
        else:
            if self._owed:
                out.append(error_response(error.status))
            self.end = End.CLOSE

    # -- what nobody reads -------------------------------------------------------------------------------------------

    def unread(self, way: Way) -> int:
        """The rest of a body, or of a chunk of it; all that passes in a tunnel, or until the server closes."""
        if way is Way.FROM_CLIENT:
            match self._client:
                case ClientState.BODY if self._passing:
                    return self._body_left
                case ClientState.CHUNKS if self._passing and self._chunks is not None:
                    return self._chunks.unread
                case ClientState.TUNNEL:
                    return UNBOUNDED
            return 0
        match self._server:
            case ServerState.BODY:
                return self._response_left
            case ServerState.CHUNKS if self._response_chunks is not None:
                return self._response_chunks.unread
            case ServerState.UNTIL_CLOSE | ServerState.TUNNEL:
                return UNBOUNDED
        return 0

    def passed(self, way: Way, count: int) -> None:
        if way is Way.FROM_CLIENT:
            if self._client is ClientState.BODY:
                self._body_left -= count
            elif self._client is ClientState.CHUNKS and self._chunks is not None:
                self._chunks.passed(count)
        elif self._server is ServerState.BODY:
            self._response_left -= count
        elif self._server is ServerState.CHUNKS and self._response_chunks is not None:
            self._response_chunks.passed(count)

    # -- ends --------------------------------------------------------------------------------------------------------

    def server_unreachable(self, reason: str, now: int) -> None:
        """There is no connection to the server: 503 for the first request that waits for it, then the end."""
        self.failure = reason
        self._client = ClientState.ENDED
        self.end = End.CLOSE
        if not self._owed:
            return
        judged = self._owed.popleft().judged
        assert judged is not None, "refusals are sent as soon as their turn comes"
        self._shared.exchanges.append(Exchange(self._tag, judged, now, now, 503))
        self.answer += error_response(503, is_head=judged.is_head)

    def time_out(self) -> None:
        """The client takes too long over a request head: 408 behind what is owed, then the end."""
        self._refuse_bytes(ParseError("the request head did not arrive in time", 408, limit="header_timeout"), 0)
        self._put_answers_together()

    def drain(self, now: int) -> bool:
        return self.is_idle

    def server_eof(self) -> None:
        """The server will send no more. An answer cut off must not look complete."""
        if self._server in (ServerState.BODY, ServerState.CHUNKS) or self._response_head:
            self.failure = "the server stopped in the middle of a response"
            self.end = End.ABORT
            return
        if self._server is ServerState.UNTIL_CLOSE:
            # The end of the connection is the end of this answer: nothing of ours may follow it.
            self._owed.clear()
        if self._server is not ServerState.TUNNEL:
            self.end = End.CLOSE
