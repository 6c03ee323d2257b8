"""From the server to the client: answers in the order of their requests, ours among them.

A server answers the requests of a connection strictly in order, so the request that an answer belongs to is the first
that waits; its correlation id must say so, too. Answers pass as they come. Those that have to be filtered are held
until they are whole, and refusals of ours wait for their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from parsers.errors import ParseError
from parsers.kafka.judging import KafkaExchange
from parsers.kafka.wire import Reader, framed
from parsers.limits import KafkaLimits

_HEAD = Struct(">ii")
_SIZE = 4

REPLY_BYTES = 512
"""Of an answer, behind its header: what is kept to tell its error code from."""

Change = Callable[[bytes], bytes | None]
"""The body of a whole answer → what the client gets instead; None: just that."""


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits for its answer.

    `flexible`: the header of the answer has tagged fields. With `answer` it is ours: a whole frame, to be sent not
    before `due` (ns). `is_ours`: the request itself is ours, and the client must not see its answer.
    """

    correlation_id: int
    exchanges: tuple[KafkaExchange, ...] = ()
    flexible: bool = False
    change: Change | None = None
    answer: bytes = b""
    due: int = 0
    is_ours: bool = False


class Answers:
    """Of one connection. `wake_at`: when the next refusal is due (ns); 0: nothing waits for its time alone."""

    def __init__(self, told: list[KafkaExchange], limits: KafkaLimits) -> None:
        self.queue: deque[Pending] = deque()
        self.waiting_bytes = 0
        self.server_waits = False
        self._told = told
        self._limits = limits
        self._passing = 0
        self._whole: bytearray | None = None
        self._wanted = 0
        self._rest = b""

    @property
    def wake_at(self) -> int:
        head = self.queue[0] if self.queue else None
        return head.due if head is not None and head.answer and not self._is_amid else 0

    @property
    def _is_amid(self) -> bool:
        return bool(self._passing) or self._whole is not None

    @property
    def is_idle(self) -> bool:
        return not self.queue and not self._is_amid

    @property
    def is_full(self) -> bool:
        limits = self._limits
        return len(self.queue) >= limits.pending_requests or self.waiting_bytes >= limits.waiting_answer_bytes

    @property
    def unread(self) -> int:
        """Bytes that are left of the answer that passes as it comes."""
        return self._passing

    def passed(self, count: int) -> None:
        """Fewer than `unread` bytes have gone on without `server_data`."""
        self._passing -= count

    def expect(self, pending: Pending) -> None:
        self.queue.append(pending)
        self.waiting_bytes += len(pending.answer)

    def tell_unanswered(self, exchange: KafkaExchange) -> None:
        """A request that nobody answers."""
        self._told.append(exchange)

    def due(self, now: int) -> bytes:
        """Refusals whose turn it is, and what of the server waited behind them."""
        out: list[bytes] = []
        self._ours(now, out)
        if self._rest and not self._must_wait(now):
            rest, self._rest = self._rest, b""
            out.append(self.server_data(rest, now))
        return b"".join(out)

    def _must_wait(self, now: int) -> bool:
        head = self.queue[0] if self.queue else None
        return head is not None and bool(head.answer) and not self._is_amid and head.due > now

    def _ours(self, now: int, out: list[bytes]) -> None:
        while self.queue and not self._is_amid:
            head = self.queue[0]
            if not head.answer or head.due > now:
                return
            self.queue.popleft()
            self.waiting_bytes -= len(head.answer)
            out.append(head.answer)
            self._tell(head, now, b"")

    def server_data(self, data: bytes, now: int) -> bytes:
        """Bytes from the server → bytes for the client. Raises ParseError if they are not answers, in order."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        out: list[bytes] = []
        if self.queue and self.queue[0].answer:
            self._ours(now, out)  # one of ours may be due that nobody has been woken for yet
        position = start = 0
        end = len(data)
        self.server_waits = False
        while position < end:
            if self._passing:
                count = min(self._passing, end - position)
                self._passing -= count
                position += count
                if not self._passing and self.queue and self.queue[0].answer:
                    out.append(data[start:position])
                    start = position
                    self._ours(now, out)
                continue
            if self._whole is not None:
                position = start = self._collect(data, position, now, out)
                continue
            if self._must_wait(now) or end - position < _HEAD.size:
                self.server_waits = end - position >= _HEAD.size
                self._rest = data[position:]
                break
            begun = self._begin(data, position, now)
            if begun is not None:
                if start < position:
                    out.append(data[start:position])
                start = position
        if start < position:
            out.append(data[start:position] if start or position < end else data)
        return out[0] if len(out) == 1 else b"".join(out)

    def _begin(self, data: bytes, position: int, now: int) -> Pending | None:
        """The beginning of an answer. Returns whose it is if it has to be whole before it can go on."""
        size, correlation_id = _HEAD.unpack_from(data, position)
        if size < _SIZE:
            raise ParseError("the server's answer is shorter than its header")
        if size > self._limits.answer_bytes:
            raise ParseError("the server's answer is too large", limit="answer_bytes")
        if not self.queue:
            raise ParseError("the server answers a request that nobody has made")
        pending = self.queue[0]
        if pending.correlation_id != correlation_id:
            raise ParseError("the server's answer does not belong to the request whose turn it is")
        if pending.change is None:
            self.queue.popleft()
            self._passing = _SIZE + size
            if pending.exchanges:
                body = position + _HEAD.size
                if pending.flexible:
                    body += 1  # a reply with tagged fields in its header is not looked into
                reply = data[body : min(body + REPLY_BYTES, position + _SIZE + size)]
                self._tell(pending, now, b"" if pending.flexible and data[body - 1 : body] != b"\0" else reply)
            return None
        if size > self._limits.buffered_bytes:
            raise ParseError("the server's answer is too large to be filtered", limit="buffered_bytes")
        self._whole = bytearray()
        self._wanted = _SIZE + size
        return pending

    def _collect(self, data: bytes, position: int, now: int, out: list[bytes]) -> int:
        assert self._whole is not None
        stop = min(len(data), position + self._wanted - len(self._whole))
        self._whole += data[position:stop]
        if len(self._whole) == self._wanted:
            whole, self._whole = bytes(self._whole), None
            pending = self.queue.popleft()
            out.append(self._changed(pending, whole, now))
            self._ours(now, out)
        return stop

    def _changed(self, pending: Pending, whole: bytes, now: int) -> bytes:
        assert pending.change is not None
        reader = Reader(whole, _HEAD.size)
        if pending.flexible:
            reader.skip_tags()
        body = whole[reader.position :]
        self._tell(pending, now, body[:REPLY_BYTES])
        changed = pending.change(body)
        if pending.is_ours:
            return b""
        return whole if changed is None else framed(whole[_SIZE : reader.position], changed)

    def _tell(self, pending: Pending, now: int, reply: bytes) -> None:
        for exchange in pending.exchanges:
            exchange.answered = now
            if not exchange.error:
                exchange.reply = reply
            self._told.append(exchange)

    def finish(self) -> None:
        """The connection is over: what waits for an answer gets none."""
        for pending in self.queue:
            self._told.extend(pending.exchanges)
        self.queue.clear()
        self._rest = b""
