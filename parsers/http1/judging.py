"""What HTTP/1 filters remember: judged heads, in the memo of their judge, and response heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from parsers.http.judging import Exchange, Judge, Judged, Ruling
from parsers.http1.edits import edited_head
from parsers.http1.plain import PlainKey
from parsers.http1.refusal import refusal_response
from parsers.http1.request import RequestHead
from parsers.http1.response import ResponseHead
from parsers.limits import Http1Limits


class JudgedHead(Judged):
    """A request head with its ruling: what the memo holds. `rebuilt`: what goes on instead of the head as it came."""

    __slots__ = ("_refusals", "head", "is_head", "is_plain", "rebuilt")

    def __init__(self, head: RequestHead, raw: bytes, ruling: Ruling) -> None:
        super().__init__(head.facts, head.version, ruling)
        self.head = head
        self.rebuilt = head.forward
        if ruling.edits:
            self.rebuilt = edited_head(raw if head.forward is None else head.forward, ruling.edits)
        self.is_head = head.facts.method == b"HEAD"
        self._refusals: dict[bool, bytes] = {}
        self.is_plain = (
            ruling.permit
            and self.rebuilt is None
            and head.length == 0
            and not (head.close or head.expects_continue or head.opens_tunnel)
        )
        """Goes on as it came, has no body, and another request may follow."""

    def refusal(self, *, close: bool) -> bytes:
        """The answer to this request if its ruling is no."""
        answer = self._refusals.get(close)
        if answer is None:
            ruling = self.ruling
            answer = refusal_response(ruling.status, ruling.body, is_head=self.is_head, close=close, told=ruling.told)
            self._refusals[close] = answer
        return answer


MEMO_ENTRIES = 1024
"""Heads, and requests of plain heads, that are remembered with their ruling, per judge."""


class HeadMemo(dict[bytes, JudgedHead]):
    """Head → judged, for one state of the policy. `plain` is the same by method, path and host.

    The latter is None if rules look at headers: then heads that differ in them are not alike.
    """

    __slots__ = ("_once", "plain")

    def __init__(self, *, looks_at_headers: bool) -> None:
        super().__init__()
        self.plain: dict[PlainKey, JudgedHead] | None = None if looks_at_headers else {}
        self._once: set[int] = set()

    def keep(self, head: bytes, judged: JudgedHead, key: PlainKey | None) -> None:
        if key is not None and self.plain is not None:
            if len(self.plain) >= MEMO_ENTRIES:
                self.plain.clear()
            self.plain[key] = judged
        if len(self) >= MEMO_ENTRIES:
            self.clear()
        self[head] = judged

    def saw(self, head: bytes, judged: JudgedHead) -> None:
        """A plain head that is not in the memo: the second time it is worth a place."""
        number = hash(head)
        if number in self._once:
            self._once.discard(number)
            self.keep(head, judged, None)
        else:
            if len(self._once) >= MEMO_ENTRIES:
                self._once.clear()
            self._once.add(number)


class Http1Judge(Judge, Protocol):
    """Remembers what it has ruled on."""

    @property
    def memo(self) -> HeadMemo: ...


@dataclass(slots=True)
class Http1Shared:
    """What all filters of a worker share: limits, known response heads, and the list where exchanges go."""

    limits: Http1Limits = field(default_factory=Http1Limits)
    exchanges: list[Exchange] = field(default_factory=list)
    response_heads: dict[bytes, ResponseHead] = field(default_factory=dict)
